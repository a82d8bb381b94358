"""How few labels does anchor regression (OAR) need, beside a supervised classifier with the same labels?

Command: python -m study.sweep label_limit
Size:    108 to 528 replicates of 10,000 training images
Cost:    8 minutes on two cores with 142 replicates; on ``clusters`` 2 minutes with 158 (2026-11-27)

The share of labelled training images is varied at a fixed number of training images, for InfoNCE + OAR and for
supervised cross-entropy, each at its own best learning rate. Both see the same number of images, two views of each.
Accuracy is that of the method's own decision on unaugmented images: the nearest anchor, or the largest logit. It rises
from chance, since labels are learned from nothing; the threshold is half-way from no labels to all labels. OAR takes a
batch of labelled views of its own at every step, so that its pull does not fade with the share of labels.
"""

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Budget, SearchSpace, Variant
from study.recipes.contrastive.config import (
    BatchConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    LossConfig,
    ModelConfig,
    ReplicateConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE

SPACE = SearchSpace(
    name="label_limit",
    question="How few labels does anchor regression (OAR) need, beside a supervised classifier with the same labels?",
    recipe=CONTRASTIVE,
    config=ReplicateConfig(
        trainer="oar",
        data=DataConfig(num_views=2),
        batch=BatchConfig(train=128, labelled=64),
        model=ModelConfig(projection_dim=64),
        loss=LossConfig(oar_weight=1.0),
        horizon=HorizonConfig(unit="examples", length=10_000),
        evaluation=EvaluationConfig(split="test", knn_bank=5_000, num_points=2),
    ),
    scientific=(
        Axis(
            path="data.label_fraction",
            values=(0.0002, 0.0005, 0.002, 0.01, 0.1, 1.0),
            steps_per_octave=4,
        ),
        Axis(
            path="trainer",
            values=("oar", "supervised"),
            also={"supervised": {"batch.labelled": 0}},
        ),
    ),
    nuisance=(Axis(path="optimizer.learning_rate", values=(1e-3, 3e-3, 1e-2)),),
    criterion=Criterion(metric="accuracy_clean", fraction=0.5, floor="chance"),
    budget=Budget(replicates=3, precision=0.25, max_replicates=40),
    tuning={"evaluation.split": "validation", "evaluation.knn_bank": 0, "evaluation.num_points": 1},
    margin_octaves=0.5,
    laws={"clusters": ("class_mean_labels", "labels_subspace", "labels_trained", "label_coverage")},
    variants={
        "lambda_1": Variant(),
        "lambda_5": Variant(values={"loss.oar_weight": 5.0}),
        "oar_alone": Variant(values={"loss.contrast": "none"}),
        # Labelled views of the training batch alone, as in the paper's abstract: few labels then also mean a weak pull.
        "in_batch": Variant(values={"batch.labelled": 0}),
        "supcon": Variant(values={"loss.contrast": "supcon"}),
    },
    profiles={
        "laptop": {},
        "cluster": {
            "model.encoder": "resnet18",
            "model.embedding_dim": 512,
            "model.projection_dim": 128,
            "batch.train": 512,
            "horizon.length": 2_000_000,
        },
    },
    datasets={
        "fashion_mnist": {},
        "digits": {"batch.train": 64, "batch.labelled": 32},
        "cifar10": {},
        "cifar100": {"batch.eval": 1_200, "model.projection_dim": 128},
        "clusters": {
            "model.encoder": "linear",
            "model.embedding_dim": 16,
            "model.projection_dim": 0,
            "data.clusters.spread": 2.0,
            "data.clusters.num_sources": 5_000,
            "data.strength": 0.5,
            "horizon.length": 40_000,
            "evaluation.knn_bank": 0,
        },
    },
    # The smallest share leaves one label in every class.
    grids={
        "digits": {"data.label_fraction": (0.01, 0.02, 0.05, 0.1, 0.3, 1.0)},
        "cifar100": {"data.label_fraction": (0.0025, 0.005, 0.01, 0.04, 0.2, 1.0)},
        "clusters": {"data.label_fraction": (0.001, 0.003, 0.01, 0.04, 0.2, 1.0)},
    },
)
