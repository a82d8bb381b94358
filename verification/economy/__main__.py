"""How many replicates until the 95 % half-width of a threshold is 1/4 octave: limit seeking beside its rivals.

    python -m verification.economy --repeats 4 --seed 1
    python -m verification.economy --seed 20261127 --processes 2 --pool POOL.parquet --results RUNS.parquet

Simulated: four widths, two noises, ``--repeats`` thresholds of each over a range of ten octaves; larger rounds and the
brackets on a quarter of them (then the best oracle of each condition on all), random points on half. Real:
pools of replicates on ``clusters`` (``--pool``, made and kept where the file does not exist), each with its seeds in
several orders. The nuisance's cost: ``--landscapes`` simulated studies per drift and way of tuning. A run writes
docs/economy-tables.md and docs/economy.svg; with ``--out DIRECTORY`` both go there.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.answers.figures import figure_bytes
from verification.coverage.parallel import spread
from verification.economy import pools
from verification.economy.figure import draw
from verification.economy.methods import METHODS
from verification.economy.nuisance import DRIFTS, PLANNERS, measure, nuisance_table
from verification.economy.problem import NOISE_SDS, WIDTHS_OCTAVES, Problem, simulated
from verification.economy.report import FISHER, OURS, best_of, gain_table, limits_table, main_table, rounds_table

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
CONDITIONS = [(width, noise_sd) for width in WIDTHS_OCTAVES for noise_sd in NOISE_SDS]
SIMULATED, REAL = ["width", "noise sd"], ["recipe"]
Row = dict[str, Any]


def names_for(repeat: int, repeats: int) -> list[str]:
    """The methods that a repeat is given: the costly ones and the variants are not given all."""
    is_variant = {name: name.startswith(("ours", "oracle")) and name not in (OURS, FISHER) for name in METHODS}
    return [
        name
        for name in METHODS
        if repeat < np.ceil(repeats / 4)
        or (not is_variant[name] and (name != "random" or repeat < np.ceil(repeats / 2)))
    ]


def rows_of(make: Callable[[], Problem], labels: Row, names: Sequence[str], seed: int) -> list[Row]:
    """What each of the named methods needed for a problem."""
    problem, rows = make(), []
    for name in names:
        start = time.process_time()
        run = METHODS[name](problem, seed)
        rows.append({**labels, "method": name, **asdict(run), "cpu_seconds": time.process_time() - start})
    return rows


def simulated_job(seed: int, repeats: int, only: Sequence[str], index: int) -> list[Row]:
    """All methods of one condition and repeat."""
    (width, noise_sd), repeat = CONDITIONS[index % len(CONDITIONS)], index // len(CONDITIONS)
    names = [name for name in names_for(repeat, repeats) if not only or name in only]
    labels = {"width": width, "noise sd": noise_sd, "repeat": repeat}
    return rows_of(partial(simulated, seed, width, noise_sd, repeat), labels, names, repeat)


def oracle_job(seed: int, left: Sequence[tuple[float, float, int, str]], index: int) -> list[Row]:
    """The best oracle of a condition on a repeat that it has not had."""
    width, noise_sd, repeat, name = left[index]
    labels = {"width": width, "noise sd": noise_sd, "repeat": repeat}
    return rows_of(partial(simulated, seed, width, noise_sd, repeat), labels, [name], repeat)


def run_simulated(seed: int, repeats: int, processes: int, only: Sequence[str] = ()) -> pd.DataFrame:
    """All simulated runs, a row per problem and method."""
    jobs = spread(partial(simulated_job, seed, repeats, only), len(CONDITIONS) * repeats, processes)
    frame = pd.DataFrame([row for rows in jobs for row in rows])
    left = []
    for (width, noise_sd), part in frame.groupby(SIMULATED):
        name = best_of(part[part["repeat"] < np.ceil(repeats / 4)], "oracle")
        if name is not None:
            had = set(part[part["method"] == name]["repeat"])
            left += [(float(width), float(noise_sd), repeat, name) for repeat in range(repeats) if repeat not in had]
    more = spread(partial(oracle_job, seed, left), len(left), processes)
    frame = pd.concat([frame, pd.DataFrame([row for rows in more for row in rows])], ignore_index=True)
    return frame.sort_values([*SIMULATED, "repeat"], ignore_index=True)


def real_job(seed: int, pool: Path, orders: int, index: int) -> list[Row]:
    """All methods but the oracles on one order of the seeds of one pool."""
    setting, order = pools.SETTINGS[index // orders], index % orders
    problem = pools.problem(setting, pd.read_parquet(pool))
    names = [name for name in METHODS if not name.startswith("oracle")]
    rng = np.random.default_rng([seed, index])
    return rows_of(lambda: problem.shuffled(rng), {"recipe": setting.recipe, "repeat": order}, names, order)


def run_real(seed: int, pool: Path, orders: int, processes: int) -> pd.DataFrame:
    """All runs on real pools, a row per pool, order and method."""
    pools.load_or_measure(pool, seed, processes)
    jobs = spread(partial(real_job, seed, pool, orders), len(pools.SETTINGS) * orders, processes)
    return pd.DataFrame([row for rows in jobs for row in rows])


def nuisance_job(seed: int, landscapes: int, index: int) -> Row:
    """One landscape by one way of tuning."""
    cases = [(drift, name) for drift in DRIFTS for name in PLANNERS]
    drift, name = cases[index // landscapes]
    return measure(seed, drift, name, index % landscapes)


def run_nuisance(seed: int, landscapes: int, processes: int) -> pd.DataFrame:
    """All landscapes by both ways of tuning."""
    num = len(DRIFTS) * len(PLANNERS) * landscapes
    return pd.DataFrame(spread(partial(nuisance_job, seed, landscapes), num, processes))


def document(frames: dict[str, pd.DataFrame], command: str) -> str:
    """The Markdown document of all tables."""
    lines = ["# Economy of limit seeking", "", f"Written by `{command}`; do not edit.", ""]
    if "simulated" in frames:
        frame = frames["simulated"]
        lines += ["## Simulated", "", *main_table(frame, SIMULATED), "", "## Gains", ""]
        lines += [*gain_table(frame, SIMULATED, ["width"]), "", *gain_table(frame, SIMULATED, SIMULATED), ""]
        lines += ["## Larger rounds", "", *rounds_table(frame, SIMULATED), ""]
        lines += ["## Physical limit", "", *limits_table(frame), ""]
    if "real" in frames:
        frame = frames["real"]
        lines += ["## Real runs on clusters", "", *main_table(frame, REAL), "", *gain_table(frame, REAL, REAL), ""]
        lines += [*rounds_table(frame, REAL), ""]
    if "nuisance" in frames:
        lines += ["## The nuisance's cost", "", *nuisance_table(frames["nuisance"]), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=50, help="simulated thresholds per condition (default 50: 100 of each width)"
    )
    parser.add_argument("--orders", type=int, default=10, help="orders of the seeds of a real pool (default 10)")
    parser.add_argument("--landscapes", type=int, default=20, help="simulated studies with a nuisance (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="(default 1)")
    parser.add_argument("--processes", type=int, default=1, help="(default 1)")
    parser.add_argument("--pool", type=Path, help="Parquet file of real replicates; without it only simulations")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=(), metavar="METHOD", help="only these, simulated"
    )
    parser.add_argument("--out", type=Path, default=DOCUMENTS, help="directory of table and figure (default docs/)")
    parser.add_argument("--results", type=Path, help="Parquet file to which the simulated runs are written")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    frames = {}
    if options.repeats:
        frames["simulated"] = run_simulated(options.seed, options.repeats, options.processes, options.methods)
        if options.results:
            frames["simulated"].to_parquet(options.results, index=False)
    if options.pool:
        frames["real"] = run_real(options.seed, options.pool, options.orders, options.processes)
    if options.landscapes:
        frames["nuisance"] = run_nuisance(options.seed, options.landscapes, options.processes)
    given = f"--repeats {options.repeats} --orders {options.orders} --landscapes {options.landscapes}"
    given += f" --seed {options.seed}" + (" --pool POOL.parquet" if options.pool else "")
    text = document(frames, f"python -m verification.economy {given}")
    text += f"\n{time.monotonic() - start:.0f} s with {options.processes} process(es) on {os.cpu_count()} cores.\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "economy-tables.md").write_text(text)
    if "simulated" in frames:
        (options.out / "economy.svg").write_bytes(figure_bytes(draw(frames["simulated"], SIMULATED), "svg"))
    print(text)


if __name__ == "__main__":
    main()
