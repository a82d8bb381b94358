"""What can be run with one seed. The platform reaches a recipe by its address alone."""
