"""Losses as pure functions of these rows against all rows."""
