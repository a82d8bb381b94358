"""What the training loop needs of its surroundings."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from study.errors import ConfigError
from study.recipes.contrastive.models.packed import Gather, identity_gather
from study.recipes.contrastive.trainers.checkpoints import StateStore


def checkpoint_seconds() -> float:
    """Seconds between two checkpoints of a pack: ``$STUDY_CHECKPOINT_SECONDS``, else 30."""
    text = os.environ.get("STUDY_CHECKPOINT_SECONDS") or "30"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"STUDY_CHECKPOINT_SECONDS takes a number of seconds, not {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the loop needs of its surroundings; the defaults are one process without checkpoints.

    ``encoder_rows`` bounds the local rows of one encoder pass (per replicate): a larger batch takes several passes,
    with the gradients of one.
    """

    rank: int = 0
    world_size: int = 1
    gather: Gather = identity_gather
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model
    sum_over_workers: Callable[[torch.Tensor], torch.Tensor] = lambda values: values
    checkpoints: StateStore | None = None
    checkpoint_seconds: float = field(default_factory=checkpoint_seconds)
    encoder_rows: int | None = None
