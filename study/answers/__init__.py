"""What the ledger says: fits, laws and verdicts, the printed answer and its figure. Never imports torch or Ray."""
