"""Verify every law by Monte Carlo and write docs/theory-tables.md.

    python -m verification.laws
    python -m verification.laws --quick
    python -m verification.laws --only depth --seed 1

Two processes, one thread each. With --quick (a few draws of the cheap families, few replicates) or --only the document
goes to standard output unless --out says where to.
"""

import argparse
import os
import platform
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from study.ledger.provenance import Provenance, collect
from verification.laws.check import Row, Rows, Table
from verification.laws.jobs import FAMILIES, NUM_PROCESSES, plan, run
from verification.laws.report import document
from verification.laws.settings import SEED

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "theory-tables.md"


def tables(found: dict[tuple[str, int], Rows]) -> Iterable[tuple[Table, list[Row]]]:
    """Every table that has rows, in the order of the families and draws."""
    for name, family in FAMILIES.items():
        rows = [found[key] for key in sorted(found) if key[0] == name]
        if rows:
            yield from ((table, [row[key] for row in rows]) for key, table in family.tables.items())


def header(seed: int, provenance: Provenance, seconds: float) -> list[str]:
    """Where the numbers come from."""
    commit = provenance.commit[:12] or "unknown"
    if provenance.dirty:
        commit += " with local changes"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {NUM_PROCESSES} processes of one thread"
    return [
        "Written by `make verify-laws`; do not edit. Settings are drawn by a seeded generator "
        "(verification/laws/settings.py) that was committed before the run, and every draw is shown. An error is "
        "(predicted - measured) / measured; s.e. is the Monte Carlo standard error of the measured number. A dash: the "
        "law says nothing, or nothing could be measured. The first prediction of a check is held against its target.",
        "",
        f"Date {datetime.now(UTC):%Y-%m-%d}, commit {commit}, seed {seed}, {machine}, {seconds:.0f} s.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Verify every law by Monte Carlo.", allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=SEED, help=f"of settings and noise (default {SEED})")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=(), metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--quick", action="store_true", help="a few draws of the cheap families, few replicates")
    parser.add_argument("--out", type=Path, help=f"where to write (default docs/{DOCUMENT.name} for a whole run)")
    options = parser.parse_args(arguments)
    start, provenance = time.monotonic(), collect()
    found = run(plan(seed=options.seed, only=options.only, quick=options.quick))
    text = document(header(options.seed, provenance, time.monotonic() - start), list(tables(found)))
    is_whole = not options.quick and not options.only
    out = options.out or (DOCUMENT if is_whole else None)
    if out is None:
        print(text)
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()
