"""Encoders and the fusion head; parameters carry a leading replicate dimension."""
