"""What else a recipe reads off the replicates of a slice, beside the limit: for the printed answer and its JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from study.designs.criterion import Criterion
    from study.inference.threshold import CurveFit


class Measurements(Protocol):
    """Quantities that need no training, kept so that they are measured once."""

    def measurements(
        self, prefix: str, data_digest: str, seed: int | None, settings: Mapping[str, Any]
    ) -> dict[str, float]: ...

    def record_measurements(
        self, prefix: str, data_digest: str, seed: int | None, settings: Mapping[str, Any], values: Mapping[str, float]
    ) -> None: ...


class Reading(Protocol):
    """One reading; ``name`` is its field of the answer's JSON."""

    @property
    def name(self) -> str: ...

    def lines(self) -> list[str]:
        """Lines of the printed answer."""
        ...

    def as_json(self) -> Any:
        """Plain values."""
        ...

    def curves(self) -> Mapping[str, Mapping[float, float]]:
        """Curves over the axis for the figure, by their label; empty ones are left out."""
        ...


@dataclass(frozen=True, kw_only=True)
class SliceView:
    """What a reading may look at: the replicates of a slice with a finding, and what was made of them.

    ``replicates`` are rows with columns by the names of axes and of the ledger; ``means`` the criterion's metric by
    value of the axis, and ``unit`` what the axis counts. ``is_first``: it is the design's first criterion.
    """

    axis: str
    unit: str
    criterion: "Criterion"
    is_first: bool
    laws: tuple[str, ...]
    replicates: "pd.DataFrame"
    means: "pd.Series[float]"
    fit: "CurveFit | None"
    measurements: Measurements
    measurement_rows: "Callable[[], list[dict[str, Any]]]"
