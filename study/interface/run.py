"""A run: what it is given, what it gives back, and how it is driven."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from study.designs.values import ConfigT
from study.interface.readings import Measurements
from study.outcome import Outcome


class Data(Protocol):
    """What replicates run on: ``digest`` tells its bytes from others."""

    @property
    def digest(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class NoData:
    """The data of a recipe that has none."""

    digest: str = ""


class CheckpointStore(Protocol):
    """Where the state of unfinished replicates is kept, one text of bytes per key."""

    def load(self, key: str) -> bytes | None: ...

    def save(self, key: str, state: bytes) -> None: ...

    def delete(self, key: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a run may know of its surroundings; the defaults are one process that keeps nothing.

    Of ``world_size`` workers of an initialised process group this one is ``rank``. ``memory_bytes`` is what its tensors
    may take. ``checkpoints`` and ``measurements`` are None where nothing is kept.
    """

    rank: int = 0
    world_size: int = 1
    use_gpu: bool = False
    num_threads: int = 1
    memory_bytes: float = math.inf
    checkpoints: CheckpointStore | None = None
    measurements: Measurements | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a pack stands after an :meth:`Run.advance`."""

    step: int
    num_steps: int
    seconds: float

    @property
    def fraction(self) -> float:
        """Share of the steps that are done, 1 where there are none."""
        return self.step / self.num_steps if self.num_steps else 1.0


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One value of one metric after ``examples`` training images (of other recipes: whatever they count)."""

    examples: int
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Replicate(Generic[ConfigT]):
    """One run to do: a resolved configuration, a seed and the key of both."""

    key: str
    config: ConfigT
    seed: int
    data_digest: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of a replicate: outcome, metrics at the end (empty when diverged) and before training, curves.

    ``note`` says of a diverged replicate where.
    """

    replicate: Replicate[Any]
    outcome: Outcome
    metrics: Mapping[str, float]
    before: Mapping[str, float] = field(default_factory=dict)
    curves: tuple[CurvePoint, ...] = ()
    examples: int | None = None
    steps: int | None = None
    seconds: float = 0.0
    note: str = ""


class Run(Protocol):
    """A pack being worked on by one worker."""

    @property
    def is_done(self) -> bool: ...

    def advance(self) -> Progress:
        """One slice of work; checkpoints go through the context."""
        ...

    def results(self) -> list[Result]:
        """One per replicate, in their order, once the run is done; asked of rank 0."""
        ...

    def model(self, index: int) -> bytes | None:
        """What is kept of a member as its final model; None where there is none."""
        ...

    def delete_checkpoints(self) -> None:
        """Drop the checkpoints of a pack whose results are safe."""
        ...


class CallRun:
    """A :class:`Run` of replicates that are one call each: ``call`` gives metrics at the end and before training."""

    def __init__(
        self,
        pack: Sequence[Replicate[ConfigT]],
        call: Callable[[Replicate[ConfigT]], tuple[Mapping[str, float], Mapping[str, float]]],
    ) -> None:
        self._pack, self._call = pack, call
        self._results: list[Result] = []

    @property
    def is_done(self) -> bool:
        return len(self._results) == len(self._pack)

    def advance(self) -> Progress:
        """Call the next replicate; one whose metrics are not all finite has diverged."""
        started, replicate = time.monotonic(), self._pack[len(self._results)]
        metrics, before = self._call(replicate)
        is_finite = all(map(math.isfinite, metrics.values()))
        self._results.append(
            Result(
                replicate=replicate,
                outcome=Outcome.OK if is_finite else Outcome.DIVERGED,
                metrics=metrics if is_finite else {},
                before=before,
                seconds=time.monotonic() - started,
                note="" if is_finite else "a metric was not finite",
            )
        )
        seconds = sum(result.seconds for result in self._results)
        return Progress(step=len(self._results), num_steps=len(self._pack), seconds=seconds)

    def results(self) -> list[Result]:
        """One per replicate, in their order."""
        return self._results

    def model(self, index: int) -> bytes | None:
        """A call leaves no model behind."""

    def delete_checkpoints(self) -> None:
        """A call leaves no checkpoint behind."""
