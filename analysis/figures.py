"""Figures of a study's answer."""

import io
from typing import Literal

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.answer import Slice, StudyAnswer, mean_curve
from analysis.frames import outcome_values
from study.inference.threshold import Crossing, CrossingStatus, CurveFit

_LABELS = {
    "batch.train": "training batch (rows)",
    "data.strength": "augmentation strength",
    "data.label_fraction": "share of labelled training images",
    "optimizer.learning_rate": "learning rate",
    "horizon.length": "steps",
    "trainer": "method",
    "p": "P (test batches)",
    "accuracy_clean": "accuracy (test images)",
    "mean_cosine": "mean cosine at the end",
}
_FLOOR_NAMES = {"before": "before training", "chance": "chance", "zero": "zero"}
_DATA, _FIT, _THRESHOLD, _FALL = "#1b3a57", "#d1495b", "#2a7f62", "#8d6a9f"


def figure_bytes(figure: Figure, kind: Literal["png", "svg"] | str) -> bytes:
    """A figure as a file's content, without a date so that equal figures are equal files."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "study"}):
        figure.savefig(buffer, format=kind, dpi=180, metadata=metadata)
    return buffer.getvalue()


def draw_answer(result: StudyAnswer) -> Figure:
    """Replicates, their mean and spread, the fitted curve with its band, the level and the thresholds.

    A strip below shows the nuisance value chosen at each point. One column per value of the other axes.
    """
    columns = max(1, len(result.slices))
    has_nuisance = bool(result.design.nuisance_axes)
    figure = Figure(figsize=(7.0 * columns, 5.8 if has_nuisance else 4.8), layout="constrained")
    rows = 2 if has_nuisance else 1
    panels = figure.subplots(rows, columns, squeeze=False, sharex="col", height_ratios=[4, 1][:rows])
    for column, part in enumerate(result.slices):
        _draw_curve(panels[0][column], result, part)
        if has_nuisance:
            _draw_nuisance(panels[1][column], result, part)
        panels[-1][column].set_xlabel(_label(result.design.axes[0][0]))
    handles, labels = panels[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _label(path: str) -> str:
    return _LABELS.get(path, path)


def _draw_curve(ax: Axes, result: StudyAnswer, part: Slice) -> None:
    design = result.design
    axis, grid = design.axes[0]
    ax.set_xscale("log", base=2)
    ax.set_xticks([float(v) for v in grid], [f"{v:g}" for v in grid], fontsize=8)
    ax.minorticks_off()
    if len(part.untuned):
        untuned = mean_curve(part.untuned, axis, design)
        setting = ", ".join(f"{_short(path)} {value:g}" for path, value in part.untuned_setting.items())
        label = f"untuned: {setting}, validation split"
        ax.plot(untuned[axis], untuned["mean"], ":", color="0.55", lw=1.3, marker="x", ms=4, label=label)
    if len(part.frame):
        means = mean_curve(part.frame, axis, design)
        values = outcome_values(part.frame, design.criterion, design.num_classes)
        ax.plot(part.frame[axis], values, "o", color=_DATA, alpha=0.3, ms=3.5, mew=0)
        ax.errorbar(
            means[axis], means["mean"], means["std"], fmt="o", color=_DATA, ms=5.5, lw=1.3, capsize=2.5,
            label=f"mean and s.d. of {result.num_seeds} seeds",
        )  # fmt: skip
    if part.fit is not None:
        _draw_fit(ax, part.fit, _FLOOR_NAMES[design.criterion.floor], has_numbers=not part.others)
    title = f"{design.study} · {design.dataset}"
    if part.others:
        title += " · " + ", ".join(f"{_label(path)} {value}" for path, value in part.others.items())
        # The common legend has room for one panel's threshold alone.
        if part.fit is not None and part.fit.rising.status is CrossingStatus.FOUND:
            title += f"\nthreshold {_interval(part.fit.rising)}"
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_ylabel(_label(design.criterion.metric))


def _draw_fit(ax: Axes, fit: CurveFit, floor_name: str, *, has_numbers: bool) -> None:
    ax.fill_between(fit.grid_x, fit.curve_low, fit.curve_high, color=_FIT, alpha=0.16, lw=0)
    ax.plot(fit.grid_x, fit.curve_median, color=_FIT, lw=1.8, label="fit, 95 % band")
    ax.axhline(fit.floor, color="0.6", lw=0.9, ls="--", label=floor_name)
    if np.isfinite(fit.level):
        ax.axhline(fit.level, color=_THRESHOLD, lw=0.9, ls="-.", label="level of the criterion")
    for crossing, colour, name in ((fit.rising, _THRESHOLD, "minimum"), (fit.falling, _FALL, "maximum useful")):
        if crossing.status is CrossingStatus.FOUND:
            _draw_crossing(ax, crossing, colour, f"{name} {_interval(crossing)}" if has_numbers else name)


def _draw_crossing(ax: Axes, crossing: Crossing, colour: str, label: str) -> None:
    assert crossing.estimate is not None
    left, right = ax.get_xlim()
    ax.axvspan(crossing.low or left, crossing.high or right, color=colour, alpha=0.14, lw=0)
    ax.axvline(crossing.estimate, color=colour, lw=1.6, label=label)
    ax.set_xlim(left, right)


def _interval(crossing: Crossing) -> str:
    """The estimate and its interval; an end outside the tried range is open."""
    low, high = ("open" if end is None else _number(end) for end in (crossing.low, crossing.high))
    assert crossing.estimate is not None
    return f"{_number(crossing.estimate)}, 95 % interval {low} to {high}"


def _number(x: float) -> str:
    return f"{x:.0f}" if x >= 10 else f"{x:.2g}"


def _short(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")


def _draw_nuisance(ax: Axes, result: StudyAnswer, part: Slice) -> None:
    path = result.design.nuisance_axes[0][0]
    xs = sorted(part.tuned)
    ax.plot(xs, [part.tuned[x][path] for x in xs], "o-", color=_DATA, ms=4, lw=1)
    ax.plot(
        part.at_edge, [part.tuned[x][path] for x in part.at_edge], "o", color=_FIT, ms=8, mfc="none", label="at edge"
    )
    ax.set_yscale("log")
    tried = sorted({part.tuned[x][path] for x in xs})
    ax.set_yticks(tried, [f"{value:g}" for value in tried])
    ax.minorticks_off()
    ax.margins(y=0.3)
    ax.set_ylabel(_short(path), fontsize=8)
    ax.tick_params(labelsize=8)
    if part.at_edge:
        ax.legend(fontsize=7, frameon=False)
