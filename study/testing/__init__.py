"""What a recipe of anybody's can be tested with: a contract that every recipe keeps, and the smallest one there is."""
