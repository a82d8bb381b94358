"""What a planner proposes: replicates to run next, with what the decision rested on."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from study.designs.design import cell_name
from study.designs.values import Scalar, from_json, to_json
from study.interface.run import Replicate
from study.planning.limit_state import SliceState
from study.rows import Row

Role = Literal["tuning", "reported"]
Purpose = Literal["tuning", "reporting", "tuning new points", "seeking"]
# The digest of the data set that a configuration trains on.
DigestOf = Callable[[Any], str]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One planned replicate: its cell, its nuisance setting, its role and the run itself."""

    role: Role
    point: dict[str, Scalar]
    nuisance: dict[str, Scalar]
    replicate: Replicate[Any]

    @property
    def cell(self) -> str:
        return cell_name(self.point)

    def row(self, study_hash: str, proposal: str) -> Row:
        """The entry as a row of the ``rounds`` table, under the id of its proposal."""
        return {
            "study_hash": study_hash,
            "round": int(proposal),
            "role": self.role,
            "cell": self.cell,
            "nuisance": json.dumps(self.nuisance, sort_keys=True),
            "seed": self.replicate.seed,
            "key": self.replicate.key,
            "config": to_json(self.replicate.config),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any], config_class: type, digest_of: DigestOf) -> "Entry":
        """The entry of a recorded row."""
        config: Any = from_json(config_class, row["config"])
        replicate = Replicate(key=row["key"], config=config, seed=row["seed"], data_digest=digest_of(config))
        return cls(
            role=row["role"],
            point=json.loads(row["cell"]),
            nuisance=json.loads(row["nuisance"]),
            replicate=replicate,
        )


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Replicates to run next.

    ``id`` names it among those of its design; they stand in the order of their ids. ``based_on`` is the number of the
    last entry of the ledger's journal that had been read, ``pending`` the planned keys that had not settled by then,
    ``slices`` what was known of every limit that is sought, and ``title`` what a person calls it.
    """

    id: str
    purpose: Purpose
    entries: tuple[Entry, ...]
    title: str = ""
    based_on: int = 0
    pending: tuple[str, ...] = ()
    slices: tuple[SliceState, ...] = ()


class Planner(Protocol):
    """Decides which replicates come next: a pure function of the design, what was proposed and what has settled."""

    def propose(
        self,
        recorded: Sequence[Proposal],
        settled: Mapping[str, Row],
        *,
        pending: Collection[str] = (),
        room: float = math.inf,
        based_on: int = 0,
    ) -> Proposal | None:
        """The next replicates; None where there are none, for now or ever.

        Args:
            recorded: what was proposed so far, in order.
            settled: the row that counts of every settled key.
            pending: planned keys that have not settled.
            room: how many more replicates could run now.
            based_on: the number up to which the journal was read.
        """
        ...

    def limits(self, recorded: Sequence[Proposal], settled: Mapping[str, Row]) -> tuple[SliceState, ...]:
        """What is known of every limit that is sought, and what is next for it."""
        ...

    def foreseen(self) -> list[list[Replicate[Any]]]:
        """Replicates that will come as far as it is known before any has run, in groups that are proposed together."""
        ...

    def read(self, id_: str, rows: Sequence[Row]) -> Proposal:
        """A recorded proposal."""
        ...
