"""Train one replicate without Ray: ``python -m study.train --dataset digits --set batch.train=64 --seed 1``.

The row goes into the ledger ``single``; the same command again prints it.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from study.command_line import parse_overrides, run_main
from study.config import ConfigError, Replicate, ReplicateConfig, with_values
from study.paper import PAPER, paper_config
from study.words import column, fixed


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (2 for wrong usage, 3 for a replicate without a result)."""
    parser = argparse.ArgumentParser(prog="python -m study.train", description="Train one replicate in this process.")
    parser.add_argument(
        "--paper", choices=sorted(PAPER), help="start from a method's settings in its paper (ResNet-18)"
    )
    parser.add_argument("--dataset", help="fashion_mnist where not given, cifar10 with --paper")
    parser.add_argument("--data-root", help="folder with the data set's files, searched first (or $STUDY_DATA)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storage", help="folder or URL of the ledger; $STUDY_STORAGE, else a per-user folder")
    parser.add_argument("--use-gpu", action="store_true")
    options = parser.parse_args(arguments)
    try:
        return _train(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _train(options: argparse.Namespace) -> int:
    base = paper_config(options.paper) if options.paper else ReplicateConfig()
    values = {**({"data.name": options.dataset} if options.dataset else {}), **parse_overrides(options.overrides)}
    if values.get("data.name") == "clusters":
        values = {"model.encoder": "none", **values}
    config = with_values(base, values)

    from study.data.datasets import load_dataset
    from study.outcome import MEASURED_OUTCOMES, Outcome
    from study.provenance import collect
    from study.results.ledger import Ledger
    from study.results.schema import METRICS
    from study.results.store import Store, default_storage
    from study.tasks import PackTask, TaskSettings, run_task
    from study.trainers.batch import check_evaluation

    storage = options.storage or default_storage()
    Store(storage).check_writable()
    dataset = load_dataset(config.data, options.data_root)
    check_evaluation(config, dataset)
    replicate = Replicate.of(config, options.seed, dataset.digest)
    ledger = Ledger.open(storage, "single")
    if replicate.key not in ledger.settled():
        settings = TaskSettings(
            ledger_uri=ledger.store.uri,
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
    for name in METRICS:
        if row[name] is not None:
            before = row.get(f"{name}_before")
            start = "" if before is None else f"   before training {fixed(before, 4)}"
            print(f"{column(name, 24)}{fixed(row[name], 4)}{start}")
    return 0 if Outcome(row["outcome"]) in MEASURED_OUTCOMES else 3


if __name__ == "__main__":
    sys.exit(run_main(main))
