"""Figures of a study's answer.

They look the same for everybody: neither a user's matplotlibrc nor style files nor $MPLBACKEND have a say.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
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

from analysis.answer import StudyAnswer
from analysis.fits import sought_crossings
from analysis.frames import outcome_values
from analysis.laws import LawLine
from analysis.slices import Slice, mean_curve
from study.inference.boundary import BoundaryFit
from study.inference.threshold import Crossing, CrossingStatus, CurveFit
from study.space import RECIPE
from study.words import count_range, short_number

_LABELS = {
    "batch.train": "training batch (rows)",
    "batch.eval": "batch (rows)",
    "model.num_blocks": "blocks",
    "data.strength": "augmentation strength",
    "data.label_fraction": "share of labelled training images",
    "optimizer.learning_rate": "learning rate",
    "horizon.length": "steps",
    "trainer": "method",
    "p": "P (test batches)",
    "s_j": "S_J (test batches)",
    "source_mass": "source mass (test batches)",
    "accuracy_clean": "accuracy (test images)",
    "mean_cosine": "mean cosine at the end",
}
_FLOOR_NAMES = {"before": "before training", "chance": "chance", "zero": "zero"}
_DATA, _FIT, _THRESHOLD, _FALL = "#1b3a57", "#d1495b", "#2a7f62", "#8d6a9f"
# One colour per law of a design, in every panel.
_LAWS = (
    *("#e08e0b", "#5c6b73", "#1f77b4", "#8c564b", "#17becf", "#7f7f00"),
    *("#e377c2", "#005f46", "#9467bd", "#b22222", "#4c72b0", "#2ca02c"),
)
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
            figure = _draw_boundaries(result)
        else:
            figure = _draw_plane(result) if _is_plane(result) else _draw_panels(result)
        if result.dataset_fallback is not None:
            figure.suptitle(result.dataset_words, fontsize=10)
    return figure


def _is_plane(result: StudyAnswer) -> bool:
    axes, has_recipes = result.design.axes, bool(result.design.recipes)
    return len(axes) == 2 and not has_recipes and all(len(v) >= 4 and not isinstance(v[0], str) for _, v in axes)


def _draw_panels(result: StudyAnswer) -> Figure:
    """Replicates, their mean and spread, the fitted curve with its band, the level, the thresholds and the laws.

    A strip below shows the nuisance value chosen at each point. One panel per recipe, value of the other axes and
    criterion.
    """
    count = max(1, len(result.slices))
    columns = min(count, _MAX_COLUMNS)
    has_nuisance = bool(result.design.nuisance_axes)
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
        ax.set_xlabel(_label(result.design.axes[0][0]))
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


def _draw_plane(result: StudyAnswer) -> Figure:
    """The metric over both axes, the measured boundary with its intervals, and the laws' boundaries."""
    design = result.design
    (x_path, x_values), (y_path, y_values) = design.axes
    figure = Figure(figsize=(7.0, 5.4), layout="constrained")
    ax = figure.subplots()
    ax.set(xscale="log", yscale="log", xlabel=_label(x_path), ylabel=_label(y_path))
    parts = [part for part in result.slices if part.criterion is design.criterion and len(part.frame)]
    means = [mean_curve(part.frame, x_path, design).set_index(x_path)["mean"] for part in parts]
    heights = [float(part.others[y_path]) for part in parts]
    if means:
        plane = pd.DataFrame(dict(zip(heights, means, strict=True))).T
        mesh = ax.pcolormesh(
            plane.columns.to_numpy(float), plane.index.to_numpy(float), plane.to_numpy(float),
            cmap="Blues", vmin=0, vmax=1, shading="nearest",
        )  # fmt: skip
        figure.colorbar(mesh, label=_label(design.criterion.metric))
    crossings = [None if part.fit is None else sought_crossings(part.fit, design.flank)[0] for part in parts]
    found = [(c, y) for c, y in zip(crossings, heights, strict=True) if c and c.status is CrossingStatus.FOUND]
    if found:
        middle = np.array([c.estimate for c, _ in found], float)
        left, right = ax.get_xlim()
        low = np.array([c.low if c.low is not None else left for c, _ in found])
        high = np.array([c.high if c.high is not None else right for c, _ in found])
        ax.errorbar(
            middle, [y for _, y in found], xerr=[middle - low, high - middle], fmt="o-", color=_FIT, ms=5, lw=1.4,
            capsize=3, label=f"measured: {design.criterion.sentence}, 95 % interval",
        )  # fmt: skip
    for index, name in enumerate(design.laws):
        points = [
            (line.predicted, y)
            for part, y in zip(parts, heights, strict=True)
            for line in part.laws
            if line.law.name == name and line.predicted is not None
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            style = ("--", "-.", ":")[index % 3]
            ax.plot(xs, ys, style, color=_law_colour(design.laws, name), lw=1.8, label=f"law {name}")
    ax.set_xticks(x_values, [f"{x:g}" for x in x_values])
    ax.set_yticks(y_values, [f"{y:g}" for y in y_values])
    ax.minorticks_off()
    ax.set_title(f"{design.study} · {design.variant} · {design.dataset}", fontsize=10, loc="left")
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _draw_boundaries(result: StudyAnswer) -> Figure:
    """A panel per boundary: its median and band, what was measured where and how often, and the laws' boundaries."""
    design = result.design
    (x_path, x_values), (y_path, y_values), *_ = design.axes
    count = max(1, len(result.planes))
    columns = min(count, 2)
    figure = Figure(figsize=(7.0 * columns, 5.4 * -(-count // columns)), layout="constrained")
    panels = figure.subplots(-(-count // columns), columns, squeeze=False)
    for ax in panels.flat[len(result.planes) :]:
        ax.set_axis_off()
    named: dict[str, Artist] = {}
    for ax, plane in zip(panels.flat, result.planes, strict=False):
        ax.set(xscale="log", yscale="log", xlabel=_label(x_path), ylabel=_label(y_path))
        if len(plane.frame):
            values = plane.frame.assign(value=outcome_values(plane.frame, plane.criterion))
            points = values.groupby([x_path, y_path])["value"].agg(["mean", "count"]).reset_index()
            dots = ax.scatter(
                points[x_path], points[y_path], 18.0 * points["count"], points["mean"],
                cmap="Blues", vmin=0, vmax=1, edgecolors="0.4", linewidths=0.6, zorder=3,
                label=f"measured (area: {count_range(points['count'].min(), points['count'].max(), 'replicate')})",
            )  # fmt: skip
            figure.colorbar(dots, ax=ax, label=_label(plane.criterion.metric))
        if plane.fit is not None:
            _draw_boundary(ax, plane.fit, plane.frame[x_path], plane.criterion.sentence)
        for index, name in enumerate(design.laws):
            places = [
                (line.predicted, height.value)
                for height in plane.heights
                for line in height.laws
                if line.law.name == name and line.predicted is not None
            ]
            if places:
                xs, ys = zip(*places, strict=True)
                style = ("--", "-.", ":")[index % 3]
                ax.plot(xs, ys, style, color=_law_colour(design.laws, name), lw=1.8, label=f"law {name}")
        for axis, ticks in ((ax.xaxis, x_values), (ax.yaxis, y_values)):
            axis.set_ticks(ticks, [f"{value:g}" for value in ticks])
        ax.minorticks_off()
        places_ = "".join(f" · {value}" for value in plane.others.values())
        more = f" · {plane.criterion.sentence}" if len(design.criteria) > 1 else ""
        ax.set_title(f"{design.study} · {design.dataset}{places_}{more}", fontsize=10, loc="left")
        handles, labels = ax.get_legend_handles_labels()
        named |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in named}
    if named:
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _draw_boundary(ax: Axes, fit: BoundaryFit, measured: pd.Series, criterion: str) -> None:
    """Median and band; a side outside the measured range is drawn at its end, an absent boundary not at all."""
    low, high = (np.clip(side, measured.min(), measured.max()) for side in (fit.low, fit.high))
    is_known = ~np.isnan(fit.low)
    ax.fill_betweenx(fit.grid_y, low, high, where=is_known, color=_FIT, alpha=0.2, lw=0, label="95 % band")
    median = np.where(np.isfinite(fit.median), fit.median, np.nan)
    ax.plot(median, fit.grid_y, color=_FIT, lw=1.8, label=f"boundary: {criterion}")


def _label(path: str) -> str:
    return _LABELS.get(path, path)


def _draw_curve(ax: Axes, result: StudyAnswer, part: Slice) -> None:
    design = result.design
    axis = design.axes[0][0]
    if design.scale == "log":
        ax.set_xscale("log", base=2)
    ax.set_xticks(part.grid, [short_number(v, 3) for v in part.grid], fontsize=8)
    ax.minorticks_off()
    if len(part.untuned):
        untuned = mean_curve(part.untuned, axis, design, part.criterion)
        setting = ", ".join(f"{_short(path)} {value:g}" for path, value in part.untuned_setting.items())
        label = f"untuned: {setting}, validation split"
        ax.plot(untuned[axis], untuned["mean"], ":", color="0.55", lw=1.3, marker="x", ms=4, label=label)
    if len(part.frame):
        means = mean_curve(part.frame, axis, design, part.criterion)
        values = outcome_values(part.frame, part.criterion)
        fewest, most = _counts(result)
        shown = "mean and s.d." if part.criterion.share is None else "share"
        label = f"{shown} of {count_range(fewest, most, 'seed')}"
        if fewest < most:
            label = f"{shown} (area: {count_range(fewest, most, 'replicate')})"
        ax.plot(part.frame[axis], values, "o", color=_DATA, alpha=0.3, ms=3.5, mew=0)
        if part.criterion.share is None:
            ax.errorbar(means[axis], means["mean"], means["std"], fmt="none", ecolor=_DATA, lw=1.3, capsize=2.5)
        sizes = 30.0 if fewest == most else 90.0 / most * means["count"]
        ax.scatter(means[axis], means["mean"], sizes, color=_DATA, label=label, zorder=2)
    if part.fit is not None:
        # The common legend has room for one panel's thresholds alone.
        floor_name = _FLOOR_NAMES[part.criterion.floor] if part.criterion.share is None else "fitted floor"
        _draw_fit(ax, part.fit, floor_name, has_numbers=len(result.slices) == 1)
    if part.from_moments is not None:
        predictions = {"encoder": part.from_moments.encoder, "pixels": part.from_moments.raw}
        styles = zip(predictions.items(), ("--", ":"), strict=True)
        for (source, predicted), style in ((item, style) for item, style in styles if item[1]):
            label = f"one identity block by cosines ({source})"
            ax.plot(list(predicted), list(predicted.values()), style, color=_LAWS[0], lw=1.4, label=label)
    for line in part.laws:
        _draw_law(ax, line, _law_colour(design.laws, line.law.name))
    ax.set_title(_title(result, part), fontsize=10 if len(result.slices) <= 3 else 8, loc="left")
    ax.set_ylabel(part.criterion.quantity(_label(part.criterion.metric)))


def _counts(result: StudyAnswer) -> tuple[int, int]:
    """Fewest and most replicates at a point of any slice."""
    axis = result.design.axes[0][0]
    counts = pd.concat([part.frame.groupby(axis).size() for part in result.slices if len(part.frame)])
    return int(counts.min()), int(counts.max())


def _title(result: StudyAnswer, part: Slice) -> str:
    if len(result.slices) == 1:
        return f"{result.design.study} · {result.design.dataset}"
    places = [value if path == RECIPE else f"{_label(path)} {value}" for path, value in part.others.items()]
    title = " · ".join(places)
    if len(result.slices) <= 3:
        title = f"{result.design.study} · {result.design.dataset} · {', '.join(places)}"
    found = [] if part.fit is None else [part.fit.rising, part.fit.falling]
    return title + "".join(f"\nthreshold {c.describe('value')}" for c in found if c.status is CrossingStatus.FOUND)


def _law_colour(names: Sequence[str], name: str) -> str:
    return _LAWS[names.index(name) % len(_LAWS)]


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
    ax.fill_between(fit.grid_x, fit.curve_low, fit.curve_high, color=_FIT, alpha=0.16, lw=0)
    ax.plot(fit.grid_x, fit.curve_median, color=_FIT, lw=1.8, label="fit, 95 % band")
    ax.axhline(fit.floor, color="0.6", lw=0.9, ls="--", label=floor_name)
    if np.isfinite(fit.level):
        ax.axhline(fit.level, color=_THRESHOLD, lw=0.9, ls="-.", label="level of the criterion")
    for crossing, colour, name in ((fit.rising, _THRESHOLD, "minimum"), (fit.falling, _FALL, "maximum useful")):
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
    path = result.design.nuisance_axes[0][0]
    xs = sorted(part.tuned)
    ax.plot(xs, [part.tuned[x][path] for x in xs], "o-", color=_DATA, ms=4, lw=1)
    ax.plot(
        part.at_edge, [part.tuned[x][path] for x in part.at_edge], "o", color=_FIT, ms=8, mfc="none", label="at edge"
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
