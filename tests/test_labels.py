"""Labelled subsets are seeded, stratified and nested."""

import itertools

import pytest
import torch

from study.errors import ConfigError
from study.recipes.contrastive.data.labels import labelled_subset

LABELS = torch.arange(2000) % 5
SHUFFLED = LABELS[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]


def test_one_percent_lies_inside_ten_percent() -> None:
    subsets = [set(labelled_subset(SHUFFLED, 5, fraction, 3).tolist()) for fraction in (0.01, 0.1, 0.5, 1.0)]
    assert [len(subset) for subset in subsets] == [20, 200, 1000, 2000]
    for small, large in itertools.pairwise(subsets):
        assert small < large


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.35])
def test_every_class_gets_its_share(fraction: float) -> None:
    labels = torch.cat([torch.zeros(1000), torch.ones(400), torch.full((600,), 2.0)]).long()
    chosen = labelled_subset(labels, 3, fraction, 0)
    assert torch.bincount(labels[chosen]).tolist() == [round(fraction * n) for n in (1000, 400, 600)]


def test_indices_are_sorted_and_unique() -> None:
    chosen = labelled_subset(SHUFFLED, 5, 0.2, 0).tolist()
    assert chosen == sorted(set(chosen))


def test_the_seed_decides() -> None:
    first, again, other = (labelled_subset(SHUFFLED, 5, 0.1, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_fraction_that_leaves_a_class_without_a_label_says_how_much_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"leaves class 0 \(400 training examples\) .* use at least 0\.0025"):
        labelled_subset(SHUFFLED, 5, 0.001, 0)
    assert len(labelled_subset(SHUFFLED, 5, 0.0025, 0)) == 5


def test_a_class_without_examples_is_named() -> None:
    with pytest.raises(ConfigError, match=r"class 5 has no training example"):
        labelled_subset(SHUFFLED, 6, 0.1, 0)
