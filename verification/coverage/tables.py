"""Markdown tables of simulated coverage and recognition."""

from collections.abc import Iterable, Sequence

import numpy as np

from study.inference.statements import CrossingStatus
from verification.coverage.designs import SIDES, Side, Statement, half_width_octaves


def with_error(share: float, num: int) -> str:
    """A share in per cent with its binomial standard error."""
    return f"{share:.1%} ± {np.sqrt(share * (1 - share) / num):.1%}"


def coverage_table(statements: Sequence[Statement]) -> Iterable[str]:
    """Yield the lines of a Markdown table: all sets, then each stratum.

    Half-widths are medians in octaves of intervals closed on both sides; "open" is the share of numbers with an open
    side; "censored" counts below, above and no crossing, in brackets how many of them were true; the falling side is
    counted where it was sought.
    """
    side = "covered | half-width | open | censored (true)"
    yield f"| stratum | sets | rising {side} | falling sets | {side} | replicates | capped |"
    yield "|---" * 13 + "|"
    names = [(key, value) for key in _keys(statements) for value in _values(statements, key)]
    for name in [None, *names]:
        chosen = [s for s in statements if name is None or s.strata.get(name[0]) == name[1]]
        rising, falling = (_sought(chosen, side) for side in SIDES)
        cells = ["all" if name is None else f"{name[0]}: {name[1]}", str(len(rising)), *_side_cells(rising, "rising")]
        cells += [str(len(falling)), *_side_cells(falling, "falling")]
        cells += [
            f"{np.median([s.num_replicates for s in chosen]):.0f}",
            f"{np.mean([s.is_capped for s in chosen]):.1%}",
        ]
        yield "| " + " | ".join(cells) + " |"


def _keys(statements: Sequence[Statement]) -> list[str]:
    return list(dict.fromkeys(key for s in statements for key in s.strata))


def _values(statements: Sequence[Statement], key: str) -> list[str]:
    return sorted({s.strata[key] for s in statements if key in s.strata})


def _sought(statements: Sequence[Statement], side: Side) -> list[Statement]:
    """The statements that were asked for a side; one that broke down was asked for all that its set holds."""
    return [s for s in statements if getattr(s, side) is not None or s.error]


def _side_cells(statements: Sequence[Statement], side: Side) -> list[str]:
    if not statements:
        return ["--"] * 4
    found = CrossingStatus.FOUND
    crossings = [c for s in statements if (c := getattr(s, side)) is not None]
    widths = np.array([half_width_octaves(c) for c in crossings if c.status is found])
    width = f"{np.nanmedian(widths):.2f}" if np.isfinite(widths).any() else "--"
    num_open = sum(c.status is found and (c.low is None or c.high is None) for c in crossings)
    censored = [s for s in statements if (c := getattr(s, side)) is not None and c.status is not found]
    true_share = f" ({np.mean([s.covers(side) for s in censored]):.0%})" if censored else ""
    share = float(np.mean([s.covers(side) for s in statements]))
    return [
        with_error(share, len(statements)), width, f"{num_open / len(statements):.0%}",
        f"{len(censored) / len(statements):.0%}{true_share}",
    ]  # fmt: skip


def worst_stratum(statements: Sequence[Statement], side: Side, least_sets: int = 400) -> str:
    """One sentence on the stratum of at least so many sets that is covered least."""
    found = []
    for key in _keys(statements):
        for value in _values(statements, key):
            chosen = _sought([s for s in statements if s.strata.get(key) == value], side)
            if len(chosen) >= least_sets:
                found.append((float(np.mean([s.covers(side) for s in chosen])), f"{key}: {value}", len(chosen)))
    if not found:
        return f"No stratum has {least_sets} sets ({side})."
    share, name, num = min(found)
    return f"Least covered {side} stratum of at least {least_sets} sets: {name}, {with_error(share, num)} of {num}."


def failures(statements: Sequence[Statement]) -> str:
    """One sentence on what did not end in a converged fit, which is counted as not covered."""
    errors = [s.error.strip().splitlines()[-1] for s in statements if s.error]
    unconverged = sum(not s.converged and not s.error for s in statements)
    detail = f" ({'; '.join(sorted(set(errors)))})" if errors else ""
    return f"Not converged: {unconverged} of {len(statements)}; exceptions: {len(errors)}{detail}."
