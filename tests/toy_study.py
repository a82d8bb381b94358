"""A study of the toy recipe: everything but training, in milliseconds per replicate."""

from typing import Any

from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.designs.space import Budget, SearchSpace
from study.execution.queue import SweepState
from study.execution.task_run import run_task
from study.execution.tasks import PackTask, TaskSettings
from study.ledger.ledger import Ledger
from study.ledger.registration import design_row
from study.ledger.store import Store
from study.planning.planner import RoundPlanner
from study.testing.toy import TOY, ToyConfig
from tests.synthetic import PROVENANCE

SPACE = SearchSpace(
    name="toy",
    question="At which size does the score rise?",
    recipe=TOY,
    config=ToyConfig(),
    scientific=(Axis(path="size", values=(2, 8, 32, 128), steps_per_octave=4, multiple=1),),
    nuisance=(Axis(path="rate", values=(1e-3, 1e-2, 1e-1)),),
    criterion=Criterion(metric="score", fraction=0.5),
    budget=Budget(replicates=2, precision=0.2, max_replicates=24, round_replicates=4),
)


def toy_design(**changes: Any) -> Design:
    """The design of the toy study."""
    return make_design(SPACE, **changes)


def open_toy(ledger: Ledger, design: Design | None = None, **changes: Any) -> SweepState:
    """The state of a toy sweep on a ledger, as a new command would build it."""
    design = design or toy_design()
    settings = TaskSettings(
        ledger_uri=ledger.store.uri, recipe=design.recipe.address, study_hash=design.hash, provenance=PROVENANCE
    )
    planner = RoundPlanner(design=design, digest_of=lambda _: "", replicates=design.replicates)
    fresh = Ledger(Store(ledger.store.uri))
    return SweepState(
        design=design,
        ledger=fresh,
        planner=planner,
        replicates=design.replicates,
        settings=settings,
        design_row=design_row(design, PROVENANCE, design.dataset),
        **changes,
    )


def run_toy(state: SweepState, max_packs: int | None = None) -> list[PackTask]:
    """Train packs in this process, one after the other; returns those that ran."""
    done: list[PackTask] = []
    while max_packs is None or len(done) < max_packs:
        task = state.next_task(is_idle=True)
        if task is None:
            break
        run_task(task)
        state.note_complete(task)
        done.append(task)
    return done
