"""Which training examples have a label: seeded, stratified and nested over fractions."""

import torch

from study.errors import ConfigError
from study.recipes.contrastive.data.streams import stream


def labelled_subset(labels_M: torch.Tensor, num_classes: int, fraction: float, seed: int) -> torch.Tensor:
    """Indices of the labelled examples, sorted: about ``fraction`` of every class, at least one of each.

    Subsets of one seed are nested: 1 % lies inside 10 %. Raises :class:`ConfigError` when a class has no
    example at all, or the fraction would leave a class without a label.
    """
    chosen = []
    for label in range(num_classes):
        members = torch.nonzero(labels_M == label).flatten()
        count = round(fraction * len(members))
        if len(members) == 0:
            raise ConfigError(f"class {label} has no training example: the data set cannot be used with labels")
        if count == 0:
            needed = 1 / len(members)
            raise ConfigError(
                f"data.label_fraction={fraction:g} leaves class {label} ({len(members)} training examples) without a "
                f"label: use at least {needed:.2g}"
            )
        order = torch.randperm(len(members), generator=stream(seed, "labels", label))
        chosen.append(members[order[:count]])
    return torch.cat(chosen).sort().values
