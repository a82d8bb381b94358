"""What all runs say: medians and quartiles, gains, and the table."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from verification.economy.methods import ROUND_SIZES
from verification.economy.oracle import cramer_rao
from verification.economy.problem import NUM_OCTAVES, SIMULATED_SPACING, Curve

OURS = f"ours, rounds of {ROUND_SIZES[0]}"
FISHER = "oracle, c-optimal"
RIVALS = ("random", "Optuna TPE", "Optuna GP")
# Of several designs of one kind, the best in each condition counts.
PIECEWISE = "by replicates"
FAMILIES = ("grid", PIECEWISE, "oracle")


def quartiles(frame: pd.DataFrame) -> str:
    """Median and quartiles of the replicates, with the share of capped runs where there are any."""
    low, middle, high = np.quantile(frame["num_replicates"], [0.25, 0.5, 0.75])
    capped = float(frame["is_capped"].mean())
    bound = "≥ " if capped >= 0.5 else ""
    return f"{bound}{middle:.4g} ({low:.4g} to {high:.4g})" + (f", {capped:.0%} capped" if capped else "")


def best_of(frame: pd.DataFrame, family: str) -> str | None:
    """The method of a family with the lowest median, then the lowest mean; None where there is none.

    Only those with the most runs count: of many designs with few runs one is best by luck.
    """
    chosen = frame[frame["method"].str.startswith(family)]
    if chosen.empty:
        return None
    runs = chosen["method"].value_counts()
    chosen = chosen[chosen["method"].isin(runs[runs == runs.max()].index)]
    order = chosen.groupby("method")["num_replicates"].agg(["median", "mean"]).sort_values(["median", "mean"])
    return str(order.index[0])


def with_best(frame: pd.DataFrame, condition: list[str]) -> pd.DataFrame:
    """The runs of ours and the rivals, and of the best grid and oracle of each condition as `grid` and `oracle`."""
    parts = [frame[frame["method"].str.startswith("ours") | frame["method"].isin((*RIVALS, FISHER))]]
    for _, part in frame.groupby(condition, sort=False):
        for family in FAMILIES:
            name = best_of(part, family)
            if name is not None:
                parts.append(part[part["method"] == name].assign(method=family, best=name))
    return pd.concat(parts, ignore_index=True)


def main_table(frame: pd.DataFrame, condition: list[str]) -> Iterable[str]:
    """Yield a table of replicates, a row per condition: ours, best grid, rivals, best oracle."""
    found = with_best(frame, condition)
    names = [name for name in (OURS, "grid", PIECEWISE, *RIVALS, "oracle") if (found["method"] == name).any()]
    yield f"| {' | '.join([*condition, *names])} |"
    yield "|---" * (len(condition) + len(names)) + "|"
    for key, part in found.groupby(condition, sort=False):
        cells = [f"{value:g}" if isinstance(value, float) else str(value) for value in key]
        for name in names:
            runs = part[part["method"] == name]
            detail = f" [{runs['best'].iloc[0].partition(', ')[2]}]" if name in FAMILIES else ""
            cells.append(quartiles(runs) + detail)
        yield f"| {' | '.join(cells)} |"


def gain_table(frame: pd.DataFrame, condition: list[str], by: list[str]) -> Iterable[str]:
    """Yield a table of ratios of medians, pooled over the conditions that share `by`.

    A column that ends in "/ ours" is the share of that method's gain over the grid that ours reaches.
    """
    found = with_best(frame, condition)
    has_oracle = (found["method"] == "oracle").any()
    oracle = "c-optimal / ours | grid / best oracle | best oracle / ours | " if has_oracle else ""
    has_piecewise = (found["method"] == PIECEWISE).any()
    piecewise = f"grid {PIECEWISE} / ours | " if has_piecewise else ""
    yield f"| {' | '.join(by)} | grid / ours | {piecewise}{oracle}best rival | ours / best rival | ours covered |"
    yield "|---" * (len(by) + 4 + 3 * has_oracle + has_piecewise) + "|"
    for key, part in found.groupby(by, sort=False):
        median = part.groupby("method")["num_replicates"].median()
        rivals = [name for name in ("grid", PIECEWISE, *RIVALS) if name in median]
        rival = min(rivals, key=lambda name: float(median[name]))
        ratios = ((FISHER, OURS), ("grid", "oracle"), ("oracle", OURS))
        runs = part[part["method"] == OURS]
        share = float(runs["covered"].mean())
        cells = [f"{value:g}" if isinstance(value, float) else str(value) for value in key]
        gain = median["grid"] / median[OURS]
        cells.append(f"{gain:.2f}")
        if has_piecewise:
            cells.append(f"{median[PIECEWISE] / median[OURS]:.2f}")
        if has_oracle:
            cells += [f"{median[name] / median[other]:.2f}" for name, other in ratios]
        cells += [rival, f"{median[OURS] / median[rival]:.2f}"]
        cells.append(f"{share:.1%} ± {np.sqrt(share * (1 - share) / len(runs)):.1%}")
        yield f"| {' | '.join(cells)} |"


def rounds_table(frame: pd.DataFrame, condition: list[str]) -> Iterable[str]:
    """Yield a table of what larger rounds cost, on the problems that every round size was given."""
    names = [f"ours, rounds of {size}" for size in ROUND_SIZES]
    shared = frame[frame["method"] == names[-1]][[*condition, "repeat"]]
    chosen = frame[frame["method"].isin(names)].merge(shared, on=[*condition, "repeat"])
    yield f"| {' | '.join([*condition, *names])} |"
    yield "|---" * (len(condition) + len(names)) + "|"
    for key, part in chosen.groupby(condition, sort=False):
        cells = [f"{value:g}" if isinstance(value, float) else str(value) for value in key]
        cells += [quartiles(part[part["method"] == name]) for name in names]
        yield f"| {' | '.join(cells)} |"


def limits_table(frame: pd.DataFrame) -> Iterable[str]:
    """Yield the physical limit: replicates by the Cramer-Rao bound of a curve known but for three numbers."""
    octaves_C = np.arange(0, NUM_OCTAVES + SIMULATED_SPACING / 2, SIMULATED_SPACING)
    yield "| width | noise sd | Cramér-Rao number |"
    yield "|---|---|---|"
    for width, noise_sd in frame[["width", "noise sd"]].drop_duplicates().itertuples(index=False):
        # Half a step from the nearest candidate, the worst place.
        curve = Curve(threshold=NUM_OCTAVES / 2 + SIMULATED_SPACING / 2, width=width, noise_sd=noise_sd)
        yield f"| {width:g} | {noise_sd:g} | {cramer_rao(curve, octaves_C):.2g} |"
