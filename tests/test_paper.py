"""The papers' settings are valid configurations of every trainer."""

import typing

import pytest

from study.designs.values import field_types
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.presets import PAPER, paper_config


@pytest.mark.parametrize("method", PAPER)
def test_a_method_of_a_paper_is_a_valid_configuration(method: str) -> None:
    config = paper_config(method)
    assert (config.model.encoder, config.data.name) == ("resnet18", "cifar10")
    assert config.optimizer.learning_rate == 0.06
    assert config.num_images == 256


def test_every_trainer_and_contrast_has_its_paper_settings() -> None:
    configs = [paper_config(method) for method in PAPER]
    assert {config.trainer for config in configs} == {*components.METHODS}
    contrasts = {config.loss.contrast for config in configs if config.trainer == "oar"}
    assert contrasts == set(typing.get_args(field_types(ReplicateConfig)["loss.contrast"]))
