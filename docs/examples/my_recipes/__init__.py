"""Recipes of an example, as they would lie in a package of your own."""
