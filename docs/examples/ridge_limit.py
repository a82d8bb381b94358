"""From how many rows on does ridge regression explain half of what it can?

Command: limit-study run ridge_limit
Size:    at most 60 reported replicates
Cost:    a quarter of a minute on two cores, Ray's start included (2026-11-28)
"""

from my_recipes.ridge import RIDGE, RidgeConfig

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Budget, SearchSpace

SPACE = SearchSpace(
    name="ridge_limit",
    question="From how many rows on does ridge regression explain half of what it can?",
    recipe=RIDGE,
    config=RidgeConfig(),
    scientific=(Axis(path="rows", values=(2, 8, 32, 128), steps_per_octave=4, multiple=1),),
    nuisance=(Axis(path="penalty", values=(0.5, 2.0, 8.0, 32.0)),),
    criterion=Criterion(metric="explained", fraction=0.5),
    budget=Budget(replicates=3, precision=0.3, max_replicates=60),
)
