"""The ledger, the only truth of a study: its tables, files, locks and what may be removed."""
