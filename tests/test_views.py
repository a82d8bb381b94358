"""Views: strength 0 shows the image, a row's view is its own, and deviation grows with strength."""

import math

import pytest
import torch

from study.data.datasets import Dataset
from study.data.streams import stream
from study.data.views import NUM_IMAGE_PARAMETERS, apply_views, draw_view_parameters

NUM_ROWS = 64
SHAPES = {"grey": (1, 8, 8), "colour": (3, 32, 32), "oblong": (1, 28, 20)}


def images(shape: tuple[int, ...], num_rows: int = NUM_ROWS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_rows, *shape), generator=generator, dtype=torch.uint8)


def parameters(shape: tuple[int, ...], num_rows: int = NUM_ROWS) -> torch.Tensor:
    return draw_view_parameters(num_rows, shape, stream(1, "views"))[0]


def plain_parameters(**columns: float) -> torch.Tensor:
    """One row of uniforms that change nothing, but for the named columns."""
    names = ["scale", "shift_x", "shift_y", "rotation", "flip", "brightness", "contrast"]
    assert len(names) == NUM_IMAGE_PARAMETERS
    neutral = dict.fromkeys(names, 0.5) | {"scale": 0.0, "flip": 1.0}
    return torch.tensor([list((neutral | columns).values())])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("flip", [True, False])
def test_strength_zero_returns_the_image_unchanged(shape: tuple[int, ...], flip: bool) -> None:
    x = images(shape)
    viewed = apply_views(x, parameters(shape), torch.zeros(NUM_ROWS), flip)
    torch.testing.assert_close(viewed, x / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_view_does_not_depend_on_its_neighbours(shape: tuple[int, ...]) -> None:
    x, uniforms, strengths = images(shape), parameters(shape), torch.linspace(0, 1.5, NUM_ROWS)
    together = apply_views(x, uniforms, strengths, True)
    for rows in (slice(5, 6), slice(7, 30), slice(33, 64, 3)):
        alone = apply_views(x[rows], uniforms[rows], strengths[rows], True)
        torch.testing.assert_close(alone, together[rows], atol=1e-6, rtol=0)


def test_a_view_of_a_vector_does_not_depend_on_its_neighbours() -> None:
    x, normals = torch.randn(2, NUM_ROWS, 16, generator=torch.Generator().manual_seed(0))
    strengths = torch.linspace(0, 3, NUM_ROWS)
    together = apply_views(x, normals, strengths, False)
    torch.testing.assert_close(apply_views(x[7:9], normals[7:9], strengths[7:9], False), together[7:9])


@pytest.mark.parametrize("flip", [True, False])
def test_deviation_grows_with_strength(digits: Dataset, flip: bool) -> None:
    x = digits.train.inputs[:500]
    uniforms = parameters((1, 8, 8), 500)
    deviations = [
        float((apply_views(x, uniforms, torch.full((500,), strength), flip) - x / 255).abs().mean())
        for strength in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    ]
    assert deviations == sorted(deviations)
    assert deviations[0] < 1e-5
    assert deviations[1] > 0.005
    assert deviations[-1] > 5 * deviations[1]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_views_of_images_stay_between_zero_and_one(strength: float) -> None:
    x = images((3, 32, 32))
    x[:8], x[8:16] = 0, 255
    viewed = apply_views(x, parameters((3, 32, 32)), torch.full((NUM_ROWS,), strength), True)
    assert float(viewed.min()) >= 0
    assert float(viewed.max()) <= 1


def test_an_image_flips_only_when_allowed() -> None:
    x = images((1, 8, 8), 1)
    for uniform, is_flipped in ((0.0, True), (0.49, True), (0.51, False)):
        row = plain_parameters(flip=uniform)
        mirrored = x.flip(-1) / 255 if is_flipped else x / 255
        torch.testing.assert_close(apply_views(x, row, torch.ones(1), True), mirrored, atol=1e-5, rtol=0)
        torch.testing.assert_close(apply_views(x, row, torch.ones(1), False), x / 255, atol=1e-5, rtol=0)


def test_flips_become_more_likely_up_to_one_half() -> None:
    x, row = images((1, 8, 8), 1), plain_parameters(flip=0.3)
    shares = [0.2, 0.5, 0.7, 1.0, 1.5]
    flipped = [
        torch.allclose(apply_views(x, row, torch.tensor([strength]), True), x.flip(-1) / 255, atol=1e-5)
        for strength in shares
    ]
    assert flipped == [0.5 * min(strength, 1) > 0.3 for strength in shares]


def test_brightness_and_contrast_follow_their_uniforms() -> None:
    x = torch.randint(90, 160, (1, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain = x / 255
    brighter = apply_views(x, plain_parameters(brightness=1.0), torch.tensor([0.5]), False)
    torch.testing.assert_close(brighter, plain * 1.2)
    flatter = apply_views(x, plain_parameters(contrast=0.0), torch.tensor([1.0]), False)
    torch.testing.assert_close(flatter, plain.mean() + 0.6 * (plain - plain.mean()))


def test_a_crop_shows_the_middle_larger() -> None:
    x = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    x[..., 12:20, 12:20] = 255
    cropped = apply_views(x, plain_parameters(scale=1.0), torch.tensor([1.0]), False)
    assert float(cropped.sum() / (x / 255).sum()) == pytest.approx(math.exp(1.2), rel=0.05)


def test_a_rotation_there_and_back_is_the_image_again() -> None:
    x = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    x[..., 16:48, 28:36] = 255
    there = apply_views(x, plain_parameters(rotation=1.0), torch.tensor([1.0]), False)
    assert float((there - x / 255).abs().mean()) > 0.02
    back = apply_views((there * 255).round().byte(), plain_parameters(rotation=0.0), torch.tensor([1.0]), False)
    assert float((back - x / 255).abs().mean()) < 0.01


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_views_of_a_centre_are_unit_with_cosine_rho(sigma: float) -> None:
    dim = 1024
    centre = torch.zeros(200, dim)
    centre[:, 0] = 1
    viewed = apply_views(centre, parameters((dim,), 200), torch.full((200,), sigma), False)
    torch.testing.assert_close(viewed.norm(dim=-1), torch.ones(200))
    cosine = (viewed.sum(0).square().sum() - 200) / (200 * 199)
    assert float(cosine) == pytest.approx(1 / (1 + sigma**2), abs=0.01)


def test_draws_are_uniform_for_images_and_normal_for_vectors() -> None:
    uniforms = draw_view_parameters(1000, (1, 8, 8), stream(0, "views"), num_draws=3)
    assert uniforms.shape == (3, 1000, NUM_IMAGE_PARAMETERS)
    assert 0 <= float(uniforms.min()) < 0.01 < 0.99 < float(uniforms.max()) < 1
    normals = draw_view_parameters(1000, (5,), stream(0, "views"), num_draws=3)
    assert normals.shape == (3, 1000, 5)
    assert float(normals.mean()) == pytest.approx(0, abs=0.05)
    assert float(normals.std()) == pytest.approx(1, abs=0.05)
