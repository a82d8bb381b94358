"""Views: strength 0 shows the image, a row's view is its own, and deviation grows with strength."""

import dataclasses
import math
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F

from study.designs.values import with_values
from study.recipes.contrastive.config import ReplicateConfig, ViewsConfig
from study.recipes.contrastive.data import geometric
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.view_columns import NUM_BASIC, Column
from study.recipes.contrastive.data.views import apply_views, draw_view_parameters
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import PackBatches, evaluation_set

NUM_ROWS = 64
SHAPES = {"grey": (1, 8, 8), "colour": (3, 32, 32), "oblong": (1, 28, 20)}
TRANSFORMS = [field.name for field in dataclasses.fields(ViewsConfig)]
EVERYTHING = ViewsConfig(**dict.fromkeys(TRANSFORMS, 1.0))
SEPARABLE = dataclasses.replace(EVERYTHING, rotation=0.0)
RANGES = {"default": ViewsConfig(), "everything": EVERYTHING, "separable": SEPARABLE}


def images(shape: tuple[int, ...], num_rows: int = NUM_ROWS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_rows, *shape), generator=generator, dtype=torch.uint8)


def blocky_images(num_rows: int = NUM_ROWS) -> torch.Tensor:
    """Colour images (B, 3, 24, 24) of large saturated blocks, away from black and white."""
    coarse = torch.rand(num_rows, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return (40 + 170 * F.interpolate(coarse, size=24, mode="nearest")).to(torch.uint8)


def only(transform: str, value: float = 1.0) -> ViewsConfig:
    """One transform on."""
    return ViewsConfig(**(dict.fromkeys(TRANSFORMS, 0.0) | {transform: value}))


def parameters(shape: tuple[int, ...], num_rows: int = NUM_ROWS, ranges: ViewsConfig = EVERYTHING) -> torch.Tensor:
    return draw_view_parameters(num_rows, shape, stream(1, "views"), ranges=ranges)[0]


def plain_parameters(**columns: float) -> torch.Tensor:
    """One row of uniforms that change nothing, but for the named columns."""
    neutral = dict.fromkeys((column.name.lower() for column in Column), 0.5)
    neutral |= {"scale": 0.0, "flip": 1.0, "grayscale": 1.0, "blur": 1.0}
    assert neutral.keys() >= columns.keys()
    return torch.tensor([list((neutral | columns).values())])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("ranges", RANGES.values(), ids=RANGES)
def test_strength_zero_returns_the_image_unchanged(shape: tuple[int, ...], flip: bool, ranges: ViewsConfig) -> None:
    x = images(shape)
    viewed = apply_views(x, parameters(shape), torch.zeros(NUM_ROWS), flip, ranges)
    torch.testing.assert_close(viewed, x / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("ranges", RANGES.values(), ids=RANGES)
def test_a_view_does_not_depend_on_its_neighbours(shape: tuple[int, ...], ranges: ViewsConfig) -> None:
    x, uniforms, strengths = images(shape), parameters(shape), torch.linspace(0, 1.5, NUM_ROWS)
    together = apply_views(x, uniforms, strengths, True, ranges)
    for rows in (slice(5, 6), slice(7, 30), slice(33, 64, 3)):
        alone = apply_views(x[rows], uniforms[rows], strengths[rows], True, ranges)
        torch.testing.assert_close(alone, together[rows], atol=1e-5, rtol=0)


def test_blocks_of_a_large_batch_are_not_seen_in_its_views() -> None:
    x, uniforms, strengths = images((3, 32, 32)), parameters((3, 32, 32)), torch.linspace(0, 1.5, NUM_ROWS)
    whole = apply_views(x, uniforms, strengths, True, EVERYTHING)
    with patch("study.recipes.contrastive.data.views._BLOCK_VALUES", 7 * 3 * 32 * 32):
        torch.testing.assert_close(apply_views(x, uniforms, strengths, True, EVERYTHING), whole, atol=1e-5, rtol=0)


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


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_each_transform_alone_deviates_more_with_strength(transform: str) -> None:
    x = blocky_images()
    uniforms = parameters(tuple(x.shape[1:]))
    deviations = [
        float(
            (apply_views(x, uniforms, torch.full((NUM_ROWS,), strength), True, only(transform)) - x / 255).abs().mean()
        )
        for strength in (0.0, 0.25, 0.5, 1.0, 1.5)
    ]
    assert deviations == sorted(deviations)
    assert deviations[0] < 1e-6
    assert deviations[3] > 1.5 * deviations[1] > 0
    assert deviations[3] > 0.005


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_twice_a_range_at_half_the_strength_is_the_range_at_strength_one(transform: str) -> None:
    x = blocky_images()
    uniforms = parameters(tuple(x.shape[1:]))
    halves, one = torch.full((NUM_ROWS,), 0.5), torch.ones(NUM_ROWS)
    twice = apply_views(x, uniforms, halves, True, only(transform, 2.0))
    whole = apply_views(x, uniforms, one, True, only(transform))
    if transform == "blur":
        # Its range widens the blur, not the share of blurred images.
        blurred = uniforms[:, Column.BLUR] < 0.25
        twice, whole = twice[blurred], whole[blurred]
    torch.testing.assert_close(twice, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_range_of_zero_leaves_a_transform_out(transform: str) -> None:
    x, strengths = blocky_images(), torch.full((NUM_ROWS,), 1.5)
    columns = {
        "crop": ["SCALE", "SHIFT_X", "SHIFT_Y"],
        "blur": ["BLUR", "BLUR_WIDTH"],
        "noise": ["NOISE_LOW", "NOISE_HIGH"],
    }
    uniforms = parameters(tuple(x.shape[1:]))
    others = uniforms.clone()
    for name in columns.get(transform, [transform.upper()]):
        others[:, Column[name]] = 0.999 * (1 - others[:, Column[name]])
    without = dataclasses.replace(EVERYTHING, **{transform: 0.0})
    first, second = (apply_views(x, u, strengths, True, without) for u in (uniforms, others))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    first, second = (apply_views(x, u, strengths, True, EVERYTHING) for u in (uniforms, others))
    assert float((first - second).abs().mean()) > 0.001


def test_a_grid_is_sampled_for_rotations_only() -> None:
    x, uniforms, strengths = images((3, 32, 32)), parameters((3, 32, 32)), torch.ones(NUM_ROWS)
    with patch("study.recipes.contrastive.data.geometric.F.grid_sample", side_effect=NotImplementedError):
        apply_views(x, uniforms, strengths, True, SEPARABLE)
        with pytest.raises(NotImplementedError):
            apply_views(x, uniforms, strengths, True, EVERYTHING)


def test_nothing_on_shows_the_image_exactly() -> None:
    x, nothing = images((3, 32, 32)), only("crop", 0.0)
    assert torch.equal(apply_views(x, parameters((3, 32, 32)), torch.ones(NUM_ROWS), True, nothing), x / 255)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("ranges", RANGES.values(), ids=RANGES)
def test_views_of_images_stay_between_zero_and_one(strength: float, ranges: ViewsConfig) -> None:
    x = images((3, 32, 32))
    x[:8], x[8:16] = 0, 255
    viewed = apply_views(x, parameters((3, 32, 32)), torch.full((NUM_ROWS,), strength), True, ranges)
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


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("flip", [True, False])
def test_a_crop_by_matrices_is_that_of_grid_sample(shape: tuple[int, ...], flip: bool) -> None:
    x, uniforms, strengths = images(shape), parameters(shape), torch.linspace(0, 1.5, NUM_ROWS)
    separable = apply_views(x, uniforms, strengths, flip, ViewsConfig(rotation=0.0))
    uniforms[:, Column.ROTATION] = 0.5
    torch.testing.assert_close(separable, apply_views(x, uniforms, strengths, flip), atol=1e-5, rtol=0)


def test_a_flip_alone_is_the_mirror_image_exactly() -> None:
    x = images((3, 32, 32))
    uniforms = parameters((3, 32, 32))
    viewed = apply_views(x, uniforms, torch.ones(NUM_ROWS), True, only("flip"))
    flipped = uniforms[:, Column.FLIP] < 0.5
    assert torch.equal(viewed[flipped], x[flipped].flip(-1) / 255)
    assert torch.equal(viewed[~flipped], x[~flipped] / 255)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_blur_is_that_of_a_literal_loop(shape: tuple[int, ...]) -> None:
    x, uniforms, strengths = images(shape, 12), parameters(shape, 12), torch.linspace(0.5, 1.5, 12)
    viewed = apply_views(x, uniforms, strengths, False, only("blur"))
    height, width = shape[1:]
    num_blurred = 0
    for image, uniform, strength, view in zip(x / 255, uniforms, strengths, viewed, strict=True):
        expected = image.clone()
        if uniform[Column.BLUR] < 0.5 * min(float(strength), 1):
            num_blurred += 1
            sigma = float(strength * uniform[Column.BLUR_WIDTH]) * min(height, width) / 16
            for row in range(height):
                for column in range(width):
                    down = torch.exp(-((torch.arange(height) - row) ** 2) / (2 * sigma**2))
                    across = torch.exp(-((torch.arange(width) - column) ** 2) / (2 * sigma**2))
                    weights = down[:, None] * across
                    expected[:, row, column] = (image * weights).sum(dim=(-2, -1)) / weights.sum()
        torch.testing.assert_close(view, expected, atol=1e-5, rtol=0)
    assert 0 < num_blurred < 12


def test_a_blur_keeps_constants_and_removes_stripes() -> None:
    row = plain_parameters(blur=0.0, blur_width=1.0)
    constant = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    view = apply_views(constant, row, torch.ones(1), False, only("blur"))
    torch.testing.assert_close(view, constant / 255, atol=1e-5, rtol=0)
    stripes = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 255
    assert float(apply_views(stripes, row, torch.ones(1), False, only("blur"))[..., 8:24].std()) < 1e-3


def test_a_crop_and_a_blur_at_once_are_one_after_the_other() -> None:
    x, uniforms, strengths = images((3, 32, 32)), parameters((3, 32, 32)), torch.ones(NUM_ROWS)
    scaled = x / 255
    together = geometric.geometric(scaled, uniforms, strengths, True, SEPARABLE)
    cropped = geometric.geometric(scaled, uniforms, strengths, True, dataclasses.replace(SEPARABLE, blur=0.0))
    blurred = geometric.geometric(cropped, uniforms, strengths, True, only("blur"))
    torch.testing.assert_close(together, blurred, atol=1e-5, rtol=0)


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
    assert uniforms.shape == (3, 1000, NUM_BASIC)
    assert 0 <= float(uniforms.min()) < 0.01 < 0.99 < float(uniforms.max()) < 1
    normals = draw_view_parameters(1000, (5,), stream(0, "views"), num_draws=3)
    assert normals.shape == (3, 1000, 5)
    assert float(normals.mean()) == pytest.approx(0, abs=0.05)
    assert float(normals.std()) == pytest.approx(1, abs=0.05)


def test_further_transforms_leave_the_uniforms_of_the_others_alone() -> None:
    plain = draw_view_parameters(10, (1, 8, 8), stream(0, "views"), 3)
    noisy, coloured = (draw_view_parameters(10, (1, 8, 8), stream(0, "views"), 3, only(t)) for t in ("noise", "hue"))
    assert noisy.shape == (3, 10, len(Column))
    assert torch.equal(noisy[..., :NUM_BASIC], plain)
    assert torch.equal(noisy, coloured)


def test_workers_and_packs_see_the_same_views_with_everything_on(
    digits: Dataset, digits_config: ReplicateConfig
) -> None:
    values = {f"data.views.{name}": 1.0 for name in TRANSFORMS}
    config = with_values(digits_config, {"batch.train": 12, "data.num_views": 2, "data.strength": 1.2, **values})
    pack = [CONTRASTIVE.replicate(config, seed, "data") for seed in (0, 1)]
    whole = PackBatches(digits, pack, 0, 1).batch(9).inputs
    workers = torch.cat([PackBatches(digits, pack, rank, 3).batch(9).inputs for rank in range(3)], dim=1)
    torch.testing.assert_close(workers, whole, atol=1e-5, rtol=0)
    for index, member in enumerate(pack):
        alone = PackBatches(digits, [member], 0, 1).batch(9).inputs[0]
        torch.testing.assert_close(alone, whole[index], atol=1e-5, rtol=0)
    evaluation = evaluation_set(digits, pack)
    torch.testing.assert_close(evaluation.viewed[1], evaluation_set(digits, pack[1:]).viewed[0], atol=1e-5, rtol=0)
    assert float((evaluation.viewed - evaluation.clean).abs().mean()) > 0.05
