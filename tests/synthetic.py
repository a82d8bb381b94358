"""Studies whose numbers are known: designs, invented ledger rows, and an in-process object store.

A sweep needs Ray only to train. Here its state is driven by hand and every replicate's result is a function of its
configuration and seed, so that a whole study takes milliseconds.
"""

import functools
import http.client
import json
import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.designs.space import Budget, SearchSpace, Variant
from study.execution.queue import SweepState
from study.execution.tasks import PackTask, TaskSettings, attempt_row
from study.interface.run import Replicate
from study.ledger.ledger import Ledger
from study.ledger.provenance import Provenance
from study.ledger.store import Store
from study.outcome import MEASURED_OUTCOMES, Outcome
from study.planning.planner import RoundPlanner
from study.recipes.contrastive.config import BatchConfig, DataConfig, EvaluationConfig, HorizonConfig, ReplicateConfig
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.rows import before_column, metric_column

DATA_DIGEST = "0123456789abcdef"
FLOOR = 0.04
STARTED = datetime(2030, 1, 1, tzinfo=UTC)

PROVENANCE = Provenance(
    commit="0123456789abcdef0123456789abcdef01234567", dirty=False, source_digest="s", versions="{}", node_type="test"
)
BATCHES = Axis(path="batch.train", values=(4, 16, 64))
RATES = Axis(path="optimizer.learning_rate", values=(1e-3, 3e-3, 1e-2))
# A trainer without affinities, judged by what it reports.
SUPERVISED = Variant(
    values={"trainer": "supervised"}, criterion=Criterion(metric="accuracy", fraction=0.5, floor="chance")
)
STRENGTHS = Axis(path="data.strength", values=(0.1, 0.2))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an invented replicate measured; the value is null where nothing was."""

    value: float = 0.0
    outcome: Outcome = Outcome.OK


ResultOf = Callable[[Replicate], Result]


def search_space(**changes: Any) -> SearchSpace:
    """A small study on digits; keyword arguments replace fields."""
    fields: dict[str, Any] = {
        "name": "known",
        "question": "Does the answer come back?",
        "recipe": CONTRASTIVE,
        "config": ReplicateConfig(
            data=DataConfig(name="digits"),
            batch=BatchConfig(eval=40),
            horizon=HorizonConfig(length=600),
            evaluation=EvaluationConfig(knn_bank=200),
        ),
        "scientific": (BATCHES,),
        "nuisance": (RATES,),
        "criterion": Criterion(metric="p", fraction=0.5),
        "budget": Budget(tuning_seeds=2, replicates=5),
        "tuning": {"evaluation.split": "validation", "evaluation.knn_bank": 0},
        "variants": {"learning": Variant(), "supervised": SUPERVISED},
        "profiles": {"laptop": {}},
        "datasets": {"digits": {}, "cifar10": {}},
    }
    return SearchSpace(**(fields | changes))


def known_design(**changes: Any) -> Design:
    """The default design of :func:`search_space`."""
    return make_design(search_space(**changes))


def rise_and_fall(replicate: Replicate, *, rise: float = 5.3, fall: float = 7.6) -> Result:
    """P over octaves of the batch, best at a learning rate of 3e-3, with seeds that shift it a little."""
    octave = math.log2(replicate.config.batch.train)
    shape = 1 / (1 + 9.0 ** (-2 * (octave - rise))) / (1 + 9.0 ** (2 * (octave - fall)))
    detuning = abs(math.log(replicate.config.optimizer.learning_rate / 3e-3))
    shift = 0.004 * math.sin(1.7 * replicate.seed) + 0.003 * math.cos(2.3 * replicate.seed + octave)
    return Result(value=FLOOR + 0.5 * shape / (1 + detuning) + shift)


def commit(task: PackTask, result_of: ResultOf, metric: str = "p") -> None:
    """Write a pack's rows as its executor would."""
    ledger = Ledger(Store(task.settings.ledger_uri))
    rows, curves = [], []
    for replicate, attempt in zip(task.replicates, task.attempts, strict=True):
        result = result_of(replicate)
        row = attempt_row(task, replicate, attempt, result.outcome, STARTED)
        row |= {"finished_at": STARTED + timedelta(minutes=1), before_column(metric): FLOOR}
        row |= {"examples": 600, "steps": 10, "seconds": 2.0, "device_seconds": 2.0, "device": "cpu"}
        if result.outcome in MEASURED_OUTCOMES:
            row |= {metric_column(metric): result.value, metric_column("knn_accuracy"): 0.8}
            row |= {before_column("knn_accuracy"): 0.6}
            for examples, share in ((0, 0.0), (300, 0.6), (600, 1.0)):
                value = FLOOR + share * (result.value - FLOOR)
                curve = {"key": replicate.key, "attempt": attempt, "examples": examples, "metric": metric}
                curves.append(curve | {"value": value})
        if result.outcome not in (*MEASURED_OUTCOMES, Outcome.DIVERGED):
            row |= {before_column(metric): None, "seconds": None, "error": "RuntimeError: invented"}
        rows.append(row)
    ledger.append_pack(rows, curves)


def open_state(ledger: Ledger, design: Design, replicates: int = 5, **changes: Any) -> SweepState:
    """A sweep's state on a ledger, as a new command would build it."""
    settings = TaskSettings(
        ledger_uri=ledger.store.uri, recipe=design.recipe.address, study_hash=design.hash, provenance=PROVENANCE
    )
    data_digest = changes.pop("data_digest", DATA_DIGEST)
    planner = RoundPlanner(design=design, digest_of=lambda _: data_digest, replicates=replicates)
    fresh = Ledger(Store(ledger.store.uri))
    changes.setdefault("design_row", design_row(design))
    return SweepState(design=design, ledger=fresh, planner=planner, replicates=replicates, settings=settings, **changes)


def drive(state: SweepState, result_of: ResultOf, max_packs: int | None = None) -> list[PackTask]:
    """Work off packs one after another; returns those that ran."""
    done: list[PackTask] = []
    while max_packs is None or len(done) < max_packs:
        task = state.next_task(is_idle=True)
        if task is None:
            break
        commit(task, result_of, state.design.criterion.metric)
        state.note_complete(task)
        done.append(task)
    return done


def design_row(design: Design, **changes: Any) -> dict[str, Any]:
    """A design as the ledger records it."""
    row = {
        "study_hash": design.hash,
        "study": design.study,
        "variant": design.variant,
        "design": json.dumps(design.canonical(), sort_keys=True),
        "exploratory": design.is_exploratory,
        "commit": PROVENANCE.commit,
        "dirty": False,
        "created_at": STARTED - timedelta(hours=1),
        "entry_point": design.recipe.address,
        "first_variant": design.is_first_variant,
    }
    return row | changes


def fill(ledger: Ledger, design: Design, result_of: ResultOf, replicates: int = 5, **changes: Any) -> SweepState:
    """Run a whole invented study into a ledger."""
    state = open_state(ledger, design, replicates, **changes)
    # The ledger as it was opened: a fresh one becomes the current one with its first round.
    state.ledger = ledger
    drive(state, result_of)
    return state


@functools.cache
def _object_store_port() -> int:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", "/bucket")
    assert connection.getresponse().status == 200
    connection.close()
    return port


def object_store_uri() -> str:
    """The URL of an empty prefix of an object store that runs in this process."""
    return (
        f"s3://user:secret@bucket/{uuid.uuid4().hex}?endpoint_override=127.0.0.1:{_object_store_port()}&scheme=http"
        "&region=us-east-1"
    )
