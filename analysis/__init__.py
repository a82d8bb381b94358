"""What the ledger says: frames, figures and the printed answer. Reads nothing else and never imports torch or Ray."""
