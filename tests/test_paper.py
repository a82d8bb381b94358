"""The papers' settings are valid configurations of every trainer."""

import typing

import pytest

from study.config import NUMERICS_VERSION, field_types
from study.paper import PAPER, paper_config


@pytest.mark.parametrize("method", PAPER)
def test_a_method_of_a_paper_is_a_valid_configuration(method: str) -> None:
    config = paper_config(method)
    assert (config.model.encoder, config.data.name) == ("resnet18", "cifar10")
    assert config.optimizer.learning_rate == 0.06
    assert config.num_images == 256


def test_every_trainer_and_contrast_has_its_paper_settings() -> None:
    configs = [paper_config(method) for method in PAPER]
    assert {config.trainer for config in configs} == set(NUMERICS_VERSION)
    contrasts = {config.loss.contrast for config in configs if config.trainer == "oar"}
    assert contrasts == set(typing.get_args(field_types()["loss.contrast"]))
