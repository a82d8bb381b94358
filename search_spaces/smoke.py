"""Does everything work here? The smallest complete study: seconds of training on scikit-learn's digits.

Command: python -m study.sweep smoke
Size:    33 to 39 replicates of 80 steps
Cost:    half a minute on two cores, Ray's start included (2026-11-28)

Two blocks on the pixels themselves, so that eighty steps are enough to learn: P rises through its half between batches
of 4 and 16 and has its ceiling at 64. ``supervised`` is the simplest other trainer, a linear classifier of the pixels,
which learns in ten.
"""

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Budget, SearchSpace, Variant
from study.recipes.contrastive.config import (
    BatchConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    ModelConfig,
    ReplicateConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE

SPACE = SearchSpace(
    name="smoke",
    question="Does everything work here? (a tiny batch limit on digits; its answer means nothing)",
    recipe=CONTRASTIVE,
    config=ReplicateConfig(
        data=DataConfig(name="digits"),
        batch=BatchConfig(eval=40),
        model=ModelConfig(encoder="none", init="identity"),
        horizon=HorizonConfig(unit="steps", length=80),
        evaluation=EvaluationConfig(num_batches=4, num_points=2, knn_bank=200),
    ),
    scientific=(Axis(path="batch.train", values=(4, 16, 64)),),
    nuisance=(Axis(path="optimizer.learning_rate", values=(1e-3, 3e-3, 1e-2)),),
    criterion=Criterion(metric="p", fraction=0.5),
    budget=Budget(tuning_seeds=2, replicates=5),
    tuning={"evaluation.split": "validation", "evaluation.knn_bank": 0, "evaluation.num_points": 1},
    variants={
        "learning": Variant(),
        "supervised": Variant(
            values={"trainer": "supervised", "horizon.length": 10},
            nuisance=(Axis(path="optimizer.learning_rate", values=(3e-3, 1e-2, 3e-2)),),
            criterion=Criterion(metric="accuracy", fraction=0.5, floor="chance"),
        ),
    },
    profiles={"laptop": {}},
    datasets={"digits": {}},
)
