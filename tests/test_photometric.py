"""Colour and noise of views: grey stays grey, luma stays, and the noise of every row is normal and its own."""

import colorsys
import math

import pytest
import torch

from study.recipes.contrastive.config import ViewsConfig
from study.recipes.contrastive.data.photometric import NOISE_SD, hashed_normals, photometric
from study.recipes.contrastive.data.view_columns import Column

LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
COLOUR_ALONE = {
    name: ViewsConfig(brightness=0.0, contrast=0.0, **{name: 1.0}) for name in ("saturation", "hue", "grayscale")
}
COLOUR = ViewsConfig(brightness=0.0, contrast=0.0, saturation=1.0, hue=1.0, grayscale=1.0)


def uniforms(num_rows: int, **columns: float) -> torch.Tensor:
    drawn = torch.rand(num_rows, len(Column), generator=torch.Generator().manual_seed(5))
    for name, value in columns.items():
        drawn[:, Column[name.upper()]] = value
    return drawn


def pictures(num_rows: int = 40, num_channels: int = 3) -> torch.Tensor:
    """Floats away from 0 and 1, so that nothing is clipped."""
    generator = torch.Generator().manual_seed(6)
    return 0.35 + 0.3 * torch.rand(num_rows, num_channels, 8, 8, generator=generator)


@pytest.mark.parametrize("ranges", COLOUR_ALONE.values(), ids=COLOUR_ALONE)
def test_images_of_one_channel_ignore_colour(ranges: ViewsConfig) -> None:
    x = pictures(num_channels=1)
    assert torch.equal(photometric(x.clone(), uniforms(40), torch.ones(40), ranges), x)


@pytest.mark.parametrize("ranges", COLOUR_ALONE.values(), ids=COLOUR_ALONE)
def test_colour_keeps_grey_pixels_and_the_luma_of_all(ranges: ViewsConfig) -> None:
    x, strengths = pictures(), torch.linspace(0.5, 1.5, 40)
    x[:, :, :4] = x[:, :1, :4]
    viewed = photometric(x.clone(), uniforms(40), strengths, ranges)
    torch.testing.assert_close(viewed[:, :, :4], x[:, :, :4], atol=1e-6, rtol=0)
    torch.testing.assert_close((viewed * LUMA).sum(1), (x * LUMA).sum(1), atol=1e-5, rtol=0)
    assert float((viewed - x).abs().max()) > 0.02


def test_a_grey_view_has_equal_channels_whatever_its_hue() -> None:
    x = pictures()
    viewed = photometric(x.clone(), uniforms(40, grayscale=0.19), torch.ones(40), COLOUR)
    torch.testing.assert_close(viewed, (x * LUMA).sum(1, keepdim=True).expand_as(x), atol=1e-6, rtol=0)
    coloured = photometric(x.clone(), uniforms(40, grayscale=0.21), torch.ones(40), COLOUR)
    assert float((coloured[:, 0] - coloured[:, 1]).abs().mean()) > 0.05


def test_grey_views_become_more_likely_up_to_one_fifth() -> None:
    drawn, x = uniforms(4000), pictures(4000)
    for strength, share in ((0.25, 0.05), (0.5, 0.1), (1.0, 0.2), (1.5, 0.2)):
        viewed = photometric(x.clone(), drawn, torch.full((4000,), strength), COLOUR_ALONE["grayscale"])
        is_grey = (viewed[:, 0] - viewed[:, 1]).abs().amax(dim=(-2, -1)) < 1e-5
        assert float(is_grey.float().mean()) == pytest.approx(share, abs=0.02)


def test_saturation_scales_the_distance_from_grey() -> None:
    x = pictures()
    grey = (x * LUMA).sum(1, keepdim=True)
    viewed = photometric(x.clone(), uniforms(40, saturation=1.0), torch.full((40,), 0.5), COLOUR_ALONE["saturation"])
    torch.testing.assert_close(viewed, grey + 1.2 * (x - grey), atol=1e-5, rtol=0)
    strongest = ViewsConfig(brightness=0.0, contrast=0.0, saturation=2.0)
    viewed = photometric(x.clone(), uniforms(40, saturation=0.0), torch.full((40,), 1.5), strongest)
    torch.testing.assert_close(viewed, grey.expand_as(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("uniform", "is_towards_green"), [(0.0, True), (1.0, False)])
def test_hue_turns_red_either_way_by_about_its_range(uniform: float, is_towards_green: bool) -> None:
    x = torch.full((1, 3, 8, 8), 0.5)
    x[:, 0] += 0.1
    viewed = photometric(x.clone(), uniforms(1, hue=uniform), torch.ones(1), COLOUR_ALONE["hue"])
    turns = colorsys.rgb_to_hsv(*viewed[0, :, 0, 0].tolist())[0]
    # Red has hue 0 in HSV, and green 1/3. A turn in the chroma plane of YIQ is near one of HSV.
    assert min(turns, 1 - turns) == pytest.approx(0.1, abs=0.05)
    assert (turns < 0.5) == is_towards_green


def test_a_turn_of_the_hue_there_and_back_is_the_image_again() -> None:
    x, strengths = pictures(), torch.linspace(0, 1, 40)
    there = photometric(x.clone(), uniforms(40, hue=0.75), strengths, COLOUR_ALONE["hue"])
    back = photometric(there.clone(), uniforms(40, hue=0.25), strengths, COLOUR_ALONE["hue"])
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)


def test_all_of_colour_is_its_formula_pixel_by_pixel() -> None:
    x, drawn, strengths = pictures(6).double(), uniforms(6), torch.linspace(0.2, 1.5, 6).double()
    viewed = photometric(x.clone(), drawn, strengths, COLOUR)
    yiq = torch.tensor(
        [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=torch.float64
    )
    for row, (image, strength) in enumerate(zip(x, strengths.tolist(), strict=True)):
        saturation = 1 + 0.4 * strength * (2 * float(drawn[row, Column.SATURATION]) - 1)
        if float(drawn[row, Column.GRAYSCALE]) < 0.2 * min(strength, 1):
            saturation = 0.0
        angle = 2 * math.pi * 0.1 * strength * (2 * float(drawn[row, Column.HUE]) - 1)
        luma, i, q = torch.einsum("ij,jhw->ihw", yiq, image)
        chroma = torch.complex(i, q) * saturation * complex(math.cos(angle), math.sin(angle))
        expected = torch.einsum("ij,jhw->ihw", yiq.inverse(), torch.stack([luma, chroma.real, chroma.imag]))
        torch.testing.assert_close(viewed[row], expected.clamp(0, 1), atol=1e-9, rtol=0)


def test_noise_is_standard_normal() -> None:
    normals = hashed_normals(uniforms(500), 28 * 28).double()
    count = normals.numel()
    assert float(normals.mean()) == pytest.approx(0, abs=4 / count**0.5)
    assert float(normals.var()) == pytest.approx(1, abs=4 * (2 / count) ** 0.5)
    assert float(normals.pow(3).mean()) == pytest.approx(0, abs=4 * (15 / count) ** 0.5)
    assert float(normals.pow(4).mean()) == pytest.approx(3, abs=4 * (96 / count) ** 0.5)
    # Kolmogorov's distance exceeds 1.95 / sqrt(n) once in a thousand.
    levels = torch.special.ndtr(normals.flatten().sort().values)
    assert float((levels - (torch.arange(count) + 0.5) / count).abs().max()) < 1.95 / count**0.5


def test_noise_of_rows_and_pixels_is_uncorrelated() -> None:
    drawn = uniforms(300)
    # Neighbouring keys are the hardest case for a hash.
    drawn[:, Column.NOISE_HIGH] = 0.5
    drawn[:, Column.NOISE_LOW] = torch.arange(300) / 2**24
    normals = hashed_normals(drawn, 400).double()
    for values, num_samples in ((normals, 400), (normals.T, 300), (normals.square() - 1, 400)):
        correlations = torch.corrcoef(values).fill_diagonal_(0)
        # The largest of about 10^5 normal correlations lies 4.3 standard deviations out, rarely beyond 6 (a square's
        # tails are heavier).
        assert float(correlations.abs().max()) < 8 / num_samples**0.5
        assert float(correlations.square().mean()) == pytest.approx(1 / num_samples, rel=0.05)


@pytest.mark.parametrize("column", [Column.NOISE_LOW, Column.NOISE_HIGH])
def test_every_bit_of_a_rows_noise_uniforms_counts(column: Column) -> None:
    drawn = uniforms(2, noise_low=0.25, noise_high=0.25)
    assert torch.equal(*hashed_normals(drawn, 64))
    drawn[1, column] += 2**-24
    first, second = hashed_normals(drawn, 2000)
    assert abs(float((first * second).mean())) < 4 / 2000**0.5


@pytest.mark.parametrize("num_pixels", [1, 63, 64])
def test_noise_takes_any_number_of_pixels(num_pixels: int) -> None:
    normals = hashed_normals(uniforms(3), num_pixels)
    assert normals.shape == (3, num_pixels)
    assert bool(normals.isfinite().all())


def test_noise_grows_linearly_with_strength() -> None:
    noise = ViewsConfig(brightness=0.0, contrast=0.0, noise=1.0)
    x, drawn = torch.full((200, 1, 28, 28), 0.5), uniforms(200)
    for strength in (0.0, 0.5, 1.0):
        viewed = photometric(x.clone(), drawn, torch.full((200,), strength), noise)
        assert float((viewed - x).std()) == pytest.approx(NOISE_SD * strength, rel=0.01)
