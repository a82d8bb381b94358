"""How small may the batch of TransFusion be before it stops learning the classes?

Command: python -m study.sweep batch_limit
Size:    54 to 248 replicates of 20,000 training images
Cost:    6 minutes 20 seconds on two cores with 97 replicates (2026-11-27)

The number of training images is fixed, so a small batch takes more steps. Six batches from 4 to 512 come first, then
those between them that narrow the limit most. The learning rate moves the limit and is tuned afresh at every batch, on
other seeds and on the validation split. All replicates are judged on test batches of 12 rows per class, whatever they
trained with. ``horizons`` asks the same at 10,000 training images beside the 20,000.

Four variants put a law of the batch on trial on ``clusters``, one recipe per setting: ``fusion`` (the batch that two
blocks with identity weights fuse over), ``learning_fixed`` (the training batch at a fixed number of steps of the
optimiser that the law was verified with), ``coverage`` (the training batch that holds partners, at a fixed number of
examples) and ``source`` (the largest batch in which views of one source still find each other).
"""

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Budget, SearchSpace, Series, Variant
from study.designs.values import Values
from study.recipes.contrastive.config import EvaluationConfig, HorizonConfig, ReplicateConfig
from study.recipes.contrastive.recipe import CONTRASTIVE

ON_CLUSTERS: Values = {
    "data.clusters.num_sources": 1_000,
    "data.clusters.basis": "random",
    "model.encoder": "none",
    "model.init": "identity",
    "evaluation.knn_bank": 0,
    "evaluation.num_points": 1,
}
# Runs of milliseconds: far below the margin of half an octave.
FINE = Budget(replicates=1, precision=0.15, max_replicates=60)

SPACE = SearchSpace(
    name="batch_limit",
    question="How small may the batch of TransFusion be before it stops learning the classes?",
    recipe=CONTRASTIVE,
    config=ReplicateConfig(
        horizon=HorizonConfig(unit="examples", length=20_000),
        evaluation=EvaluationConfig(split="test", knn_bank=5_000),
    ),
    scientific=(
        Axis(
            path="batch.train",
            values=(4, 12, 32, 80, 200, 512),
            steps_per_octave=4,
            multiple=2,
        ),
    ),
    nuisance=(Axis(path="optimizer.learning_rate", values=(3e-5, 1e-4, 3e-4)),),
    criterion=Criterion(metric="p", fraction=0.5),
    budget=Budget(replicates=3, precision=0.5, max_replicates=40, round_replicates=6),
    tuning={"evaluation.split": "validation", "evaluation.knn_bank": 0, "evaluation.num_points": 1},
    margin_octaves=0.5,
    laws={"clusters": ("n2t", "n2t_examples")},
    variants={
        "learning": Variant(),
        "fixed_steps": Variant(values={"horizon.unit": "steps", "horizon.length": 300}),
        "horizons": Variant(
            series=tuple(Series(name=f"S={length}", values={"horizon.length": length}) for length in (10_000, 20_000))
        ),
        "fusion": Variant(
            datasets=("clusters",),
            values={
                **ON_CLUSTERS,
                "data.clusters.cosine": -0.25,
                "model.residual": False,
                "horizon.length": 0,
            },
            scientific=(
                Axis(
                    path="batch.eval",
                    values=(10, 20, 35, 65, 115, 200),
                    steps_per_octave=8,
                    multiple=5,
                ),
            ),
            nuisance=(),
            budget=FINE,
            criterion=Criterion(metric="p", level=0.5, floor="zero"),
            laws={"clusters": ("state_evolution_batch",)},
            series=tuple(
                Series(name=f"sigma={sigma:g}", values={"data.strength": sigma}) for sigma in (1.85, 2.1, 2.4)
            ),
        ),
        "learning_fixed": Variant(
            datasets=("clusters",),
            values={
                **ON_CLUSTERS,
                "data.clusters.dim": 128,
                "data.strength": 3.54,
                "model.num_blocks": 1,
                "optimizer.learning_rate": 0.03,
                "horizon.unit": "steps",
            },
            scientific=(
                Axis(
                    path="batch.train",
                    values=(4, 8, 17, 34, 70, 144),
                    steps_per_octave=8,
                    multiple=1,
                ),
            ),
            nuisance=(),
            budget=FINE,
            laws={"clusters": ("n2t",)},
            series=tuple(Series(name=f"T={steps}", values={"horizon.length": steps}) for steps in (12, 24, 48, 80)),
        ),
        "coverage": Variant(
            datasets=("clusters",),
            values={
                **ON_CLUSTERS,
                "data.clusters.dim": 32,
                "data.strength": 1.5,
                "model.num_blocks": 1,
                "optimizer.learning_rate": 0.03,
            },
            scientific=(
                Axis(
                    path="batch.train",
                    values=(3, 5, 8, 14, 26, 48),
                    steps_per_octave=8,
                    multiple=1,
                ),
            ),
            nuisance=(),
            criterion=Criterion(metric="p", fraction=0.9),
            laws={"clusters": ("coverage",)},
            budget=Budget(replicates=4, max_replicates=80, round_replicates=8),
            series=tuple(Series(name=f"S={length}", values={"horizon.length": length}) for length in (1_500, 6_000)),
        ),
        "source": Variant(
            datasets=("clusters",),
            values={
                **ON_CLUSTERS,
                "data.num_views": 2,
                "data.clusters.num_classes": 2,
                "data.clusters.spread": 4.0,
                "data.strength": 4.12,
                "loss.target": "source",
                "batch.train": 8,
                "model.num_blocks": 1,
                "horizon.length": 0,
            },
            scientific=(
                Axis(
                    path="batch.eval",
                    values=(8, 12, 20, 28, 40, 60),
                    steps_per_octave=8,
                    multiple=4,
                ),
            ),
            nuisance=(),
            budget=FINE,
            criterion=Criterion(metric="source_mass", level=0.5, floor="zero"),
            flank="falling",
            laws={"clusters": ("source_batch",)},
            series=tuple(Series(name=f"d={dim}", values={"data.clusters.dim": dim}) for dim in (64, 128, 256)),
        ),
    },
    profiles={
        "laptop": {},
        # Default initialisation can leave every row of a ResNet dead before the first step (LOG.md): identity does not.
        "cluster": {
            "model.encoder": "resnet18",
            "model.init": "identity",
            "model.embedding_dim": 128,
            "horizon.length": 2_000_000,
        },
    },
    datasets={
        "fashion_mnist": {},
        "digits": {},
        "cifar10": {},
        "cifar100": {"batch.eval": 1_200},
        "clusters": {
            "model.encoder": "none",
            "model.init": "identity",
            "data.strength": 2.0,
            "batch.eval": 60,
            "evaluation.knn_bank": 0,
        },
    },
    # At smaller rates every best one was at the edge of its grid.
    grids={
        "digits": {"optimizer.learning_rate": (3e-4, 1e-3, 3e-3)},
        "clusters": {"optimizer.learning_rate": (1e-3, 3e-3, 1e-2)},
    },
)
