"""What one identity block should do on images, from the cosines of their views."""

from pathlib import Path

import pytest

from study.designs.criterion import Criterion
from study.designs.values import with_values
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.identities import encoder_settings, view_settings
from study.recipes.contrastive.readings.moments import falls_at, predict_from_moments
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import measure_view_moments, train_pack
from study.recipes.contrastive.trainers.view_cosines import raw_moments


@pytest.mark.parametrize("encoder", ["none", "small"])
@pytest.mark.parametrize("metric", ["p", "s_j"])
def test_moments_of_training_views_predict_an_untrained_block_on_test_images(
    digits_config: ReplicateConfig, digits: Dataset, tmp_path: Path, encoder: str, metric: str
) -> None:
    model = {"model.encoder": encoder, "model.width": 16, "model.embedding_dim": 64, "model.num_blocks": 1}
    judged = {"horizon.length": 0, "batch.eval": 100, "evaluation.num_batches": 10, "evaluation.knn_bank": 0}
    config = with_values(digits_config, {**model, **judged})
    strengths = (0.2, 0.8)
    configs = {strength: with_values(config, {"data.strength": strength}) for strength in strengths}
    pack = [CONTRASTIVE.replicate(one, 7, digits.digest) for one in configs.values()]
    ledger = Ledger(Store(str(tmp_path)))
    for one in pack:
        views = view_settings(one.config)
        ledger.record_measurements("raw_views_", digits.digest, None, views, raw_moments(digits, one.config))
        (seen,) = measure_view_moments([one], digits)
        settings = views | encoder_settings(one.config)
        ledger.record_measurements("untrained_views_", digits.digest, one.seed, settings, seen)
    predicted = predict_from_moments(ledger, configs, [7], digits.digest, metric)
    measured = {r.replicate.config.data.strength: r.metrics[metric] for r in train_pack(pack, digits)}
    assert predicted.encoder == pytest.approx(measured, rel=0.15, abs=0.004)
    if encoder == "none":
        # The untrained encoder is no encoder: both see the pixels.
        assert predicted.encoder == pytest.approx(predicted.raw, rel=1e-5)


def test_what_was_not_measured_is_not_predicted(digits_config: ReplicateConfig, tmp_path: Path) -> None:
    ledger = Ledger(Store(str(tmp_path)))
    predicted = predict_from_moments(ledger, {0.3: digits_config}, [1, 2], "digest", "p")
    assert (predicted.encoder, predicted.raw) == ({}, {})


def test_a_predicted_curve_falls_where_a_line_over_log_strength_says() -> None:
    curve = {0.1: 0.8, 0.2: 0.6, 0.4: 0.2, 0.8: 0.1}
    assert falls_at(curve, Criterion(metric="p", level=0.4)) == pytest.approx(0.2 * 2**0.5)
    assert falls_at(curve, Criterion(metric="p", fraction=0.5)) == pytest.approx(0.2 * 2**0.5)
    assert falls_at(curve, Criterion(metric="p", level=0.9)) is None
    assert falls_at(curve, Criterion(metric="p", level=0.05)) is None
