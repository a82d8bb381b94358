"""How strong may the augmentation be before TransFusion loses the classes?

Command: python -m study.sweep augmentation_limit
Size:    54 to 264 replicates of 20,000 training images
Cost:    2 minutes on two cores with 54 replicates; on ``clusters`` 3 and a half with 142 (2026-11-27)

On ``clusters`` (``--dataset clusters``) the strength is sigma itself, sought from 0.25 to 8 in each of eleven recipes,
whatever theory predicts: fusion with identity weights, judged without training (one to three blocks, orthonormal and
simplex centres, with and without residual) and trained blocks (Adam at a fixed rate, as the theory was verified). Both
the mass P and S_J are read off the same replicates at one half.

On images the learning rate is tuned at every strength, P falls with the strength of the views that it is judged on,
and the limit is half its fall from the best strength. ``identity`` judges one block on an untrained encoder instead.
"""

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Budget, SearchSpace, Series, Variant
from study.designs.values import Values
from study.recipes.contrastive.config import BatchConfig, EvaluationConfig, HorizonConfig, ReplicateConfig
from study.recipes.contrastive.recipe import CONTRASTIVE

STRENGTHS = Axis(
    path="data.strength",
    values=(0.1, 0.2, 0.4, 0.7, 1.0, 1.5),
    steps_per_octave=8,
)
SIGMAS = Axis(
    path="data.strength",
    values=(0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    steps_per_octave=16,
)
HALF_MASS = Criterion(metric="p", level=0.5, floor="zero")
HALF_JSD = Criterion(metric="s_j", level=0.5, floor="zero")
LAWS = (
    *("one_block_closed", "one_block", "one_block_jsd", "state_evolution"),
    *("trained", "trained_jsd", "trained_plus", "trained_plus_jsd", "bayes_jsd"),
    *("control_bbp_as_mass", "control_bayes_as_mass"),
)
IDENTITY: Values = {"model.init": "identity", "horizon.length": 0}


def cluster_recipe(name: str, dim: int, num_classes: int, batch: int, num_blocks: int, more: Values) -> Series:
    """A setting of the data model."""
    values: Values = {
        "data.clusters.dim": dim,
        "data.clusters.num_classes": num_classes,
        "batch.train": batch,
        "batch.eval": batch,
        "model.num_blocks": num_blocks,
    }
    return Series(name=name, values={**values, **more})


def identity_recipe(dim: int, num_classes: int, batch: int, num_blocks: int, more: Values | None = None) -> Series:
    words = "".join(f" {word}" for word in _words(more or {}))
    name = f"identity d={dim} K={num_classes} N={batch} L={num_blocks}{words}"
    return cluster_recipe(name, dim, num_classes, batch, num_blocks, {**IDENTITY, **(more or {})})


def _words(more: Values) -> list[str]:
    names = {"data.clusters.cosine": "simplex", "model.residual": "no residual"}
    return [names[path] for path in more]


def trained_recipe(dim: int, num_classes: int, num_blocks: int) -> Series:
    """One block learns in 1,500 steps; two stay on a plateau until they find the offset, so they get 6,000."""
    name = f"trained d={dim} K={num_classes} N={10 * num_classes} L={num_blocks}"
    steps: Values = {"horizon.length": 1_500 if num_blocks == 1 else 6_000}
    return cluster_recipe(name, dim, num_classes, 10 * num_classes, num_blocks, steps)


SPACE = SearchSpace(
    name="augmentation_limit",
    question="How strong may the augmentation be before TransFusion loses the classes?",
    recipe=CONTRASTIVE,
    config=ReplicateConfig(
        horizon=HorizonConfig(unit="examples", length=20_000),
        batch=BatchConfig(train=64),
        evaluation=EvaluationConfig(split="test", knn_bank=0, num_points=1),
    ),
    scientific=(STRENGTHS,),
    nuisance=(Axis(path="optimizer.learning_rate", values=(1e-4, 3e-4, 1e-3)),),
    criterion=Criterion(metric="p", fraction=0.5),
    budget=Budget(replicates=3, precision=0.25, max_replicates=40, round_replicates=6),
    flank="falling",
    tuning={"evaluation.split": "validation"},
    margin_octaves=0.15,
    variants={
        "learning": Variant(datasets=("fashion_mnist", "digits", "cifar10", "cifar100")),
        "identity": Variant(
            datasets=("fashion_mnist", "digits"),
            values={**IDENTITY, "model.num_blocks": 1},
            nuisance=(),
            criterion=HALF_MASS,
            further_criteria=(HALF_JSD,),
            budget=Budget(replicates=2),
            series=(
                Series(name="untrained encoder", values={"model.encoder": "small"}),
                Series(name="pixels", values={"model.encoder": "none"}),
            ),
        ),
        "laws": Variant(
            datasets=("clusters",),
            values={
                "data.clusters.num_sources": 1_000,
                "data.clusters.basis": "random",
                "model.encoder": "none",
                "model.init": "identity",
                "horizon.unit": "steps",
                "horizon.length": 1_500,
                "optimizer.learning_rate": 3e-3,
            },
            nuisance=(),
            criterion=HALF_MASS,
            further_criteria=(HALF_JSD,),
            scientific=(SIGMAS,),
            budget=Budget(replicates=1, precision=0.05, max_replicates=60),
            laws={"clusters": LAWS},
            series=(
                identity_recipe(64, 5, 50, 1),
                identity_recipe(256, 5, 50, 1),
                identity_recipe(128, 10, 100, 1),
                identity_recipe(64, 5, 50, 2),
                identity_recipe(64, 5, 200, 3),
                identity_recipe(64, 5, 50, 2, {"data.clusters.cosine": -0.25}),
                identity_recipe(64, 5, 50, 3, {"data.clusters.cosine": -0.25, "model.residual": False}),
                trained_recipe(32, 5, 1),
                trained_recipe(32, 5, 2),
                trained_recipe(64, 5, 1),
                trained_recipe(32, 10, 1),
            ),
        ),
    },
    profiles={
        "laptop": {},
        "cluster": {
            "model.encoder": "resnet18",
            "model.init": "identity",
            "model.embedding_dim": 128,
            "horizon.length": 2_000_000,
        },
    },
    datasets={"fashion_mnist": {}, "digits": {}, "cifar10": {}, "cifar100": {"batch.eval": 1_200}, "clusters": {}},
    grids={"digits": {"optimizer.learning_rate": (3e-4, 1e-3, 3e-3)}},
)
