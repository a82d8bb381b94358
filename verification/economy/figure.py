"""The figure: replicates by the width of the curve."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from verification.economy.report import OURS, with_best

STYLES = {
    OURS: ("#d1495b", "o-"),
    "grid": ("#1b3a57", "s-"),
    "random": ("0.55", "^-"),
    "Optuna TPE": ("#e08e0b", "v-"),
    "Optuna GP": ("#8d6a9f", "D-"),
    "oracle": ("#2a7f62", "x--"),
}
LABELS = {
    OURS: "limit seeking",
    "grid": "uniform grid, best of three spacings",
    "oracle": "best fixed design that knows the curve",
}


def draw(frame: pd.DataFrame, condition: list[str]) -> Figure:
    """A panel per noise: medians as lines, quartiles as bars; hollow where at least half of the runs were capped."""
    found = with_best(frame, condition)
    noises = sorted(found["noise sd"].unique())
    figure = Figure(figsize=(4.4 * len(noises), 4.2), layout="constrained")
    for ax, noise_sd in zip(np.atleast_1d(figure.subplots(1, len(noises), sharey=True)), noises, strict=True):
        for index, name in enumerate((*STYLES,)):
            runs = found[(found["method"] == name) & (found["noise sd"] == noise_sd)].groupby("width")
            if not len(runs):
                continue
            low, middle, high = (runs["num_replicates"].quantile(q) for q in (0.25, 0.5, 0.75))
            colour, style = STYLES[name]
            x = middle.index.to_numpy() * 2 ** (0.05 * (index - 2.5))
            ax.errorbar(
                x, middle, [middle - low, high - middle], fmt=style, color=colour, ms=5, lw=1.5, capsize=2.5,
                label=LABELS.get(name, name),
            )  # fmt: skip
            is_capped = runs["is_capped"].mean().to_numpy() >= 0.5
            ax.plot(x[is_capped], middle[is_capped], style[0], color=colour, mfc="white", ms=5, zorder=3)
        widths = sorted(found["width"].unique())
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(widths, [f"{width:g}" for width in widths])
        ticks = [5, 10, 20, 40, 80, 120]
        ax.set_yticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("10-90 % width of the curve (octaves)")
        ax.set_title(f"s.d. of a replicate {noise_sd:g}", fontsize=10, loc="left")
    figure.axes[0].set_ylabel("replicates until ± 1/4 octave")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure
