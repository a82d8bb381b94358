"""Train one replicate without Ray: ``python -m study.commands.train --dataset digits --set batch.train=64 --seed 1``.

The row goes into the ledger ``single``; the same command again prints it.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from study.commands.command_line import EXIT_CODES, Command, Option, run
from study.commands.options import DATA_ROOT, OVERRIDES, STORAGE, USE_GPU, Read, parse_overrides
from study.commands.streams import run_main
from study.commands.values import read_seed
from study.designs.values import with_values
from study.errors import ConfigError, unknown_name_sentence
from study.formatting import column, fixed
from study.interface.recipe import find_recipe
from study.ledger.names_on_disk import FIRST_RECIPE


def act(options: argparse.Namespace) -> int:
    """Train the replicate unless the ledger has it, and print its row."""
    from study.execution.task_run import run_task
    from study.execution.tasks import PackTask, TaskSettings
    from study.ledger.ledger import Ledger
    from study.ledger.provenance import collect
    from study.ledger.store import Store, default_storage
    from study.outcome import MEASURED_OUTCOMES, Outcome
    from study.rows import before_column, metric_column

    recipe = find_recipe(options.recipe)
    if options.preset is not None and options.preset not in recipe.presets:
        raise ConfigError(unknown_name_sentence("preset", options.preset, recipe.presets))
    base = recipe.presets[options.preset] if options.preset else recipe.config_class()
    values = dict(recipe.of_dataset(options.dataset) if options.dataset else {})
    config = with_values(base, values | parse_overrides(recipe.config_class, options.overrides))
    storage = options.storage or default_storage()
    Store(storage).check_writable()
    data = recipe.load(config, options.data_root)
    recipe.check(config, data, num_workers=1)
    replicate = recipe.replicate(config, options.seed, data.digest)
    ledger = Ledger.open(storage, "single")
    if replicate.key not in ledger.settled():
        settings = TaskSettings(
            ledger_uri=ledger.store.uri,
            recipe=recipe.address,
            data_root=options.data_root,
            use_gpu=options.use_gpu,
            provenance=collect(),
        )
        attempt = len(ledger.attempts().get(replicate.key, [])) + 1
        run_task(PackTask(settings=settings, replicates=(replicate,), attempts=(attempt,)))
    row = ledger.settled()[replicate.key]
    seconds = None if row["seconds"] is None else round(row["seconds"], 1)
    print(json.dumps({"key": row["key"], "outcome": row["outcome"], "seconds": seconds}))
    if row["error"]:
        print(row["error"], file=sys.stderr)
    for metric in recipe.metrics:
        value, before = (row.get(column_of(metric.name)) for column_of in (metric_column, before_column))
        if value is not None:
            start = "" if before is None else f"   before training {fixed(before, 4)}"
            print(f"{column(metric.name, 24)}{fixed(value, 4)}{start}")
    return 0 if Outcome(row["outcome"]) in MEASURED_OUTCOMES else 3


_SEED = Option(["--seed"], default=1, type=Read("integer", read_seed), help="seed of everything that is drawn")
COMMAND = Command(
    "train",
    act=act,
    exit_codes=EXIT_CODES | {3: "the replicate has no result"},
    params=[
        Option(["--recipe"], default=FIRST_RECIPE, help="what to run, as package.module:NAME"),
        Option(["--preset", "--paper"], help="start from settings of the recipe that have a name"),
        Option(["--dataset"], help="the recipe's own where not given"),
        DATA_ROOT,
        OVERRIDES,
        _SEED,
        USE_GPU,
        STORAGE,
    ],
)


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.train") -> int:
    """Entry point; returns the exit code (3 for a replicate without a result)."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
