"""Figures of two axes: a metric over a plane of points, and boundaries in it."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.answers.answer import StudyAnswer
from study.answers.figure_labels import FIT_COLOUR, axis_label, law_colour, metric_label, title_of
from study.answers.fits import sought_crossings
from study.answers.frames import outcome_values
from study.answers.slices import mean_curve
from study.formatting import count_range
from study.inference.boundary import BoundaryFit
from study.inference.statements import CrossingStatus


def draw_plane(result: StudyAnswer) -> Figure:
    """The metric over both axes, the measured boundary with its intervals, and the laws' boundaries."""
    design = result.design
    x_axis, y_axis = design.axes
    x_path, y_path, x_values, y_values = x_axis.path, y_axis.path, x_axis.values, y_axis.values
    figure = Figure(figsize=(7.0, 5.4), layout="constrained")
    ax = figure.subplots()
    ax.set(xscale="log", yscale="log", xlabel=axis_label(design, x_path), ylabel=axis_label(design, y_path))
    parts = [part for part in result.slices if part.criterion is design.criterion and len(part.frame)]
    means = [mean_curve(part.frame, x_path, design).set_index(x_path)["mean"] for part in parts]
    heights = [float(part.others[y_path]) for part in parts]
    if means:
        plane = pd.DataFrame(dict(zip(heights, means, strict=True))).T
        mesh = ax.pcolormesh(
            plane.columns.to_numpy(float), plane.index.to_numpy(float), plane.to_numpy(float),
            cmap="Blues", vmin=0, vmax=1, shading="nearest",
        )  # fmt: skip
        figure.colorbar(mesh, label=metric_label(design, design.criterion.metric))
    crossings = [None if part.fit is None else sought_crossings(part.fit, design.flank)[0] for part in parts]
    found = [(c, y) for c, y in zip(crossings, heights, strict=True) if c and c.status is CrossingStatus.FOUND]
    if found:
        middle = np.array([c.estimate for c, _ in found], float)
        left, right = ax.get_xlim()
        low = np.array([c.low if c.low is not None else left for c, _ in found])
        high = np.array([c.high if c.high is not None else right for c, _ in found])
        ax.errorbar(
            middle, [y for _, y in found], xerr=[middle - low, high - middle], fmt="o-", color=FIT_COLOUR, ms=5, lw=1.4,
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
            ax.plot(xs, ys, style, color=law_colour(design.laws, name), lw=1.8, label=f"law {name}")
    ax.set_xticks(x_values, [f"{x:g}" for x in x_values])
    ax.set_yticks(y_values, [f"{y:g}" for y in y_values])
    ax.minorticks_off()
    ax.set_title(" · ".join(filter(None, (design.study, design.variant, design.dataset))), fontsize=10, loc="left")
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def draw_boundaries(result: StudyAnswer) -> Figure:
    """A panel per boundary: its median and band, what was measured where and how often, and the laws' boundaries."""
    design = result.design
    x_axis, y_axis, *_ = design.axes
    x_path, y_path, x_values, y_values = x_axis.path, y_axis.path, x_axis.values, y_axis.values
    count = max(1, len(result.planes))
    columns = min(count, 2)
    figure = Figure(figsize=(7.0 * columns, 5.4 * -(-count // columns)), layout="constrained")
    panels = figure.subplots(-(-count // columns), columns, squeeze=False)
    for ax in panels.flat[len(result.planes) :]:
        ax.set_axis_off()
    named: dict[str, Artist] = {}
    for ax, plane in zip(panels.flat, result.planes, strict=False):
        ax.set(xscale="log", yscale="log", xlabel=axis_label(design, x_path), ylabel=axis_label(design, y_path))
        if len(plane.frame):
            values = plane.frame.assign(value=outcome_values(plane.frame, plane.criterion, design.recipe))
            points = values.groupby([x_path, y_path])["value"].agg(["mean", "count"]).reset_index()
            dots = ax.scatter(
                points[x_path], points[y_path], 18.0 * points["count"], points["mean"],
                cmap="Blues", vmin=0, vmax=1, edgecolors="0.4", linewidths=0.6, zorder=3,
                label=f"measured (area: {count_range(points['count'].min(), points['count'].max(), 'replicate')})",
            )  # fmt: skip
            figure.colorbar(dots, ax=ax, label=metric_label(design, plane.criterion.metric))
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
                ax.plot(xs, ys, style, color=law_colour(design.laws, name), lw=1.8, label=f"law {name}")
        for axis, ticks in ((ax.xaxis, x_values), (ax.yaxis, y_values)):
            axis.set_ticks(ticks, [f"{value:g}" for value in ticks])
        ax.minorticks_off()
        places_ = "".join(f" · {value}" for value in plane.others.values())
        more = f" · {plane.criterion.sentence}" if len(design.criteria) > 1 else ""
        ax.set_title(f"{title_of(design)}{places_}{more}", fontsize=10, loc="left")
        handles, labels = ax.get_legend_handles_labels()
        named |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in named}
    if named:
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _draw_boundary(ax: Axes, fit: BoundaryFit, measured: pd.Series, criterion: str) -> None:
    """Median and band; a side outside the measured range is drawn at its end, an absent boundary not at all."""
    low, high = (np.clip(side, measured.min(), measured.max()) for side in (fit.low, fit.high))
    is_known = ~np.isnan(fit.low)
    ax.fill_betweenx(fit.grid_y, low, high, where=is_known, color=FIT_COLOUR, alpha=0.2, lw=0, label="95 % band")
    median = np.where(np.isfinite(fit.median), fit.median, np.nan)
    ax.plot(median, fit.grid_y, color=FIT_COLOUR, lw=1.8, label=f"boundary: {criterion}")
