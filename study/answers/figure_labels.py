"""What the figures write on axes and titles, and the colours of laws."""

from collections.abc import Sequence

from study.answers.registered import RegisteredDesign

DATA_COLOUR, FIT_COLOUR, LEVEL_COLOUR, FALL_COLOUR = "#1b3a57", "#d1495b", "#2a7f62", "#8d6a9f"
# One colour per law of a design, in every panel.
LAW_COLOURS = (
    *("#e08e0b", "#5c6b73", "#1f77b4", "#8c564b", "#17becf", "#7f7f00"),
    *("#e377c2", "#005f46", "#9467bd", "#b22222", "#4c72b0", "#2ca02c"),
)


def axis_label(design: RegisteredDesign, path: str) -> str:
    """What an axis is called."""
    return design.recipe.quantity(path).label


def title_of(design: RegisteredDesign) -> str:
    """The study, with its data set where it has one."""
    return " · ".join(filter(None, (design.study, design.dataset)))


def metric_label(design: RegisteredDesign, name: str) -> str:
    """What a metric is called."""
    return design.recipe.metric(name).label or name


def law_colour(names: Sequence[str], name: str) -> str:
    """The colour of a law among those of a design."""
    return LAW_COLOURS[names.index(name) % len(LAW_COLOURS)]
