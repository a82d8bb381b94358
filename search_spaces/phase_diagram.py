"""Where in the plane of augmentation strength and batch does fusion know the classes?

Command: python -m study.sweep phase_diagram
Size:    189 to 189 replicates that are judged without training
Cost:    a minute and a half on two cores, ``learning`` (135 replicates) a minute (2026-11-25)

Both limits at once, on the exact data model. ``fusion``: two blocks with identity weights and no residual on simplex
centres; the boundary is P = 1/2 in the plane of sigma and the judged batch. ``learning``: one block trained for 48
steps; the boundary is half of the rise of P over the training batch, at every sigma.
"""

from study.config import (
    BatchConfig,
    ClustersConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    ModelConfig,
    OptimizerConfig,
    ReplicateConfig,
)
from study.space import Axis, Budget, Criterion, SearchSpace, Variant

SPACE = SearchSpace(
    name="phase_diagram",
    question="Where in the plane of augmentation strength and batch does fusion know the classes?",
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
            values=(1.0, 1.25, 1.5, 1.75, 2.0, 2.3, 2.6, 3.0, 3.5),
            label="augmentation strength (sigma)",
        ),
        Axis(path="batch.eval", values=(15, 25, 40, 65, 100, 160, 250), label="batch (rows)"),
    ),
    nuisance=(),
    criterion=Criterion(metric="p", level=0.5, floor="zero"),
    budget=Budget(replicates=3),
    margin_octaves=0.15,
    variants={
        "fusion": Variant(
            values={"data.clusters.cosine": -0.25, "model.residual": False, "model.num_blocks": 2},
            laws={"clusters": ("state_evolution", "control_bbp_as_mass")},
        ),
        "learning": Variant(
            values={"data.clusters.dim": 128, "model.num_blocks": 1, "horizon.length": 48},
            scientific=(
                Axis(
                    path="batch.train",
                    values=(4, 6, 9, 13, 19, 28, 42, 64, 96),
                    label="training batch (rows)",
                ),
                Axis(path="data.strength", values=(2.5, 3.0, 3.5, 4.2, 5.0), label="augmentation strength (sigma)"),
            ),
            criterion=Criterion(metric="p", fraction=0.5),
            laws={"clusters": ("n2t",)},
            margin_octaves=0.5,
        ),
    },
    profiles={"laptop": {}},
    datasets={"clusters": {}},
)
