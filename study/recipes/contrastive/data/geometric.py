"""Crop, flip, rotation and blur of a batch of images: every one a linear resampling, with per-sample parameters.

Shape suffixes: B rows, C channels, H height, W width, P view parameters, N pixels along one axis.

Without rotation a view is separable: ``rows @ image @ columns.mT`` with per-sample matrices of bilinear weights, into
which flip and blur multiply. On one core that takes half the time of ``grid_sample``, which a rotation needs.
"""

import math

import torch
import torch.nn.functional as F

from study.recipes.contrastive.config import ViewsConfig
from study.recipes.contrastive.data.view_columns import Column

# What strength 1 means; every range grows linearly with strength, the crop's in log area.
LOG_AREA_RANGE = 1.2
ROTATION_DEGREES = 30.0
FLIP_PROBABILITY = 0.5
# A blurred image has a Gaussian of standard deviation uniform in [0, BLUR_SIDE_SHARE * strength] of the shorter side:
# up to 2 pixels at side 32. The probabilities grow up to strength 1.
BLUR_PROBABILITY = 0.5
BLUR_SIDE_SHARE = 1 / 16


def geometric(
    images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor, flip: bool, ranges: ViewsConfig
) -> torch.Tensor:
    """Crop (as area scale and shift), rotation, flip and then blur; pixels from outside the image are 0."""
    weights: list[tuple[torch.Tensor, torch.Tensor]] = []
    if ranges.rotation:
        images_BCHW = _rotated(images_BCHW, uniforms_BP, strength_B, flip, ranges)
    elif ranges.crop:
        weights.append(_crop_weights(images_BCHW, uniforms_BP, strength_B, flip, ranges))
    elif flip and ranges.flip:
        is_flipped_B = _mirror(uniforms_BP, strength_B, flip, ranges) < 0
        images_BCHW = torch.where(is_flipped_B[:, None, None, None], images_BCHW.flip(-1), images_BCHW)
    if ranges.blur:
        weights.append(_blur_weights(images_BCHW, uniforms_BP, strength_B, ranges))
    if not weights:
        return images_BCHW
    rows_BHH, columns_BWW = weights[0]
    for next_BHH, next_BWW in weights[1:]:
        rows_BHH, columns_BWW = next_BHH @ rows_BHH, next_BWW @ columns_BWW
    num_channels, height = images_BCHW.shape[1:3]
    across = torch.bmm(images_BCHW.flatten(1, 2), columns_BWW.mT).unflatten(1, (num_channels, height))
    return rows_BHH[:, None] @ across


def _side(uniforms_BP: torch.Tensor, strength_B: torch.Tensor, ranges: ViewsConfig) -> torch.Tensor:
    """Side of the crop as a share of the image's."""
    return torch.exp(-0.5 * (LOG_AREA_RANGE * ranges.crop) * strength_B * uniforms_BP[:, Column.SCALE])


def _shift(side_B: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """Centre of the crop along one axis on which the image reaches from -1 to 1."""
    return (1 - side_B) * (2 * uniform_B - 1)


def _mirror(uniforms_BP: torch.Tensor, strength_B: torch.Tensor, flip: bool, ranges: ViewsConfig) -> torch.Tensor:
    """-1 for rows that are flipped, else 1."""
    mirror = torch.ones_like(strength_B)
    if flip:
        probability = FLIP_PROBABILITY * ranges.flip * strength_B.clamp(max=1)
        mirror = torch.where(uniforms_BP[:, Column.FLIP] < probability, -1.0, 1.0).to(strength_B.dtype)
    return mirror


def _rotated(
    images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor, flip: bool, ranges: ViewsConfig
) -> torch.Tensor:
    """Crop, rotation and flip in one bilinear resampling on a grid."""
    side = _side(uniforms_BP, strength_B, ranges)
    angle = math.radians(ROTATION_DEGREES * ranges.rotation) * strength_B * (2 * uniforms_BP[:, Column.ROTATION] - 1)
    mirror = _mirror(uniforms_BP, strength_B, flip, ranges)
    cos, sin = side * torch.cos(angle), side * torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, _shift(side, uniforms_BP[:, Column.SHIFT_X])], dim=-1),
            torch.stack([sin * mirror, cos, _shift(side, uniforms_BP[:, Column.SHIFT_Y])], dim=-1),
        ],
        dim=-2,
    )
    grid = F.affine_grid(theta, list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _crop_weights(
    images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor, flip: bool, ranges: ViewsConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices (B, H, H) and (B, W, W) of crop and flip."""
    height, width = images_BCHW.shape[-2:]
    side = _side(uniforms_BP, strength_B, ranges)
    mirror = _mirror(uniforms_BP, strength_B, flip, ranges)
    return (
        _bilinear_weights(side, _shift(side, uniforms_BP[:, Column.SHIFT_Y]), height),
        _bilinear_weights(side * mirror, _shift(side, uniforms_BP[:, Column.SHIFT_X]), width),
    )


def _bilinear_weights(scale_B: torch.Tensor, shift_B: torch.Tensor, num_pixels: int) -> torch.Tensor:
    """Weights (B, N, N) of source pixels (last) in target pixels along one axis, as ``grid_sample`` has them."""
    pixels_N = torch.arange(num_pixels, dtype=scale_B.dtype, device=scale_B.device)
    centre = (num_pixels - 1) / 2
    # In this form a scale of 1 or -1 without shift gives whole numbers: the image, or its mirror image, exactly.
    source_BN = scale_B[:, None] * (pixels_N - centre) + (centre + shift_B * (num_pixels / 2))[:, None]
    return source_BN[:, :, None].sub(pixels_N).abs_().neg_().add_(1).clamp_(min=0)


def _blur_weights(
    images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor, ranges: ViewsConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices (B, H, H) and (B, W, W) of a Gaussian blur; the identity for rows without."""
    height, width = images_BCHW.shape[-2:]
    is_blurred = uniforms_BP[:, Column.BLUR] < BLUR_PROBABILITY * strength_B.clamp(max=1)
    widest_B = BLUR_SIDE_SHARE * min(height, width) * ranges.blur * strength_B
    sigma_B = widest_B * uniforms_BP[:, Column.BLUR_WIDTH] * is_blurred
    rows_BHH = _gaussian_weights(sigma_B, height)
    return rows_BHH, rows_BHH if width == height else _gaussian_weights(sigma_B, width)


def _gaussian_weights(sigma_B: torch.Tensor, num_pixels: int) -> torch.Tensor:
    """Gaussian weights (B, N, N) along one axis; each row sums to 1, so that a constant image stays what it is."""
    offsets = torch.arange(1 - num_pixels, num_pixels, dtype=sigma_B.dtype, device=sigma_B.device)
    # The least variance leaves neighbours a weight of exp(-5000), which is 0: sigma 0 is the identity.
    kernel = torch.exp(offsets.square() / (-2 * sigma_B.square().clamp(min=1e-4))[:, None])
    weights_BNN = kernel.unfold(1, num_pixels, 1).flip(1)
    return weights_BNN / weights_BNN.sum(-1, keepdim=True)
