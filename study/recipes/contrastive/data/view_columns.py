"""The columns of the raw parameters of an image's view: one uniform in [0, 1) each."""

from enum import IntEnum

from study.recipes.contrastive.config import ViewsConfig


class Column(IntEnum):
    """Where a transform finds its uniform in the parameters (B, P) of :func:`data.views.draw_view_parameters`.

    The second group is drawn only where a transform of it is on, after the first.
    """

    SCALE = 0
    SHIFT_X = 1
    SHIFT_Y = 2
    ROTATION = 3
    FLIP = 4
    BRIGHTNESS = 5
    CONTRAST = 6

    SATURATION = 7
    HUE = 8
    GRAYSCALE = 9
    BLUR = 10
    BLUR_WIDTH = 11
    NOISE_LOW = 12
    NOISE_HIGH = 13


NUM_BASIC = Column.SATURATION.value
NUM_FURTHER = len(Column) - NUM_BASIC


def has_further_columns(ranges: ViewsConfig) -> bool:
    """Whether a transform of the second group is on."""
    return any((ranges.saturation, ranges.hue, ranges.grayscale, ranges.blur, ranges.noise))
