"""A data set, an encoder, a method, a metric or a law is one new file and its name in one list; nothing else knows."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from study.designs.values import with_values
from study.errors import ConfigError
from study.interface.run import Context, Result
from study.recipes.contrastive import components
from study.recipes.contrastive.config import (
    BatchConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    ModelConfig,
    ReplicateConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE, Contrastive

HERE = "study.recipes.contrastive"
SMALL = ReplicateConfig(
    data=DataConfig(name="digits"),
    batch=BatchConfig(train=20, eval=20),
    model=ModelConfig(encoder="none", init="identity"),
    horizon=HorizonConfig(unit="steps", length=4),
    evaluation=EvaluationConfig(num_batches=2, num_points=2, knn_bank=50),
)
AddFile = Callable[[str, str, str, str], None]


@pytest.fixture
def add_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddFile:
    """Put a file of a name into a folder of the recipe, and the name into a list."""

    def add(folder: str, kind: str, name: str, source: str) -> None:
        package = sys.modules.get(f"{HERE}.{folder}") or __import__(f"{HERE}.{folder}", fromlist=["_"])
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        monkeypatch.setattr(components, kind, (*getattr(components, kind), name))

    yield add
    for module in [module for module in sys.modules if module.rpartition(".")[2].startswith("toy_")]:
        del sys.modules[module]


def train(config: ReplicateConfig) -> Result:
    recipe = Contrastive()
    data = recipe.load(config, None)
    recipe.check(config, data, 1)
    run = recipe.start([recipe.replicate(config, 101, data.digest)], data, Context())
    while not run.is_done:
        run.advance()
    (result,) = run.results()
    return result


def test_a_data_set(add_file: AddFile) -> None:
    source = """
import numpy as np
from study.recipes.contrastive.data.sets import DataSource

def images(root):
    labels = np.arange(400, dtype=np.uint8) % 4
    pixels = np.zeros((400, 1, 8, 8), np.uint8)
    pixels[np.arange(400), 0, labels] = 200
    return pixels[:300], labels[:300], pixels[300:], labels[300:]

DATASET = DataSource(name="toy_stripes", num_classes=4, num_validation=60, images=images)
"""
    with pytest.raises(ConfigError, match="unknown data set 'toy_stripes'"):
        with_values(SMALL, {"data.name": "toy_stripes"})
    add_file("data.sets", "DATASETS", "toy_stripes", source)
    result = train(with_values(SMALL, {"data.name": "toy_stripes"}))
    assert result.metrics["knn_accuracy"] == 1.0


def test_an_encoder(add_file: AddFile) -> None:
    source = """
from study.recipes.contrastive.models.kinds import EncoderKind, Floats

def build(model, input_shape, generators):
    from torch import nn
    return nn.Sequential(nn.Flatten(start_dim=-3), nn.Tanh()), 64

def floats(model, input_shape):
    return Floats(inputs=64, outputs=64)

ENCODER = EncoderKind(takes="images", build=build, floats=floats)
"""
    add_file("models.kinds", "ENCODERS", "toy_tanh", source)
    config = with_values(SMALL, {"model.encoder": "toy_tanh"})
    assert train(config).metrics["p"] != pytest.approx(train(SMALL).metrics["p"])
    assert CONTRASTIVE.cost(config, None, 1).largest_pack > 1


def test_a_method(add_file: AddFile) -> None:
    source = """
from study.interface.metrics import Metric
from study.recipes.contrastive.methods import TrainingMethod, names

def trainer():
    from study.recipes.contrastive.trainers.supervised import SupervisedTrainer

    class Toy(SupervisedTrainer):
        def evaluate(self, model, evaluation, config):
            found = super().evaluate(model, evaluation, config)
            return found | {"toy_error": 1 - found["accuracy"]}

    return Toy()

METHOD = TrainingMethod(
    numerics=1, trainer=trainer, has_pairs=False,
    reported=lambda config: names({"accuracy", "accuracy_clean", "toy_error"}),
    metrics=(Metric(name="toy_error", meaning="share of wrong answers", broken="high"),),
)
"""
    add_file("methods", "METHODS", "toy_wrong", source)
    result = train(with_values(SMALL, {"trainer": "toy_wrong"}))
    assert result.metrics["toy_error"] == pytest.approx(1 - result.metrics["accuracy"])
    assert "toy_error" in {metric.name for metric in Contrastive().metrics}


def test_a_metric_of_embeddings_is_reported_by_every_method(add_file: AddFile) -> None:
    source = """
from study.interface.metrics import Metric
from study.recipes.contrastive.metrics import EmbeddingMetric

METRIC = EmbeddingMetric(
    metric=Metric(name="toy_norm", meaning="mean norm of the judged embeddings"),
    of=lambda z_REND, evaluation: z_REND.norm(dim=-1).mean((-2, -1)),
)
"""
    add_file("metrics", "METRICS", "toy_norm", source)
    for trainer in ("transfusion", "supervised"):
        result = train(with_values(SMALL, {"trainer": trainer}))
        assert result.metrics["toy_norm"] > 0
        assert result.before["toy_norm"] > 0


def test_a_law(add_file: AddFile) -> None:
    source = """
import dataclasses
from study.recipes.contrastive.laws.geometric import GEOMETRIC

LAWS = (dataclasses.replace(GEOMETRIC, name="toy_law"),)
"""
    add_file("laws", "LAWS", "toy_law", source)
    assert "toy_law" in components.laws()
