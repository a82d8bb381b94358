"""Words of ledgers that the code has other names for: what is on disk keeps its name."""

from typing import Any

from study.interface.recipe import Recipe, find_recipe

# Ledgers from before designs named what they run hold replicates of this recipe alone.
FIRST_RECIPE = "study.recipes.contrastive.recipe:CONTRASTIVE"
# What the first variant of every study was called then.
FIRST_VARIANT = "learning"

# The code's name of a thing: its name in designs and rows.
ON_DISK = {
    "series": "recipes (of a design), recipe (of a cell)",
    "method": "trainer",
    "numerics": "numerics_version",
    "recipe": "entry_point",
    "metric.NAME": "NAME, before schema 4",
    "before.NAME": "NAME_before, before schema 4",
}


def recipe_of(entry_point: Any) -> Recipe[Any]:
    """The recipe that a design row names; a cell of a table or a data frame, empty before schema 4."""
    return find_recipe(entry_point if isinstance(entry_point, str) else FIRST_RECIPE)
