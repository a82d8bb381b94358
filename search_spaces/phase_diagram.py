"""Where in the plane of augmentation strength and batch does fusion know the classes?

Command: python -m study.sweep phase_diagram
Size:    12 to 150 replicates that are judged without training
Cost:    half a minute on two cores with 24 replicates (2026-11-27)

Both limits at once. On the exact data model ``fusion``: two blocks with identity weights and no residual on simplex
centres; the boundary is P = 1/2 in the plane of sigma and the judged batch. ``learning``: one block trained for 48
steps; the boundary is half of the rise of P over the training batch, at every sigma. ``images``: a trained encoder on
digits or Fashion-MNIST, learning rate tuned in every cell; the boundary is P = 1/4.
"""

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Budget, SearchSpace, Variant
from study.recipes.contrastive.config import (
    BatchConfig,
    ClustersConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    ModelConfig,
    OptimizerConfig,
    ReplicateConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE

SPACE = SearchSpace(
    name="phase_diagram",
    question="Where in the plane of augmentation strength and batch does fusion know the classes?",
    recipe=CONTRASTIVE,
    config=ReplicateConfig(
        data=DataConfig(name="clusters", clusters=ClustersConfig(num_sources=1_000, basis="random")),
        batch=BatchConfig(train=60, eval=60),
        model=ModelConfig(encoder="none", init="identity"),
        optimizer=OptimizerConfig(learning_rate=0.03),
        horizon=HorizonConfig(unit="steps", length=0),
        evaluation=EvaluationConfig(num_batches=20, num_points=1, knn_bank=0),
    ),
    scientific=(
        Axis(
            path="data.strength",
            values=(1.0, 1.9, 3.5),
            steps_per_octave=16,
        ),
        Axis(path="batch.eval", values=(15, 250), steps_per_octave=3, multiple=5),
    ),
    nuisance=(),
    criterion=Criterion(metric="p", level=0.5, floor="zero"),
    budget=Budget(replicates=2, precision=0.06, max_replicates=150, round_replicates=12),
    flank="falling",
    plane=True,
    tuning={"evaluation.split": "validation"},
    margin_octaves=0.15,
    variants={
        "fusion": Variant(
            datasets=("clusters",),
            values={"data.clusters.cosine": -0.25, "model.residual": False, "model.num_blocks": 2},
            laws={"clusters": ("state_evolution", "control_bbp_as_mass")},
        ),
        "learning": Variant(
            datasets=("clusters",),
            values={"data.clusters.dim": 128, "model.num_blocks": 1, "horizon.length": 48},
            scientific=(
                Axis(
                    path="batch.train",
                    values=(4, 20, 96),
                    steps_per_octave=4,
                    multiple=1,
                ),
                Axis(
                    path="data.strength",
                    values=(2.5, 5.0),
                    steps_per_octave=4,
                ),
            ),
            flank="rising",
            budget=Budget(replicates=3, precision=0.25, max_replicates=150, round_replicates=12),
            criterion=Criterion(metric="p", fraction=0.5),
            laws={"clusters": ("n2t",)},
            margin_octaves=0.5,
        ),
        "images": Variant(
            datasets=("digits", "fashion_mnist"),
            values={
                "model.encoder": "small",
                "model.init": "default",
                "horizon.unit": "examples",
                "horizon.length": 20_000,
                "batch.eval": 120,
            },
            scientific=(
                Axis(path="data.strength", values=(0.1, 0.4, 1.5), steps_per_octave=4),
                Axis(
                    path="batch.train",
                    values=(8, 256),
                    steps_per_octave=1,
                    multiple=4,
                ),
            ),
            nuisance=(Axis(path="optimizer.learning_rate", values=(1e-4, 3e-4, 1e-3)),),
            criterion=Criterion(metric="p", level=0.25, floor="zero"),
            budget=Budget(tuning_seeds=1, replicates=2, precision=0.3, max_replicates=80, round_replicates=8),
        ),
    },
    profiles={"laptop": {}},
    datasets={"clusters": {}, "digits": {}, "fashion_mnist": {}},
)
