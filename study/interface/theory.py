"""What the platform asks of a recipe's theory: laws that predict a limit of a setting, with their verified error."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pandas as pd


class NotApplicableError(ValueError):
    """A law says nothing about a setting; the message is one sentence that says why."""


class Prediction(Protocol):
    """A predicted limit, and the measured values that the largest error seen in verification allows."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


class Law(Protocol):
    """One law: the value of ``quantity`` at which a metric reaches a ``level``, or a ``fraction`` of its rise.

    ``direction``: the method works up to it ("largest") or from it on ("smallest"). A control is declared to fail.
    ``outcome`` maps a setting, the quantity's own value included, to the metric, where the law has a whole curve.
    """

    @property
    def name(self) -> str: ...

    @property
    def quantity(self) -> str: ...

    @property
    def direction(self) -> Literal["largest", "smallest"]: ...

    @property
    def metric(self) -> str: ...

    @property
    def level(self) -> float | None: ...

    @property
    def fraction(self) -> float | None: ...

    @property
    def is_control(self) -> bool: ...

    @property
    def criterion(self) -> str: ...

    @property
    def outcome(self) -> Callable[[Any], float] | None: ...

    def predict(self, setting: Any) -> Prediction:
        """The limit of a setting; :class:`NotApplicableError` where the law does not apply or there is none."""
        ...


class Theory(Protocol):
    """The laws of a recipe, and how a configuration is put to them."""

    @property
    def laws(self) -> Mapping[str, Law]: ...

    def covers(self, config: Any) -> bool:
        """Whether the laws are about runs of this kind at all."""
        ...

    def path_of(self, law: Law) -> str:
        """The configuration path that a law's quantity is the value of."""
        ...

    def setting(self, config: Any, axis: str, replicates: "pd.DataFrame", *, is_tuned: bool) -> Any:
        """What a law is asked of a limit along ``axis``: the setting of a configuration but for its value there.

        Args:
            replicates: rows of the slice, for what only a run can tell.
            is_tuned: whether a nuisance is chosen anew at every value.
        """
        ...

    def units(self, config: Any, axis: str) -> float:
        """Units of an axis in one of a law's quantity."""
        ...
