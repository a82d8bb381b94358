"""Random views of a batch of tensors on its device, with per-sample parameters and a scalar strength.

Shape suffixes: B rows, C channels, H height, W width, d dimensions, P view parameters.

Drawing and applying are apart: the uniforms of a **global** batch are drawn on the CPU from a named stream and
then sliced, so a row's view depends neither on the worker that applies it nor on the strength of its neighbours.
"""

import math

import torch
import torch.nn.functional as F

# Columns of the uniforms of one view of an image.
_SCALE, _SHIFT_X, _SHIFT_Y, _ROTATION, _FLIP, _BRIGHTNESS, _CONTRAST = range(7)
NUM_IMAGE_PARAMETERS = 7

# What strength 1 means; every range grows linearly with strength, the crop's in log area.
LOG_AREA_RANGE = 1.2
ROTATION_DEGREES = 30.0
BRIGHTNESS_RANGE = 0.4
CONTRAST_RANGE = 0.4


def draw_view_parameters(
    num_rows: int, input_shape: tuple[int, ...], generator: torch.Generator, num_draws: int = 1
) -> torch.Tensor:
    """Raw randomness of ``num_draws`` x ``num_rows`` views on the CPU, independent of the strength.

    Uniforms (num_draws, B, 7) for images, standard normals (num_draws, B, d) for vectors.
    """
    if len(input_shape) == 1:
        return torch.randn(num_draws, num_rows, input_shape[0], generator=generator)
    return torch.rand(num_draws, num_rows, NUM_IMAGE_PARAMETERS, generator=generator)


def apply_views(inputs: torch.Tensor, parameters: torch.Tensor, strength_B: torch.Tensor, flip: bool) -> torch.Tensor:
    """One view of each row: images float in [0, 1] (B, C, H, W), or unit vectors (B, d).

    Args:
        inputs: uint8 images (B, C, H, W) or float sources (B, d).
        parameters: rows of :func:`draw_view_parameters`, (B, 7) or (B, d).
        strength_B: strength of each row; at 0 an image comes back unchanged.
        flip: whether the classes survive a horizontal flip (digits do not).
    """
    if inputs.dim() == 2:
        noise = parameters * (strength_B[:, None] / math.sqrt(inputs.shape[1]))
        return F.normalize(inputs + noise, dim=-1)
    images = inputs.to(strength_B.dtype) / 255
    return _photometric(_geometric(images, parameters, strength_B, flip), parameters, strength_B)


def _geometric(
    images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor, flip: bool
) -> torch.Tensor:
    """Random resized crop (as area scale and shift), rotation and flip in one bilinear resampling."""
    side = torch.exp(-0.5 * LOG_AREA_RANGE * strength_B * uniforms_BP[:, _SCALE])
    room = 1 - side
    angle = math.radians(ROTATION_DEGREES) * strength_B * (2 * uniforms_BP[:, _ROTATION] - 1)
    mirror = torch.ones_like(side)
    if flip:
        flip_probability = 0.5 * strength_B.clamp(max=1)
        mirror = torch.where(uniforms_BP[:, _FLIP] < flip_probability, -1.0, 1.0).to(side.dtype)
    cos, sin = side * torch.cos(angle), side * torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, room * (2 * uniforms_BP[:, _SHIFT_X] - 1)], dim=-1),
            torch.stack([sin * mirror, cos, room * (2 * uniforms_BP[:, _SHIFT_Y] - 1)], dim=-1),
        ],
        dim=-2,
    )
    grid = F.affine_grid(theta, list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _photometric(images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
    """Brightness and contrast factors, clipped to [0, 1]; contrast turns around each image's own mean."""

    def factor(column: int, width: float) -> torch.Tensor:
        return (1 + width * strength_B * (2 * uniforms_BP[:, column] - 1))[:, None, None, None]

    contrast, brightness = factor(_CONTRAST, CONTRAST_RANGE), factor(_BRIGHTNESS, BRIGHTNESS_RANGE)
    mean = images_BCHW.mean(dim=(-3, -2, -1), keepdim=True)
    return ((images_BCHW - mean) * contrast + mean).mul(brightness).clamp(0, 1)
