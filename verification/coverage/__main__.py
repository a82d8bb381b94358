"""How often do the 95 % intervals contain the truth? Simulated studies with known answers.

    python -m verification.coverage --sets 200 --seed 1
    python -m verification.coverage --parts adaptive --sets 2000 --seed 20261127 --processes 2

Parts: ``fixed`` (a grid of eleven points with 3, 5 or 8 seeds), ``adaptive`` (six points, then limit seeking until the
half-width is 1/4 octave or 60 replicates are spent), ``recognition`` and ``recognition_adaptive`` (kinds of curves),
``binary`` (success or failure, beside psignifit), ``binary_adaptive`` (searches of a share of successes),
``bootstrap`` (the cross-check on the fixed sets). Binary and each kind of curve have a fifth as many sets. A fit that
does not converge or breaks down counts as not covered, as does "no crossing" where there is one. The ``binary`` part
needs psignifit: pip install --no-deps psignifit==4.3
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from functools import partial

from verification.coverage.binary import binary_lines
from verification.coverage.designs import SIDES, Design, Statement, simulate
from verification.coverage.parallel import spread
from verification.coverage.recognition import KINDS, recognition_table
from verification.coverage.sets import Kind
from verification.coverage.successes import success_lines
from verification.coverage.tables import coverage_table, failures, worst_stratum

RECOGNITION_SEEDS = 5
RECOGNITION: dict[str, Design] = {"recognition": "fixed", "recognition_adaptive": "adaptive"}
PARTS = ("fixed", "adaptive", *RECOGNITION, "binary", "binary_adaptive", "bootstrap")


def coverage_lines(design: Design, seed: int, sets: int, processes: int) -> Iterable[str]:
    """Yield the report of one design."""
    statements = spread(partial(simulate, design, seed), sets, processes)
    yield from coverage_table(statements)
    yield ""
    yield failures(statements)
    yield from (worst_stratum(statements, side) for side in SIDES)


def recognition_lines(design: Design, seed: int, sets: int, processes: int) -> Iterable[str]:
    """Yield the report of all kinds of curves by one design."""
    found: dict[Kind, Sequence[Statement]] = {}
    for kind in KINDS:
        found[kind] = spread(partial(simulate, design, seed, kind=kind, num_seeds=RECOGNITION_SEEDS), sets, processes)
    yield from recognition_table(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a simulated run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200, help="simulated studies per design (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the run (default 1)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1], help="(default all but bootstrap)")
    parser.add_argument("--processes", type=int, default=1, help="(default 1)")
    options = parser.parse_args(arguments)
    for part in options.parts:
        start = time.monotonic()
        if part in RECOGNITION:
            lines = recognition_lines(RECOGNITION[part], options.seed, options.sets // 5, options.processes)
        elif part == "binary":
            lines = binary_lines(options.seed, options.sets // 5, options.processes)
        elif part == "binary_adaptive":
            lines = success_lines(options.seed, options.sets // 5, options.processes)
        else:
            lines = coverage_lines(part, options.seed, options.sets, options.processes)
        print(f"## {part}, seed {options.seed}\n", *lines, sep="\n")
        print(f"\n{time.monotonic() - start:.0f} s with {options.processes} process(es).\n", flush=True)


if __name__ == "__main__":
    main()
