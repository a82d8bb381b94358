"""A sweep that is ready to run: everything that was checked before anything is written or started."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.designs.design import Design
from study.interface.run import Data
from study.ledger.provenance import Provenance

if TYPE_CHECKING:
    from study.execution.tasks import ExecutorName
    from study.tracking.live_view import LiveView


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything checked before anything is written or started."""

    design: Design
    replicates: int
    data_of: Callable[[Any], Data]
    provenance: Provenance
    storage: str
    executor: "ExecutorName"
    address: str
    view: "LiveView"
