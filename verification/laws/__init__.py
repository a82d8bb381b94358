"""Every law against fresh Monte Carlo: ``python -m verification.laws`` writes docs/theory-tables.md."""
