"""The encoders: a file each, which says what it takes, what it costs and how it is built."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

    from study.recipes.contrastive.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Floats:
    """Numbers of floats: of one row's input and output, of weights, and of activations with and without a graph."""

    inputs: int
    outputs: int
    parameters: float = 0
    floats_per_row: float = 0
    floats_per_frozen_row: float = 0
    floats: float = 0


@dataclass(frozen=True, kw_only=True)
class EncoderKind:
    """An encoder before it is built.

    ``takes`` are the inputs that it is for; pixels of images come normalised where it is for images. ``build`` makes
    the encoder of a pack, a generator per replicate, and ``floats`` says what it takes by the shape of its inputs.
    ``joint_rows`` are those of a pack up to which it trains faster than its members one after another, None where
    replicates train alone (docs/performance.md). ``has_norm``: it may normalise by the batch.
    """

    takes: Literal["vectors", "images", "both"]
    build: "Callable[[ModelConfig, tuple[int, ...], Sequence[torch.Generator]], tuple[nn.Module, int]]"
    floats: "Callable[[ModelConfig, tuple[int, ...]], Floats]"
    joint_rows: int | None = 4096
    has_norm: bool = False
