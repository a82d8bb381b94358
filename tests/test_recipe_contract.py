"""Every recipe keeps one contract, which is shipped for those of others."""

import dataclasses

import pytest

from study.designs.values import with_values
from study.recipes.contrastive.config import (
    BatchConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    ModelConfig,
    ReplicateConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.testing.contract import RecipeContract
from study.testing.toy import TOY, ToyConfig

SMALL = ReplicateConfig(
    data=DataConfig(name="clusters", strength=1.0),
    batch=BatchConfig(train=20, eval=20),
    model=ModelConfig(encoder="none", init="identity"),
    horizon=HorizonConfig(unit="steps", length=6),
    evaluation=EvaluationConfig(num_batches=2, num_points=2, knn_bank=50),
)
TWO_VIEWS = {"trainer": "oar", "data.num_views": 2, "model.encoder": "linear", "model.embedding_dim": 8}


class TestToy(RecipeContract):
    recipe = TOY
    configs = (ToyConfig(), ToyConfig(size=8), ToyConfig(rate=0.1))
    alike = ({"size": 8}, {"rate": 0.1})


@pytest.fixture(autouse=True)
def _checkpoints_at_every_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")


class TestContrastive(RecipeContract):
    recipe = CONTRASTIVE
    configs = (
        SMALL,
        with_values(SMALL, {"model.num_blocks": 1}),
        with_values(SMALL, {"trainer": "supervised", "data.label_fraction": 0.5}),
        with_values(SMALL, TWO_VIEWS),
        dataclasses.replace(SMALL, horizon=HorizonConfig(unit="steps", length=0)),
    )
    alike = ({"optimizer.learning_rate": 3e-3}, {"data.strength": 0.5})
    tolerance = 1e-4
