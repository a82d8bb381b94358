"""The seam between the platform and what it runs: everything that is ever asked of a recipe, and nothing else."""
