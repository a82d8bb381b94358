"""What trainers declare to report: exactly what they return, and what a design may be judged by."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from study.config import Replicate, ReplicateConfig, Scalar, with_values
from study.data.datasets import Dataset
from study.design import make_design
from study.metrics import reported
from study.results.schema import METRICS, REPLICATES
from study.space import Criterion
from study.tasks import PackTask, TaskSettings, run_task
from study.trainers.batch import EvaluationSet
from study.trainers.loop import TRAINERS, train_pack
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
CASES = [(trainer, changes) for trainer in TRAINERS for changes in CHANGES.values()]
CASES += [("oar", changes) for changes in OF_OAR.values()]
CASES += [("supervised", {"data.label_fraction": 0.5})]


@pytest.mark.parametrize(("trainer", "changes"), CASES, ids=str)
def test_a_run_returns_exactly_what_its_trainer_declares(
    trainer: str, changes: dict[str, Scalar], digits_config: ReplicateConfig, digits: Dataset
) -> None:
    config = with_values(for_trainer(digits_config, trainer), changes)
    (result,) = train_pack([Replicate.of(config, 1, "data")], digits)
    declared = reported(config)
    assert declared.at_end <= result.metrics.keys() <= declared.at_end | declared.sometimes
    assert result.before.keys() == declared.judged


@pytest.mark.parametrize("trainer", TRAINERS)
def test_what_is_declared_has_columns_in_the_ledger(trainer: str, digits_config: ReplicateConfig) -> None:
    columns = {column.name for column in REPLICATES}
    for changes in (*CHANGES.values(), *(OF_OAR.values() if trainer == "oar" else ())):
        declared = reported(with_values(for_trainer(digits_config, trainer), changes))
        assert declared.at_end | declared.sometimes <= METRICS.keys()
        assert {f"{name}_before" for name in declared.judged} <= columns


def test_every_metric_of_the_ledger_is_declared_by_some_trainer(digits_config: ReplicateConfig) -> None:
    declared: set[str] = set()
    for trainer, changes in CASES:
        found = reported(with_values(for_trainer(digits_config, trainer), changes))
        declared |= found.at_end | found.sometimes
    assert declared == set(METRICS)


def test_a_metric_that_is_returned_and_not_declared_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits_config: ReplicateConfig, digits: Dataset
) -> None:
    evaluate = TRAINERS["supervised"].evaluate

    def more(model: Any, evaluation: EvaluationSet, config: ReplicateConfig) -> dict[str, torch.Tensor]:
        metrics = evaluate(model, evaluation, config)
        return metrics | {"f1": metrics["accuracy"]}

    monkeypatch.setattr(TRAINERS["supervised"], "evaluate", more, raising=False)
    replicate = Replicate.of(for_trainer(digits_config, "supervised"), 1, digits.digest)
    settings = TaskSettings(ledger_uri=str(tmp_path / "ledger"), provenance=PROVENANCE)
    with pytest.raises(
        AssertionError, match=r"trainer supervised returns what .*schema\.py lacks: \['f1', 'f1_before'\]"
    ):
        run_task(PackTask(settings=settings, replicates=(replicate,), attempts=(1,)))


class TestDesigns:
    @pytest.mark.parametrize(
        ("criterion", "sentence"),
        [
            (
                Criterion(metric="f1", fraction=0.5),
                "known (learning) is judged by f1, which reported replicates with trainer=transfusion do not report; "
                "they report dead_row_share, effective_rank, knn_accuracy, mean_cosine, p, p_clean, pair_auc, s_j, "
                "s_j_clean",
            ),
            (
                Criterion(metric="accuracy", fraction=0.5, floor="chance"),
                "known (learning) is judged by accuracy, which reported replicates with trainer=transfusion do not",
            ),
            (
                Criterion(metric="train_loss", fraction=0.5),
                "is judged by train_loss, which reported replicates with trainer=transfusion do not report before "
                "training; they report dead_row_share, effective_rank",
            ),
            (
                Criterion(metric="knn_accuracy", fraction=0.5),
                "is judged by knn_accuracy, which tuning replicates with trainer=transfusion do not report; they",
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
        with pytest.raises(ValueError, match="with trainer=supervised do not report; they report accuracy,"):
            make_design(search_space(), overrides={"trainer": "supervised"})
        assert make_design(search_space(), variant="supervised").criterion == SUPERVISED.criterion
        own = dataclasses.replace(SUPERVISED, criterion=None)
        with pytest.raises(ValueError, match=r"known \(supervised\) is judged by p"):
            make_design(search_space(variants={"supervised": own}))
