"""Colour and noise of a batch of images on its device, with per-sample parameters; images are changed in place.

Shape suffixes: B rows, C channels, H height, W width, P view parameters, K pairs of normals.
"""

import math

import torch

from study.recipes.contrastive.config import ViewsConfig
from study.recipes.contrastive.data.view_columns import Column

# What strength 1 means; every range grows linearly with strength. The four of colour are SimCLR's for small images
# (0.8, 0.8, 0.8, 0.2 at half strength).
BRIGHTNESS_RANGE = 0.4
CONTRAST_RANGE = 0.4
SATURATION_RANGE = 0.4
HUE_RANGE_TURNS = 0.1
# Grows up to strength 1.
GRAYSCALE_PROBABILITY = 0.2
# Standard deviation, where pixels lie in [0, 1].
NOISE_SD = 0.1

_LUMA = (0.299, 0.587, 0.114)
_CHROMA = ((0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))

_WORD = 2**32 - 1


def photometric(
    images_BCHW: torch.Tensor, uniforms_BP: torch.Tensor, strength_B: torch.Tensor, ranges: ViewsConfig
) -> torch.Tensor:
    """Contrast, brightness, colour (three channels only) and noise, clipped to [0, 1] once, at the end."""

    def factor(column: Column, width: float) -> torch.Tensor:
        return (1 + width * strength_B * (2 * uniforms_BP[:, column] - 1)).clamp(min=0)[:, None, None, None]

    if ranges.contrast:
        # Around each image's own mean.
        mean = images_BCHW.mean(dim=(-3, -2, -1), keepdim=True)
        images_BCHW.sub_(mean).mul_(factor(Column.CONTRAST, CONTRAST_RANGE * ranges.contrast)).add_(mean)
    if ranges.brightness:
        images_BCHW.mul_(factor(Column.BRIGHTNESS, BRIGHTNESS_RANGE * ranges.brightness))
    if images_BCHW.shape[1] == 3 and (ranges.saturation or ranges.hue or ranges.grayscale):
        matrices = _colour_matrices(uniforms_BP, strength_B, ranges)
        images_BCHW = torch.bmm(matrices, images_BCHW.flatten(2)).view_as(images_BCHW)
    if ranges.noise:
        normals = hashed_normals(uniforms_BP, images_BCHW[0].numel()).to(images_BCHW.dtype).view_as(images_BCHW)
        images_BCHW.addcmul_(normals, (NOISE_SD * ranges.noise * strength_B)[:, None, None, None])
    return images_BCHW.clamp_(0, 1)


def _colour_matrices(uniforms_BP: torch.Tensor, strength_B: torch.Tensor, ranges: ViewsConfig) -> torch.Tensor:
    """(B, 3, 3) for RGB: chroma of YIQ scaled by the saturation and turned by the hue, luma kept.

    Where s is the saturation and h the hue, C the projection onto chroma along grey and J C a quarter turn of it:
    ``1 + (s cos h - 1) C + s sin h (J C)``, exactly 1 at strength 0. Grayscale is s = 0.
    """
    saturation = 1 + SATURATION_RANGE * ranges.saturation * strength_B * (2 * uniforms_BP[:, Column.SATURATION] - 1)
    probability = GRAYSCALE_PROBABILITY * ranges.grayscale * strength_B.clamp(max=1)
    is_grey = uniforms_BP[:, Column.GRAYSCALE] < probability
    saturation = saturation.clamp(min=0).masked_fill(is_grey, 0.0)[:, None, None]
    turns = HUE_RANGE_TURNS * ranges.hue * strength_B * (2 * uniforms_BP[:, Column.HUE] - 1)
    hue = (2 * math.pi * turns)[:, None, None]
    yiq = torch.tensor([_LUMA, *_CHROMA], dtype=torch.float64)
    identity = torch.eye(3, dtype=torch.float64)
    chroma = identity - yiq[:1].expand(3, 3)
    quarter_turn = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    turned = torch.linalg.solve(yiq, quarter_turn @ yiq)
    identity, chroma, turned = torch.stack([identity, chroma, turned]).to(strength_B)
    return identity + (saturation * hue.cos() - 1) * chroma + saturation * hue.sin() * turned


def hashed_normals(uniforms_BP: torch.Tensor, num_pixels: int) -> torch.Tensor:
    """Standard normals (B, num_pixels), float32: a hash of each row's two noise uniforms and the pixel's number.

    What a step keeps of its noise is two numbers per row, and a row's noise is its own, whatever shares its batch. The
    hash is the two-round one of the Hash Prospector (its multipliers keep products below 2^63), with one of a row's
    keys before each round; Box and Muller turn two words into two normals.
    """
    # A float32 uniform is a multiple of 2^-24.
    low_B1 = (uniforms_BP[:, Column.NOISE_LOW, None] * 2**24).long()
    high_B1 = (uniforms_BP[:, Column.NOISE_HIGH, None] * 2**24).long() + 2**24
    num_pairs = (num_pixels + 1) // 2
    counter = torch.arange(2 * num_pairs, device=uniforms_BP.device)
    words = _rounds(_rounds(counter) ^ _rounds(low_B1), _rounds(high_B1))
    distance_BK = (words[:, :num_pairs] + 1).float().mul_(2**-32).log_().mul_(-2).sqrt_()
    angle_BK = words[:, num_pairs:].float().mul_(2 * math.pi / 2**32)
    return torch.cat([angle_BK.cos().mul_(distance_BK), angle_BK.sin().mul_(distance_BK)], dim=1)[:, :num_pixels]


def _rounds(words: torch.Tensor, key: torch.Tensor | int = 0) -> torch.Tensor:
    """Hash of 32-bit words, held in int64; ``key`` enters between the two rounds."""
    words = (words >> 16).bitwise_xor_(words).mul_(0x21F0AAAD).bitwise_and_(_WORD).bitwise_xor_(key)
    words = (words >> 15).bitwise_xor_(words).mul_(0x735A2D97).bitwise_and_(_WORD)
    return (words >> 15).bitwise_xor_(words)
