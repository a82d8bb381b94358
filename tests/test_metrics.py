"""What trainers declare to report: exactly what they return, and what a design may be judged by."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from study.designs.assembly import make_design
from study.designs.criterion import Criterion
from study.designs.values import Scalar, with_values
from study.execution.task_run import run_task
from study.execution.tasks import PackTask, TaskSettings
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.metrics.declared import METRICS, reported
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import EvaluationSet
from study.recipes.contrastive.trainers.loop import train_pack
from study.recipes.contrastive.trainers.supervised import SupervisedTrainer
from tests.conftest import for_trainer
from tests.synthetic import PROVENANCE, SUPERVISED, search_space

# Whatever decides which metrics there are, on top of each trainer's own needs.
CHANGES: dict[str, dict[str, Scalar]] = {
    "as it is": {},
    "no neighbours": {"evaluation.knn_bank": 0},
    "a probe": {"evaluation.linear_probe": True},
    "no training": {"horizon.length": 0},
    "two views": {"data.num_views": 2, "batch.eval": 40},
}
OF_OAR: dict[str, dict[str, Scalar]] = {
    "all labels": {"data.label_fraction": 1.0},
    "one view": {"data.num_views": 1, "loss.contrast": "supcon"},
    "no anchors": {"loss.oar_weight": 0.0},
    "anchors too late": {"loss.oar_from_step": 6},
    "anchors in the last step": {"loss.oar_from_step": 5},
    "anchors alone": {"loss.contrast": "none"},
    "a watched escape": {"evaluation.escape": True},
}
CASES = [(trainer, changes) for trainer in components.METHODS for changes in CHANGES.values()]
CASES += [("oar", changes) for changes in OF_OAR.values()]
CASES += [("supervised", {"data.label_fraction": 0.5})]


@pytest.mark.parametrize(("trainer", "changes"), CASES, ids=str)
def test_a_run_returns_exactly_what_its_trainer_declares(
    trainer: str, changes: dict[str, Scalar], digits_config: ReplicateConfig, digits: Dataset
) -> None:
    config = with_values(for_trainer(digits_config, trainer), changes)
    (result,) = train_pack([CONTRASTIVE.replicate(config, 1, "data")], digits)
    declared = reported(config)
    assert declared.at_end <= result.metrics.keys() <= declared.at_end | declared.sometimes
    assert result.before.keys() == declared.judged


@pytest.mark.parametrize("trainer", components.METHODS)
def test_what_a_trainer_reports_is_declared_by_the_recipe(trainer: str, digits_config: ReplicateConfig) -> None:
    names = {metric.name for metric in METRICS}
    with_before = {metric.name for metric in METRICS if metric.has_before}
    for changes in (*CHANGES.values(), *(OF_OAR.values() if trainer == "oar" else ())):
        found = reported(with_values(for_trainer(digits_config, trainer), changes))
        assert found.at_end | found.sometimes <= names
        assert found.judged <= with_before


def test_every_metric_of_the_recipe_is_reported_by_some_trainer(digits_config: ReplicateConfig) -> None:
    at_end: set[str] = set()
    before: set[str] = set()
    for trainer, changes in CASES:
        found = reported(with_values(for_trainer(digits_config, trainer), changes))
        at_end |= found.at_end | found.sometimes
        before |= found.judged
    assert at_end == {metric.name for metric in METRICS}
    assert before == {metric.name for metric in METRICS if metric.has_before}


def test_a_metric_that_is_returned_and_not_declared_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits_config: ReplicateConfig, digits: Dataset
) -> None:
    evaluate = SupervisedTrainer.evaluate

    def more(
        self: SupervisedTrainer, model: Any, evaluation: EvaluationSet, config: ReplicateConfig
    ) -> dict[str, torch.Tensor]:
        metrics = evaluate(self, model, evaluation, config)
        return metrics | {"f1": metrics["accuracy"]}

    monkeypatch.setattr(SupervisedTrainer, "evaluate", more)
    replicate = CONTRASTIVE.replicate(for_trainer(digits_config, "supervised"), 1, digits.digest)
    settings = TaskSettings(ledger_uri=str(tmp_path / "ledger"), recipe=CONTRASTIVE.address, provenance=PROVENANCE)
    sentence = f"{CONTRASTIVE.address} returns metrics that it does not declare: ['f1']"
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        run_task(PackTask(settings=settings, replicates=(replicate,), attempts=(1,)))


class TestDesigns:
    @pytest.mark.parametrize(
        ("criterion", "sentence"),
        [
            (
                Criterion(metric="f1", fraction=0.5),
                "known (learning) is judged by f1, which reported replicates of transfusion do not report; "
                "they report dead_row_share, effective_rank, knn_accuracy, mean_cosine, p, p_clean, pair_auc, s_j, "
                "s_j_clean",
            ),
            (
                Criterion(metric="accuracy", fraction=0.5, floor="chance"),
                "known (learning) is judged by accuracy, which reported replicates of transfusion do not",
            ),
            (
                Criterion(metric="train_loss", fraction=0.5),
                "is judged by train_loss, which reported replicates of transfusion do not report before "
                "training; they report dead_row_share, effective_rank",
            ),
            (
                Criterion(metric="knn_accuracy", fraction=0.5),
                "is judged by knn_accuracy, which tuning replicates of transfusion do not report; they",
            ),
            (
                Criterion(metric="effective_rank", fraction=0.5, floor="chance"),
                "known (learning) takes effective_rank from chance, but it has no chance level: take floor=before",
            ),
        ],
    )
    def test_a_criterion_that_is_not_reported_is_refused_with_those_that_are(
        self, criterion: Criterion, sentence: str
    ) -> None:
        space = search_space(criterion=criterion)
        with pytest.raises(ValueError, match=re.escape(sentence)):
            make_design(space)

    def test_a_further_criterion_is_checked_too(self) -> None:
        with pytest.raises(ValueError, match="is judged by f1"):
            make_design(search_space(further_criteria=(Criterion(metric="f1", level=0.5),)))

    def test_what_is_reported_but_not_tuned_for_may_be_a_further_criterion(self) -> None:
        further = (Criterion(metric="knn_accuracy", fraction=0.5),)
        assert make_design(search_space(further_criteria=further)).further_criteria == further

    def test_another_trainer_by_hand_needs_a_criterion_that_it_reports(self) -> None:
        with pytest.raises(ValueError, match="of supervised do not report; they report accuracy,"):
            make_design(search_space(), overrides={"trainer": "supervised"})
        assert make_design(search_space(), variant="supervised").criterion == SUPERVISED.criterion
        own = dataclasses.replace(SUPERVISED, criterion=None)
        with pytest.raises(ValueError, match=r"known \(supervised\) is judged by p"):
            make_design(search_space(variants={"supervised": own}))
