"""Training loop and trainers."""
