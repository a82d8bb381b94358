"""The papers' settings as configurations, one per method, for someone with a GPU.

ResNet-18 on CIFAR-10 with the settings of the first author's public code (github.com/HuanranLi/ContrastiveLearning_V2):
batch 256, SGD at 0.06 with momentum 0.9, weight decay 5e-4 and a cosine schedule, temperature 0.5, a projection head
512-512-128, five fusion blocks behind it, labels for 10 % of the images, kNN with k = 200. What it does not state is
ours: 200 epochs of the 45,000 training images, SimCLR's crop, flip and colour changes at strength 1, lambda 1, and
GroupNorm (``model.norm=batch`` is the control). Nothing of this has been run here yet.
"""

from study.designs.values import Scalar, with_values
from study.recipes.contrastive.config import ReplicateConfig

_SHARED: dict[str, Scalar] = {
    "data.name": "cifar10",
    "data.strength": 1.0,
    "data.num_views": 2,
    "data.views.rotation": 0.0,
    "data.views.saturation": 1.0,
    "data.views.hue": 1.0,
    "data.views.grayscale": 1.0,
    "batch.train": 512,
    "model.encoder": "resnet18",
    "model.embedding_dim": 512,
    "model.projection_dim": 128,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.06,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "horizon.length": 200 * 45_000,
    "evaluation.knn_bank": 45_000,
    "evaluation.knn_neighbours": 200,
    "evaluation.linear_probe": True,
    "evaluation.num_points": 20,
}
_OAR: dict[str, Scalar] = {"trainer": "oar", "loss.temperature": 0.5}

PAPER: dict[str, dict[str, Scalar]] = {
    # Identity weights: under default ones every row of a ResNet can be dead before the first step.
    "transfusion": {"model.num_blocks": 5, "model.init": "identity"},
    "transfusion_source": {"model.num_blocks": 5, "model.init": "identity", "loss.target": "source"},
    "oar": _OAR | {"data.label_fraction": 0.1, "loss.oar_weight": 1.0},
    "simclr": _OAR | {"loss.oar_weight": 0.0},
    "supcon": _OAR | {"data.label_fraction": 0.1, "loss.contrast": "supcon", "loss.oar_weight": 0.0},
    "oar_alone": _OAR | {"data.label_fraction": 0.1, "loss.contrast": "none"},
    "supervised": {"trainer": "supervised", "data.label_fraction": 0.1, "data.num_views": 1, "batch.train": 256},
}


def paper_config(method: str) -> ReplicateConfig:
    """The configuration of a method of :data:`PAPER`."""
    return with_values(ReplicateConfig(), _SHARED | PAPER[method])
