"""At which learning rate does InfoNCE fuse all embeddings into one point, and does OAR undo it?

Command: python -m study.sweep over_fusion
Size:    72 to 432 replicates of 200 to 3,200 steps
Cost:    2 minutes on two cores with 309 replicates (2026-11-27)

Plain gradient descent on an encoder whose inputs share a mean: the first large step blows the weights up along the
mean, all embeddings fall together, and the gradient shrinks with the square of their norm. If that state is frozen
rather than attracting, the largest learning rate that is still escaped from grows in proportion to the number of
steps: that is why steps are the second axis. Fused is a mean cosine above 1/2 at the end; the step at which a run
escapes is recorded beside it, with the norm and the variance of the embeddings after the first step.

``depth`` asks the same of attention: how many blocks with identity weights can be stacked before their common
component grows into everything.
"""

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Budget, SearchSpace, Series, Variant
from study.recipes.contrastive.config import (
    BatchConfig,
    ClustersConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ReplicateConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE


def _stack(dim: int, num_classes: int, sigma: float, *, residual: bool, cosine: float = 0.0) -> Series:
    """A stack of identity blocks on clusters, judged on 20 rows per class."""
    words = f"d={dim} K={num_classes} sigma={sigma:g}" + ("" if residual else " no residual")
    return Series(
        name=words + (" simplex" if cosine else ""),
        values={
            "data.clusters.dim": dim,
            "data.clusters.num_classes": num_classes,
            "data.clusters.cosine": cosine,
            "data.strength": sigma,
            "model.residual": residual,
            "batch.eval": 20 * num_classes,
        },
    )


SPACE = SearchSpace(
    name="over_fusion",
    question="At which learning rate does InfoNCE fuse all embeddings into one point, and does OAR undo it?",
    recipe=CONTRASTIVE,
    config=ReplicateConfig(
        trainer="oar",
        data=DataConfig(
            name="clusters",
            num_views=2,
            strength=1.0,
            label_fraction=0.1,
            clusters=ClustersConfig(dim=32, cosine=-0.25, spread=0.5, mean_norm=3.0, num_sources=2_000),
        ),
        batch=BatchConfig(train=128, eval=200),
        model=ModelConfig(encoder="linear", embedding_dim=16),
        loss=LossConfig(oar_weight=0.0),
        optimizer=OptimizerConfig(name="sgd", momentum=0.0, schedule="constant", learning_rate=100.0),
        horizon=HorizonConfig(unit="steps", length=800),
        evaluation=EvaluationConfig(num_batches=5, num_points=2, knn_bank=0, escape=True),
    ),
    scientific=(
        Axis(
            path="optimizer.learning_rate",
            values=(10.0, 30.0, 90.0, 270.0, 810.0, 2560.0),
            steps_per_octave=8,
        ),
        Axis(path="horizon.length", values=(200, 800, 3200)),
    ),
    nuisance=(),
    # A run ends near 0 or near 1, by its seed: a mean of the two describes no run. Sought is the share of fused seeds.
    criterion=Criterion(metric="mean_cosine", level=0.5, floor="zero", share=0.5),
    budget=Budget(replicates=4, precision=0.4, max_replicates=144, round_replicates=12),
    margin_octaves=0.15,
    laws={"clusters": ("frozen_rate", "frozen_escape", "oar_escape")},
    variants={
        "info_nce": Variant(),
        # The first step, which makes the collapse, is left to InfoNCE: OAR starts from the collapsed state.
        "oar": Variant(values={"loss.oar_weight": 1.0, "loss.oar_from_step": 1, "batch.labelled": 32}),
        "oar_5": Variant(values={"loss.oar_weight": 5.0, "loss.oar_from_step": 1, "batch.labelled": 32}),
        "oar_from_first_step": Variant(values={"loss.oar_weight": 1.0, "batch.labelled": 32}),
        # A control: without a common mean of the inputs nothing should fuse.
        "centred": Variant(values={"data.clusters.mean_norm": 0.0}),
        "depth": Variant(
            datasets=("clusters",),
            values={
                "trainer": "transfusion",
                "model.encoder": "none",
                "model.init": "identity",
                "data.num_views": 1,
                "data.label_fraction": 1.0,
                "data.clusters.spread": 0.0,
                "data.clusters.mean_norm": 0.0,
                "evaluation.num_batches": 10,
                "evaluation.num_points": 1,
                "evaluation.escape": False,
                "horizon.length": 0,
            },
            scientific=(
                Axis(
                    path="model.num_blocks",
                    values=(1, 2, 4, 6, 8, 10),
                    scale="linear",
                    steps_per_octave=1,
                    multiple=1,
                ),
            ),
            criterion=Criterion(metric="p", level=0.5, floor="zero"),
            budget=Budget(replicates=1, precision=0.075, max_replicates=40),
            flank="falling",
            laws={"clusters": ("depth", "depth_state_evolution")},
            series=(
                *(
                    _stack(dim, num_classes, sigma, residual=residual)
                    for dim, num_classes, sigma in ((256, 5, 0.3), (256, 5, 1.0), (512, 5, 0.5), (256, 10, 0.5))
                    for residual in (True, False)
                ),
                # A control: simplex centres have no common component, so that nothing should fuse at this strength.
                _stack(256, 5, 0.3, residual=True, cosine=-0.25),
            ),
        ),
    },
    profiles={"laptop": {}},
    datasets={
        "clusters": {},
        "digits": {"model.encoder": "small", "model.projection_dim": 16, "data.strength": 0.3},
        "fashion_mnist": {"model.encoder": "small", "model.projection_dim": 16, "data.strength": 0.3},
    },
    grids={
        name: {
            "optimizer.learning_rate": (0.1, 0.4, 1.6, 6.3, 25.0, 100.0),
            "horizon.length": (50, 200),
        }
        for name in ("digits", "fashion_mnist")
    },
)
