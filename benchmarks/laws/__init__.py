"""Every law against fresh Monte Carlo: ``python -m benchmarks.laws`` writes docs/theory-tables.md."""
