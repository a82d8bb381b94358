"""What measurements that need no training depend on: the settings they are stored under."""

from study.designs.values import Scalar, flatten
from study.recipes.contrastive.config import ReplicateConfig


def encoder_settings(config: ReplicateConfig) -> dict[str, Scalar]:
    """What an encoder before training is, beside its seed."""
    return {path: v for path, v in flatten(config).items() if path.startswith("model.") or path == "precision"}


def view_settings(config: ReplicateConfig) -> dict[str, Scalar]:
    """What views of a data set are."""
    views = {path: value for path, value in flatten(config).items() if path.startswith("data.views.")}
    return views | {"data.strength": config.data.strength}
