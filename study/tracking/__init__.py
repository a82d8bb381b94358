"""MLflow, a view of the ledger."""
