"""Recorded ledgers: files of real sweeps, and what today's code reads, answers and plans by them.

``<name>.tar.xz`` holds the tables of one study as a storage folder, without models, figures and tracking;
``<name>.txt`` is its printed answer and ``<name>.json.xz`` the answer as JSON. ``ledgers.json`` says what was read.

Limits are sampled: random draws that are accepted or not by a last digit. Whatever rests on a sampled limit (its
interval, the rounds that seek it) is the same to the letter only where floating-point functions round alike, which
depends on the processor. :func:`arithmetic` tells such machines apart, and :func:`measured` is what they agree on.
"""

import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg

from study.answers.answer import to_json
from study.answers.fits import SearchEnd, slice_key
from study.answers.report import Report, make_report
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.designs.design import Design
from study.designs.space import SERIES
from study.designs.values import digest, flatten, from_json
from study.ledger.ledger import Ledger
from study.planning.limit_state import SliceState
from study.planning.planner import RoundPlanner
from study.planning.proposals import Entry
from study.recipes.contrastive.config import ReplicateConfig

FOLDER = Path(__file__).parent
LEDGERS_FILE = FOLDER / "ledgers.json"
MAX_BYTES = 300_000
TABLES = ("designs", "rounds", "replicates", "curves", "measurements")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A recorded ledger: its study with the hash of its design, its data set, and the schema that it was written by.

    ``overrides`` make its design out of today's search space, where that has changed since. ``num_unsought`` rounds
    came before the first that rests on a sampled limit; None where none does.
    """

    name: str
    study: str
    study_hash: str
    dataset: str
    schema_version: int = 3
    overrides: Mapping[str, Any] = field(default_factory=dict)
    num_unsought: int | None = None

    @property
    def archive(self) -> Path:
        return FOLDER / f"{self.name}.tar.xz"

    def unpack(self, folder: Path) -> Ledger:
        """The ledger as a storage in ``folder``."""
        with tarfile.open(self.archive) as archive:
            archive.extractall(folder, filter="data")
        return Ledger.open(str(folder), self.study)

    def design(self) -> Design:
        """The design by today's code."""
        return make_design(load_space(self.study), dataset=self.dataset, overrides=self.overrides)


# The smoke study when its ledgers had schemas 1 and 2: the smallest encoder at 600 training images.
_EARLY_SMOKE = {
    "model.encoder": "small",
    "model.width": 4,
    "model.embedding_dim": 16,
    "model.init": "default",
    "horizon.unit": "examples",
    "horizon.length": 600,
}
BATCH = Recorded(name="batch", study="batch_limit", study_hash="caf01b4b", dataset="fashion_mnist", num_unsought=3)
CLUSTERS = Recorded(
    name="clusters", study="augmentation_limit", study_hash="68d33d09", dataset="clusters", num_unsought=1
)
SMOKE = Recorded(name="smoke", study="smoke", study_hash="95e78086", dataset="digits")
SCHEMA_1, SCHEMA_2 = (
    Recorded(
        name=f"smoke_schema_{version}",
        study="smoke",
        study_hash="b12ede89",
        dataset="digits",
        schema_version=version,
        overrides=_EARLY_SMOKE,
    )
    for version in (1, 2)
)
ALL = (BATCH, CLUSTERS, SMOKE, SCHEMA_1, SCHEMA_2)
# Recipes of CLUSTERS, without training and with it.
PART_NAME, PART = "clusters_part", ("identity d=64 K=5 N=50 L=2 simplex", "trained d=32 K=5 N=50 L=2")


def pack(recorded: Recorded, storage: Path) -> None:
    """Write the archive of a study's ledger that a sweep left in ``storage``; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for table in TABLES:
            for file in sorted((storage / recorded.study / table).glob("*.parquet")):
                member = tarfile.TarInfo(str(file.relative_to(storage)))
                member.size = file.stat().st_size
                archive.addfile(member, io.BytesIO(file.read_bytes()))
    recorded.archive.write_bytes(_compressed(buffer.getvalue()))


def _compressed(data: bytes) -> bytes:
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def what_was_read(recorded: Recorded, ledger: Ledger) -> dict[str, Any]:
    """Rows of every table, and what is settled: the number of keys and a digest of (key, outcome, p)."""
    settled = ledger.settled()
    curves = [
        [row[name] for name in ("key", "examples", "metric", "value")] for row in ledger.read("curves").to_pylist()
    ]
    return {
        "rows": {table: ledger.read(table).num_rows for table in TABLES},
        "rounds": [len(rows) for rows in ledger.proposals(recorded.study_hash).values()],
        "settled": len(settled),
        "settled_digest": digest(sorted([key, row["outcome"], row["metric.p"]] for key, row in settled.items())),
        "curves_digest": digest(sorted(curves, key=json.dumps)),
        "schema_versions": sorted({row["schema_version"] for row in settled.values()}),
    }


def digest_of(ledger: Ledger) -> Callable[[ReplicateConfig], str]:
    """The digest of the data set that a configuration trains on, by the rows of a ledger: no data set is needed."""
    rows = ledger.read("replicates").select(["config", "data_digest"]).to_pylist()
    found = {_data_set(from_json(ReplicateConfig, row["config"])): row["data_digest"] for row in rows}
    return lambda config: found[_data_set(config)]


def _data_set(config: ReplicateConfig) -> str:
    """What tells data sets apart: the name, and the model of synthetic ones."""
    values = flatten(config)
    return json.dumps([[path, values[path]] for path in values if path == "data.name" or "data.clusters." in path])


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A recorded search and a planner that knows only its design and its rows."""

    planner: RoundPlanner
    rounds: list[list[Entry]]
    rows: list[list[dict[str, Any]]]
    settled: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, recorded: Recorded, ledger: Ledger) -> "Replay":
        design, digests = recorded.design(), digest_of(ledger)
        assert design.hash == recorded.study_hash
        rows = [*ledger.proposals(design.hash).values()]
        return cls(
            planner=RoundPlanner(design=design, digest_of=digests, replicates=design.replicates),
            rounds=[[Entry.from_row(row, design.recipe.config_class, digests) for row in round_] for round_ in rows],
            rows=rows,
            settled=ledger.settled(),
        )

    def proposal(self, num_rounds: int) -> list[dict[str, Any]]:
        """The rows of the round that is planned after so many, with what those alone have settled."""
        known = self.rounds[:num_rounds]
        keys = {entry.replicate.key for round_ in known for entry in round_}
        settled = {key: row for key, row in self.settled.items() if key in keys}
        entries = self.planner.next_round(known, settled)
        return [entry.row(self.planner.design.hash, f"{num_rounds:04d}") for entry in entries]

    def slice_states(self) -> tuple[SliceState, ...]:
        """How every search ended; empty where none is sought."""
        return self.planner.slice_states(self.rounds, self.settled) if self.planner.design.is_sought else ()


def answered(recorded: Recorded, ledger: Ledger) -> Report:
    """The report that a sweep prints at its end."""
    replay = Replay.of(recorded, ledger)
    precision = replay.planner.design.budget.precision
    ends = {
        slice_key(state.slice.others): SearchEnd(precision=precision, is_settled=state.is_settled, reason=state.reason)
        for state in replay.slice_states()
    }
    return make_report(ledger, recorded.study_hash, ends)


def as_json(report: Report) -> Any:
    """The answer as JSON gives it back."""
    return json.loads(json.dumps(to_json(report.answer)))


def part_of_clusters(folder: Path) -> Ledger:
    """Two recipes of the ledger of ``clusters`` as a ledger of their own: all eleven take long to answer for."""
    whole, part = CLUSTERS.unpack(folder / "whole"), Ledger.open(str(folder / "part"), CLUSTERS.study)
    (row,) = whole.read("designs").to_pylist()
    design = json.loads(row["design"])
    design["recipes"] = [series for series in design["recipes"] if series[0] in PART]
    part.record_design(row | {"design": json.dumps(design, sort_keys=True)})
    for id_, rows in whole.proposals(CLUSTERS.study_hash).items():
        part.record_proposal(CLUSTERS.study_hash, id_, [row for row in rows if json.loads(row["cell"])[SERIES] in PART])
    keys = {*part.read("rounds")["key"].to_pylist()}
    part.append_pack([row for row in whole.read("replicates").to_pylist() if row["key"] in keys], [])
    return part


def measured(answer: Any) -> Any:
    """The part of an answer as JSON that no sampling enters: what was measured, tuned and counted."""
    whole = ("study", "variant", "dataset", "design", "commit", "criterion", "counts", "num_planned", "failures")
    of_slice = ("others", "criterion", "points", "untuned_setting", "untuned", "tuned", "at_edge", "knn", "outcomes")
    slices = [
        {name: part[name] for name in of_slice} | {"laws": [law["name"] for law in part["laws"]]}
        for part in answer["slices"]
    ]
    return {name: answer[name] for name in whole} | {"slices": slices}


def arithmetic() -> str:
    """A digest of the last digits of NumPy's and SciPy's floating-point functions on this machine."""
    x = np.linspace(0.01, 7, 6_000)
    matrix = np.cos(np.outer(x[:60], x[-60:])) @ np.sin(np.outer(x[-60:], x[:60])) + 100 * np.eye(60)
    square = matrix @ matrix.T
    found = [np.exp(-x), np.log(x), np.log1p(x), np.tanh(x), np.sin(x), x**1.7, square, np.linalg.solve(matrix, x[:60])]
    found += [np.linalg.cholesky(square), linalg.cho_solve(linalg.cho_factor(square), x[:60]), np.add.reduce(1 / x)]
    return digest([np.asarray(values).tobytes().hex() for values in found])


def golden_text(name: str) -> str:
    """The printed answer on record."""
    return (FOLDER / f"{name}.txt").read_text().removesuffix("\n")


def golden_json(name: str) -> Any:
    """The answer on record as JSON."""
    return json.loads(lzma.decompress((FOLDER / f"{name}.json.xz").read_bytes()))


def write_answers(folder: Path) -> None:
    """Write ``ledgers.json`` and every answer anew; ``folder`` takes the unpacked ledgers."""
    ledgers = [(recorded, recorded.unpack(folder / recorded.name)) for recorded in ALL]
    read: dict[str, Any] = {recorded.name: what_was_read(recorded, ledger) for recorded, ledger in ledgers}
    lines = [
        f"{json.dumps(name)}: {json.dumps(value)}" for name, value in ({"arithmetic": arithmetic()} | read).items()
    ]
    LEDGERS_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    reports = {recorded.name: answered(recorded, ledger) for recorded, ledger in ledgers}
    reports[PART_NAME] = make_report(part_of_clusters(folder), CLUSTERS.study_hash)
    for name, report in reports.items():
        (FOLDER / f"{name}.txt").write_text(report.text + "\n")
        (FOLDER / f"{name}.json.xz").write_bytes(_compressed(json.dumps(as_json(report), sort_keys=True).encode()))
