"""What thresholds are called: by the axis, by what is judged and by which crossing is asked for."""

import dataclasses

import pytest

from study.answers.axis_names import axis_words
from study.designs.criterion import Criterion
from study.designs.space import Flank
from study.inference.statements import Crossing, CrossingStatus
from study.recipes.contrastive.recipe import CONTRASTIVE

P = Criterion(metric="p", fraction=0.5)
ACCURACY = Criterion(metric="accuracy", fraction=0.5, floor="chance")
FUSED = Criterion(metric="mean_cosine", level=0.5, floor="zero", share=0.5)
BEYOND = Crossing(
    status=CrossingStatus.ABOVE_RANGE, estimate=None, low=1.0, high=None, reason="no fall below the level", edge=1.0
)
BEFORE = Crossing(
    status=CrossingStatus.BELOW_RANGE, estimate=None, low=None, high=4.0, reason="already reached", edge=4.0
)


@pytest.mark.parametrize(
    ("axis", "criterion", "flank", "rising", "falling"),
    [
        ("batch.train", P, "rising", "minimum batch", "maximum useful batch"),
        ("batch.eval", P, "rising", "minimum batch", "maximum batch"),
        ("optimizer.learning_rate", FUSED, "rising", "fused from rate", "fused up to rate"),
        ("optimizer.learning_rate", ACCURACY, "falling", "minimum learning rate", "maximum learning rate"),
        ("model.num_blocks", P, "falling", "", "maximum depth"),
        ("model.num_blocks", FUSED, "rising", "fused from depth", "fused up to depth"),
        ("data.strength", P, "rising", "minimum strength", "maximum strength"),
        ("model.embedding_dim", P, "rising", "minimum model.embedding_dim", "maximum model.embedding_dim"),
    ],
)
def test_a_crossing_is_called_by_what_is_judged(
    axis: str, criterion: Criterion, flank: Flank, rising: str, falling: str
) -> None:
    words = axis_words(CONTRASTIVE, axis, criterion, flank)
    assert (words.rising, words.falling) == (rising, falling)


@pytest.mark.parametrize(("flank", "name"), [("rising", "minimum batch"), ("falling", "maximum useful batch")])
def test_the_sought_crossing_is_that_of_the_flank(flank: Flank, name: str) -> None:
    assert axis_words(CONTRASTIVE, "batch.train", P, flank).sought(flank) == name


def test_nothing_is_said_to_lie_beyond_what_a_quantity_can_be() -> None:
    share, batch = (axis_words(CONTRASTIVE, axis, P, "rising") for axis in ("data.label_fraction", "batch.train"))
    assert share.describe(BEYOND) == "none: no fall below the level up to the largest label share there is, 1"
    inside = dataclasses.replace(BEYOND, low=0.4, reason="probably no fall below the level")
    assert share.describe(inside) == (
        "above 0.4: probably no fall below the level up to the largest label share there is, 1"
    )
    tried = dataclasses.replace(BEYOND, low=0.5, edge=0.5)
    assert share.describe(tried) == "above 0.5: no fall below the level up to the largest label share"
    least = dataclasses.replace(BEFORE, high=2.0, edge=2.0)
    assert batch.describe(least) == "none: already reached at the smallest batch there is, 2"
    assert batch.describe(BEFORE) == "below 4: already reached at the smallest batch"
