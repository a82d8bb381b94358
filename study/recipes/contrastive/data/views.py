"""Random views of a batch of tensors on its device, with per-sample parameters and a scalar strength.

Shape suffixes: B rows, C channels, H height, W width, d dimensions, P view parameters.

Drawing and applying are apart: the uniforms of a **global** batch are drawn on the CPU from a named stream and
then sliced, so a row's view depends neither on the worker that applies it nor on the strength of its neighbours.
What each transform does is in geometric.py and photometric.py, with what strength 1 means.
"""

import math

import torch
import torch.nn.functional as F

from study.recipes.contrastive.config import ViewsConfig
from study.recipes.contrastive.data.geometric import geometric
from study.recipes.contrastive.data.photometric import photometric
from study.recipes.contrastive.data.view_columns import NUM_BASIC, NUM_FURTHER, has_further_columns

DEFAULT_RANGES = ViewsConfig()

# On a CPU, blocks whose intermediate images stay in the cache (1 MiB of float32) are three times as fast as a large
# batch at once, whose every intermediate is fresh memory from the system.
_BLOCK_VALUES = 2**18


def draw_view_parameters(
    num_rows: int,
    input_shape: tuple[int, ...],
    generator: torch.Generator,
    num_draws: int = 1,
    ranges: ViewsConfig = DEFAULT_RANGES,
) -> torch.Tensor:
    """Raw randomness of ``num_draws`` x ``num_rows`` views on the CPU, independent of the strength.

    Uniforms (num_draws, B, P) for images, standard normals (num_draws, B, d) for vectors. P is 7, and 14 where
    ``ranges`` has saturation, hue, grayscale, blur or noise; the first 7 do not depend on it.
    """
    if len(input_shape) == 1:
        return torch.randn(num_draws, num_rows, input_shape[0], generator=generator)
    basic = torch.rand(num_draws, num_rows, NUM_BASIC, generator=generator)
    if not has_further_columns(ranges):
        return basic
    return torch.cat([basic, torch.rand(num_draws, num_rows, NUM_FURTHER, generator=generator)], dim=-1)


def apply_views(
    inputs: torch.Tensor,
    parameters: torch.Tensor,
    strength_B: torch.Tensor,
    flip: bool,
    ranges: ViewsConfig = DEFAULT_RANGES,
) -> torch.Tensor:
    """One view of each row: images float in [0, 1] (B, C, H, W), or unit vectors (B, d).

    Args:
        inputs: uint8 images (B, C, H, W) or float sources (B, d).
        parameters: rows of :func:`draw_view_parameters` with the same ``ranges``, (B, P) or (B, d).
        strength_B: strength of each row; at 0 an image comes back unchanged.
        flip: whether the classes survive a horizontal flip (digits do not).
        ranges: what a view of an image may change, and how far; a range of 0 costs nothing.
    """
    if inputs.dim() == 2:
        noise = parameters * (strength_B[:, None] / math.sqrt(inputs.shape[1]))
        return F.normalize(inputs + noise, dim=-1)
    needed = NUM_BASIC + NUM_FURTHER * has_further_columns(ranges)
    assert parameters.shape[1] >= needed, "parameters were drawn for other ranges"
    num_rows, image_shape = len(inputs), inputs.shape[1:]
    block = num_rows if inputs.is_cuda else max(1, _BLOCK_VALUES // math.prod(image_shape))
    if block >= num_rows:
        return _image_views(inputs, parameters, strength_B, flip, ranges)
    views = torch.empty(inputs.shape, dtype=strength_B.dtype, device=inputs.device)
    for rows in (slice(start, start + block) for start in range(0, num_rows, block)):
        views[rows] = _image_views(inputs[rows], parameters[rows], strength_B[rows], flip, ranges)
    return views


def _image_views(
    images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor, flip: bool, ranges: ViewsConfig
) -> torch.Tensor:
    scaled = images_BCHW.to(strength_B.dtype) / 255
    return photometric(geometric(scaled, uniforms_BP, strength_B, flip, ranges), uniforms_BP, strength_B, ranges)
