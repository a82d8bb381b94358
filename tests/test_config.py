"""Configurations refuse what cannot be with a sentence, and keys name exactly what decides the numbers."""

import dataclasses
import hashlib
import math

import pytest

from study.designs.values import (
    Scalar,
    canonical,
    digest,
    field_types,
    flatten,
    from_json,
    parse_value,
    to_json,
    with_values,
)
from study.errors import ConfigError
from study.recipes.contrastive.config import (
    BatchConfig,
    ClustersConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    ReplicateConfig,
    ViewsConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE

BASE = with_values(ReplicateConfig(), {"trainer": "supervised", "data.num_views": 2})

# One other value for every path; a new field needs one here.
OTHER_VALUES: dict[str, Scalar] = {
    "trainer": "transfusion",
    "precision": "bfloat16",
    "data.name": "digits",
    "data.strength": 0.5,
    "data.num_views": 4,
    "data.label_fraction": 0.5,
    **{f"data.views.{item.name}": 0.5 for item in dataclasses.fields(ViewsConfig)},
    "data.clusters.dim": 32,
    "data.clusters.num_classes": 6,
    "data.clusters.cosine": 0.1,
    "data.clusters.spread": 0.5,
    "data.clusters.num_sources": 1000,
    "data.clusters.mean_norm": 1.0,
    "data.clusters.basis": "random",
    "batch.train": 32,
    "batch.eval": 60,
    "model.encoder": "resnet18",
    "model.width": 8,
    "model.embedding_dim": 8,
    "model.projection_dim": 8,
    "model.norm": "batch",
    "model.num_blocks": 3,
    "model.residual": False,
    "model.layer_norm": True,
    "model.init": "identity",
    "loss.target": "source",
    "loss.affinity": "softmax",
    "loss.contrast": "supcon",
    "loss.oar_weight": 2.0,
    "loss.oar_from_step": 1,
    "loss.temperature": 0.1,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.momentum": 0.5,
    "optimizer.weight_decay": 0.1,
    "optimizer.schedule": "constant",
    "horizon.unit": "steps",
    "horizon.length": 5,
    "evaluation.split": "validation",
    "evaluation.num_batches": 3,
    "evaluation.num_points": 3,
    "evaluation.knn_bank": 0,
    "evaluation.knn_neighbours": 3,
    "evaluation.linear_probe": True,
}


# Paths whose other value asks for another trainer, tested by its own sentence below.
WITH_OAR: dict[str, Scalar] = {"evaluation.escape": True, "batch.labelled": 8}


def test_every_path_has_another_value_here() -> None:
    assert OTHER_VALUES.keys() | WITH_OAR.keys() == set(field_types(ReplicateConfig)) == set(flatten(BASE))


@pytest.mark.parametrize("path", WITH_OAR)
def test_key_differs_by_any_field_of_the_oar_trainer(path: str) -> None:
    config = with_values(BASE, {"trainer": "oar"})
    other = with_values(config, {path: WITH_OAR[path]})
    assert CONTRASTIVE.key(other, 0, "data") != CONTRASTIVE.key(config, 0, "data")
    with pytest.raises(ConfigError, match=f"{path}.*trainer=oar"):
        with_values(BASE, {path: WITH_OAR[path]})


@pytest.mark.parametrize("path", OTHER_VALUES)
def test_key_differs_by_any_field(path: str) -> None:
    other = with_values(BASE, {path: OTHER_VALUES[path]})
    assert CONTRASTIVE.key(other, 0, "data") != CONTRASTIVE.key(BASE, 0, "data")


@pytest.mark.parametrize("path", OTHER_VALUES)
def test_pack_shape_ignores_exactly_learning_rate_and_strength(path: str) -> None:
    other = with_values(BASE, {path: OTHER_VALUES[path]})
    is_ignored = path in ("optimizer.learning_rate", "data.strength")
    assert (CONTRASTIVE.together(other) == CONTRASTIVE.together(BASE)) is is_ignored


@pytest.mark.parametrize("path", OTHER_VALUES)
def test_json_round_trip_keeps_every_field(path: str) -> None:
    other = with_values(BASE, {path: OTHER_VALUES[path]})
    assert from_json(ReplicateConfig, to_json(other)) == other != BASE


@pytest.mark.parametrize("path", OTHER_VALUES)
def test_a_value_reads_back_from_the_command_line(path: str) -> None:
    value = OTHER_VALUES[path]
    parsed = parse_value(ReplicateConfig, path, str(value))
    assert parsed == value
    assert type(parsed) is type(value)


def test_key_differs_by_seed_and_data_digest() -> None:
    keys = {CONTRASTIVE.key(BASE, seed, data) for seed in (0, 1) for data in ("a", "b")}
    assert len(keys) == 4


def test_key_is_the_digest_of_what_differs_from_the_defaults() -> None:
    config = with_values(ReplicateConfig(), {"optimizer.learning_rate": 0.1, "batch.train": 32})
    text = (
        '{"config":{"batch.train":32,"optimizer.learning_rate":0.1},'
        '"data":"abc","numerics":1,"seed":3,"trainer":"transfusion"}'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert CONTRASTIVE.key(config, 3, "abc") == expected
    assert CONTRASTIVE.replicate(config, 3, "abc").key == expected


def test_canonical_leaves_defaults_out() -> None:
    assert canonical(ReplicateConfig()) == {}
    assert canonical(with_values(ReplicateConfig(), {"batch.train": 32})) == {"batch.train": 32}
    assert canonical(with_values(ReplicateConfig(), {"batch.train": BatchConfig().train})) == {}


def test_a_field_added_later_leaves_every_key_as_it_was() -> None:
    later_data = dataclasses.make_dataclass(
        "LaterData", [("blur", float, dataclasses.field(default=0.0))], bases=(DataConfig,), frozen=True, kw_only=True
    )
    later = dataclasses.make_dataclass(
        "Later",
        [
            ("data", later_data, dataclasses.field(default_factory=later_data)),
            ("note", int, dataclasses.field(default=3)),
        ],
        bases=(ReplicateConfig,),
        frozen=True,
        kw_only=True,
    )
    batch = BatchConfig(train=32)
    assert CONTRASTIVE.key(later(batch=batch), 0, "data") == CONTRASTIVE.key(ReplicateConfig(batch=batch), 0, "data")
    used = later(batch=batch, data=later_data(blur=0.5))
    assert canonical(used) == {"batch.train": 32, "data.blur": 0.5}


def test_floats_enter_the_digest_by_their_shortest_repr() -> None:
    assert digest({"x": 0.1}, length=64) == hashlib.sha256(b'{"x":0.1}').hexdigest()
    assert digest({"x": 0.1 + 0.2}) != digest({"x": 0.3})
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_a_whole_number_given_for_a_float_is_the_same_key() -> None:
    whole, decimal = (with_values(BASE, {"data.strength": value}) for value in (1, 1.0))
    assert CONTRASTIVE.key(whole, 0, "data") == CONTRASTIVE.key(decimal, 0, "data")


def test_unknown_paths_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'batch\.train'"):
        parse_value(ReplicateConfig, "batch.trian", "8")
    with pytest.raises(ConfigError, match=r"did you mean 'optimizer\.learning_rate'"):
        with_values(BASE, {"optimizer.learningrate": 0.1})


def test_unknown_data_sets_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        DataConfig(name="digit")
    with pytest.raises(ConfigError, match=r"known: .*fashion_mnist"):
        DataConfig(name="imagenet")


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("batch.train", "many", "type int"),
        ("batch.train", "2.5", "type int"),
        ("batch.train", "inf", "type int"),
        ("data.strength", "strong", "type float"),
        ("data.strength", "nan", "finite"),
        ("data.strength", "inf", "finite"),
        ("model.residual", "yes", "true or false"),
    ],
)
def test_wrong_command_line_values_name_the_type(path: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{path} .*{sentence}"):
        parse_value(ReplicateConfig, path, text)


def test_scientific_notation_reads_as_a_whole_number() -> None:
    assert parse_value(ReplicateConfig, "horizon.length", "2e4") == 20_000


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch.train": 8.0}, "batch.train takes a value of type int"),
        ({"batch.train": True}, "batch.train takes a value of type int"),
        ({"data.strength": True}, "data.strength takes a value of type float"),
        ({"data.strength": "0.3"}, "data.strength takes a value of type float"),
        ({"model.residual": 1}, "model.residual takes a value of type bool"),
        ({"model.encoder": "vit"}, "unknown encoder 'vit': known: linear, mlp, none, resnet18, small"),
        ({"data.strength": math.nan}, "data.strength must not be negative"),
        ({"data.strength": 1.6}, "data.strength on images"),
        ({"batch.train": 63}, "multiples of data.num_views"),
        ({"batch.train": 0}, "at least 2"),
        ({"data.num_views": 1, "loss.target": "source"}, "loss.target=source needs data.num_views"),
        ({"data.name": "clusters"}, "model.encoder must be none"),
        ({"model.encoder": "linear"}, "model.encoder must be none"),
        ({"data.label_fraction": 0.0}, "label_fraction"),
        ({"optimizer.learning_rate": 0.0}, "learning_rate must be positive"),
        ({"data.clusters.cosine": -0.3}, r"\[-0.25, 1\)"),
        ({"data.clusters.dim": 4}, "data.clusters.dim must be at least"),
        ({"model.width": 6}, "multiple of 4"),
        ({"data.views.blur": -1.0}, r"data\.views\.blur must lie in \[0, 2\]"),
        ({"data.clusters.mean_norm": -1.0}, r"mean_norm must not be negative"),
        ({"loss.oar_weight": -0.1}, r"loss\.oar_weight \(lambda\) must not be negative"),
        ({"loss.temperature": 0.0}, r"loss\.temperature must be positive"),
        ({"trainer": "oar", "data.num_views": 1}, "loss.contrast=info_nce needs data.num_views of at least 2"),
        ({"trainer": "oar", "batch.train": 2}, "batch.train=2 holds one image, .*use at least 4"),
        ({"trainer": "oar", "loss.contrast": "none", "loss.oar_weight": 0.0}, "leaves OAR alone to learn from"),
        ({"trainer": "oar", "data.name": "clusters", "model.encoder": "none"}, "nothing to train"),
        ({"trainer": "transfusion", "data.label_fraction": 0.5}, "has no meaning for trainer=transfusion"),
    ],
)
def test_impossible_values_are_refused_with_a_sentence(values: dict[str, Scalar], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        with_values(BASE, values)


def test_values_that_depend_on_each_other_are_replaced_together() -> None:
    config = with_values(BASE, {"data.name": "clusters", "model.encoder": "none", "data.strength": 3})
    assert (config.data.name, config.model.encoder, config.data.strength) == ("clusters", "none", 3.0)
    assert BASE.data.name == "fashion_mnist"


def test_a_simplex_is_the_lowest_cosine() -> None:
    assert ClustersConfig(num_classes=5, cosine=-1 / 4).cosine == -0.25


def test_a_horizon_in_examples_counts_images_and_not_views() -> None:
    config = with_values(BASE, {"batch.train": 64, "data.num_views": 2, "horizon.length": 100})
    assert config.num_images == 32
    assert config.num_steps == 4
    assert with_values(config, {"horizon.length": 96}).num_steps == 3


def test_a_horizon_in_steps_does_not_depend_on_the_batch() -> None:
    steps = {"horizon.unit": "steps", "horizon.length": 100}
    assert {with_values(BASE, steps | {"batch.train": rows}).num_steps for rows in (8, 64)} == {100}


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.trainer = "supervised"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().width = 8  # type: ignore[misc]
    with pytest.raises(TypeError):
        LossConfig("class")  # type: ignore[misc]
