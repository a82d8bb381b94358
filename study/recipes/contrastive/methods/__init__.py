"""The training methods: a file each, which says what a method reports and refuses; its trainer is loaded with torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.interface.metrics import Metric, Reported

if TYPE_CHECKING:
    from study.recipes.contrastive.config import ReplicateConfig
    from study.recipes.contrastive.data.datasets import Dataset
    from study.recipes.contrastive.trainers.base import Trainer


@dataclass(frozen=True, kw_only=True)
class TrainingMethod:
    """A training method before anything is trained.

    ``numerics`` is bumped by hand when its numbers change at a fixed configuration and seed (tests/test_numerics.py
    pins them). ``reported`` names its metrics, ``metrics`` declares those that no other method has. ``check`` refuses
    configurations, ``check_data`` data sets, with a :class:`ConfigError`. ``trainer`` makes what trains. Of memory:
    ``num_blocks`` that see all pairs of a batch, ``head_parameters`` beside embeddings of a width, and whether it
    ``has_pairs`` at all.
    """

    numerics: int
    trainer: "Callable[[], Trainer[Any]]"
    reported: "Callable[[ReplicateConfig], Reported]"
    metrics: tuple[Metric, ...] = ()
    check: "Callable[[ReplicateConfig], None]" = lambda config: None
    check_data: "Callable[[ReplicateConfig, Dataset], None]" = lambda config, dataset: None
    num_blocks: "Callable[[ReplicateConfig], int]" = lambda config: 1
    head_parameters: "Callable[[ReplicateConfig, int], int]" = lambda config, width: 0
    has_pairs: bool = True


def names(judged: set[str], trained: set[str] | None = None, sometimes: set[str] | None = None) -> Reported:
    """What a method reports, by name."""
    return Reported(
        judged=frozenset(judged), trained=frozenset(trained or set()), sometimes=frozenset(sometimes or set())
    )
