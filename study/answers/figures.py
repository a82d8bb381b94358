"""Figures of a study's answer.

They look the same for everybody: neither a user's matplotlibrc nor style files nor $MPLBACKEND have a say.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from typing import Literal

# No window is opened here, and matplotlib refuses to be imported where the variable names a backend it does not know.
_backend = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.answers.answer import StudyAnswer
from study.answers.figure_labels import (
    DATA_COLOUR,
    FALL_COLOUR,
    FIT_COLOUR,
    LAW_COLOURS,
    LEVEL_COLOUR,
    axis_label,
    law_colour,
    metric_label,
    title_of,
)
from study.answers.frames import outcome_values
from study.answers.laws import LawLine
from study.answers.plane_figures import draw_boundaries, draw_plane
from study.answers.slices import Slice, mean_curve
from study.designs.space import SERIES
from study.formatting import count_range, short_number
from study.inference.statements import Crossing, CrossingStatus
from study.inference.threshold import CurveFit

_FLOOR_NAMES = {"before": "before training", "chance": "chance", "zero": "zero"}
_MAX_COLUMNS = 4


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Matplotlib's own defaults, whatever was set before."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "study"
        yield


def figure_bytes(figure: Figure, kind: Literal["png", "svg"] | str) -> bytes:
    """A figure as a file's content, without a date so that equal figures are equal files."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with _own_settings():
        figure.savefig(buffer, format=kind, dpi=180, metadata=metadata)
    return buffer.getvalue()


def draw_answer(result: StudyAnswer) -> Figure:
    """A panel per slice or boundary, or the plane of two axes that are both finely divided."""
    with _own_settings():
        if result.design.is_plane:
            figure = draw_boundaries(result)
        else:
            figure = draw_plane(result) if _is_plane(result) else _draw_panels(result)
        if result.dataset_fallback is not None:
            figure.suptitle(result.dataset_words, fontsize=10)
    return figure


def _is_plane(result: StudyAnswer) -> bool:
    axes, has_series = result.design.axes, bool(result.design.series)
    is_fine = (len(axis.values) >= 4 and not isinstance(axis.values[0], str) for axis in axes)
    return len(axes) == 2 and not has_series and all(is_fine)


def _draw_panels(result: StudyAnswer) -> Figure:
    """Replicates, their mean and spread, the fitted curve with its band, the level, the thresholds and the laws.

    A strip below shows the nuisance value chosen at each point. One panel per series, value of the other axes and
    criterion.
    """
    count = max(1, len(result.slices))
    columns = min(count, _MAX_COLUMNS)
    has_nuisance = bool(result.design.nuisance)
    strips = 2 if has_nuisance else 1
    rows = -(-count // columns)
    size = (7.0 * columns, (5.8 if has_nuisance else 4.8) * rows) if count <= 3 else (4.6 * columns, 3.7 * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows * strips, columns, squeeze=False, height_ratios=[4, 1][:strips] * rows)
    for ax in panels.flat:
        ax.set_axis_off()
    for index, part in enumerate(result.slices):
        row, column = strips * (index // columns), index % columns
        ax = panels[row][column]
        ax.set_axis_on()
        _draw_curve(ax, result, part)
        if has_nuisance:
            ax, main = panels[row + 1][column], ax
            ax.set_axis_on()
            ax.sharex(main)
            main.tick_params(labelbottom=False)
            _draw_nuisance(ax, result, part)
        ax.set_xlabel(axis_label(result.design, result.design.axis.path))
    named: dict[str, Artist] = {}
    for ax in panels.flat:
        handles, labels = ax.get_legend_handles_labels()
        named |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in named}
    # The strips of nuisances have legends of their own.
    named.pop("at edge", None)
    if named:
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=min(len(named), 2 * columns),
            fontsize=8, frameon=False,
        )  # fmt: skip
    return figure


def _draw_curve(ax: Axes, result: StudyAnswer, part: Slice) -> None:
    design = result.design
    axis = design.axis.path
    if design.axis.scale == "log":
        ax.set_xscale("log", base=2)
    ax.set_xticks(part.grid, [short_number(v, 3) for v in part.grid], fontsize=8)
    ax.minorticks_off()
    if len(part.untuned):
        untuned = mean_curve(part.untuned, axis, design, part.criterion)
        setting = ", ".join(f"{_short(path)} {value:g}" for path, value in part.untuned_setting.items())
        split = f", {design.tuning_split} split" if design.tuning_split else ""
        label = f"untuned: {setting}{split}"
        ax.plot(untuned[axis], untuned["mean"], ":", color="0.55", lw=1.3, marker="x", ms=4, label=label)
    if len(part.frame):
        means = mean_curve(part.frame, axis, design, part.criterion)
        values = outcome_values(part.frame, part.criterion, design.recipe)
        fewest, most = _counts(result)
        shown = "mean and s.d." if part.criterion.share is None else "share"
        label = f"{shown} of {count_range(fewest, most, 'seed')}"
        if fewest < most:
            label = f"{shown} (area: {count_range(fewest, most, 'replicate')})"
        ax.plot(part.frame[axis], values, "o", color=DATA_COLOUR, alpha=0.3, ms=3.5, mew=0)
        if part.criterion.share is None:
            ax.errorbar(means[axis], means["mean"], means["std"], fmt="none", ecolor=DATA_COLOUR, lw=1.3, capsize=2.5)
        sizes = 30.0 if fewest == most else 90.0 / most * means["count"]
        ax.scatter(means[axis], means["mean"], sizes, color=DATA_COLOUR, label=label, zorder=2)
    if part.fit is not None:
        # The common legend has room for one panel's thresholds alone.
        floor_name = _FLOOR_NAMES[part.criterion.floor] if part.criterion.share is None else "fitted floor"
        _draw_fit(ax, part.fit, floor_name, has_numbers=len(result.slices) == 1)
    curves = [(label, curve) for reading in part.readings for label, curve in reading.curves().items() if curve]
    for (label, curve), style in zip(curves, itertools.cycle(("--", ":")), strict=False):
        ax.plot(list(curve), list(curve.values()), style, color=LAW_COLOURS[0], lw=1.4, label=label)
    for line in part.laws:
        _draw_law(ax, line, law_colour(design.laws, line.law.name))
    ax.set_title(_title(result, part), fontsize=10 if len(result.slices) <= 3 else 8, loc="left")
    ax.set_ylabel(part.criterion.quantity(metric_label(design, part.criterion.metric)))


def _counts(result: StudyAnswer) -> tuple[int, int]:
    """Fewest and most replicates at a point of any slice."""
    axis = result.design.axis.path
    counts = pd.concat([part.frame.groupby(axis).size() for part in result.slices if len(part.frame)])
    return int(counts.min()), int(counts.max())


def _title(result: StudyAnswer, part: Slice) -> str:
    if len(result.slices) == 1:
        return title_of(result.design)
    places = [
        value if path == SERIES else f"{axis_label(result.design, path)} {value}" for path, value in part.others.items()
    ]
    title = " · ".join(places)
    if len(result.slices) <= 3:
        title = f"{title_of(result.design)} · {', '.join(places)}"
    found = [] if part.fit is None else [part.fit.rising, part.fit.falling]
    return title + "".join(f"\nthreshold {c.describe('value')}" for c in found if c.status is CrossingStatus.FOUND)


def _draw_law(ax: Axes, line: LawLine, colour: str) -> None:
    if line.predicted is None:
        return
    left, right = ax.get_xlim()
    label = f"law {line.law.name}"
    if line.curve is not None:
        ax.plot(*line.curve, "--", color=colour, lw=1.4, label=label)
    if left < line.predicted < right:
        ax.axvline(line.predicted, color=colour, lw=1.1, ls=":", label=None if line.curve is not None else label)
    ax.set_xlim(left, right)


def _draw_fit(ax: Axes, fit: CurveFit, floor_name: str, *, has_numbers: bool) -> None:
    ax.fill_between(fit.grid_x, fit.curve_low, fit.curve_high, color=FIT_COLOUR, alpha=0.16, lw=0)
    ax.plot(fit.grid_x, fit.curve_median, color=FIT_COLOUR, lw=1.8, label="fit, 95 % band")
    ax.axhline(fit.floor, color="0.6", lw=0.9, ls="--", label=floor_name)
    if np.isfinite(fit.level.value):
        ax.axhline(fit.level.value, color=LEVEL_COLOUR, lw=0.9, ls="-.", label="level of the criterion")
    for crossing, colour, name in ((fit.rising, LEVEL_COLOUR, "minimum"), (fit.falling, FALL_COLOUR, "maximum useful")):
        if crossing.status is CrossingStatus.FOUND:
            _draw_crossing(ax, crossing, colour, f"{name} {crossing.describe('value')}" if has_numbers else name)


def _draw_crossing(ax: Axes, crossing: Crossing, colour: str, label: str) -> None:
    assert crossing.estimate is not None
    left, right = ax.get_xlim()
    ax.axvspan(crossing.low or left, crossing.high or right, color=colour, alpha=0.14, lw=0)
    ax.axvline(crossing.estimate, color=colour, lw=1.6, label=label)
    ax.set_xlim(left, right)


def _short(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")


def _draw_nuisance(ax: Axes, result: StudyAnswer, part: Slice) -> None:
    path = result.design.nuisance[0].path
    xs = sorted(part.tuned)
    ax.plot(xs, [part.tuned[x][path] for x in xs], "o-", color=DATA_COLOUR, ms=4, lw=1)
    ax.plot(
        part.at_edge,
        [part.tuned[x][path] for x in part.at_edge],
        "o",
        color=FIT_COLOUR,
        ms=8,
        mfc="none",
        label="at edge",
    )
    ax.set_yscale("log")
    tried = sorted({part.tuned[x][path] for x in xs})
    labelled = tried[:1]
    for value in tried[1:]:
        # Closer ones would be written on top of each other.
        if value / labelled[-1] > (tried[-1] / tried[0]) ** 0.12:
            labelled.append(value)
    ax.set_yticks(labelled, [f"{value:.3g}" for value in labelled])
    ax.minorticks_off()
    ax.margins(y=0.3)
    ax.set_ylabel(_short(path), fontsize=8)
    ax.tick_params(labelsize=8)
    if part.at_edge:
        ax.legend(fontsize=7, frameon=False)
