"""The ledger of replicates in Parquet, its views in MLflow, and the store below them."""
