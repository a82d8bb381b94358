"""Configurations in the symbols of the theory: what its laws are asked of a run and of a limit."""

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from study.interface import theory
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.law import Setting
from study.rows import metric_column

if TYPE_CHECKING:
    import pandas as pd

# Which configuration path a law's quantity is the value of.
PATHS = {
    "sigma": "data.strength",
    "batch": "batch.eval",
    "train_batch": "batch.train",
    "num_blocks": "model.num_blocks",
    "steps": "horizon.length",
    "learning_rate": "optimizer.learning_rate",
    "num_labels": "data.label_fraction",
}
_OF_FIRST_STEP = ("first_step_norm", "first_step_variance")


class ContrastiveTheory:
    """The laws of docs/theory.md, a :class:`study.interface.theory.Theory`."""

    laws: Mapping[str, theory.Law] = LAWS

    def covers(self, config: ReplicateConfig) -> bool:
        """Laws are about affinities and anchors of the data model; a classifier stands beside them as a baseline."""
        return config.data.name == "clusters" and config.trainer != "supervised"

    def path_of(self, law: theory.Law) -> str:
        """The configuration path that a law's quantity is the value of."""
        return PATHS[law.quantity]

    def setting(self, config: ReplicateConfig, axis: str, replicates: "pd.DataFrame", *, is_tuned: bool) -> Setting:
        """The setting of a configuration but for its value on the axis, with what the first steps of its runs did.

        A run's own value on the axis is one of many and says nothing about the limit; nor does what follows from it.
        """
        return setting_along(config, axis, first_step(replicates), is_tuned=is_tuned)

    def units(self, config: ReplicateConfig, axis: str) -> float:
        """Labels are a share of the sources, steps may be told in images."""
        if axis == PATHS["num_labels"]:
            return 1 / config.data.clusters.num_sources
        is_in_images = axis == PATHS["steps"] and config.horizon.unit == "examples"
        return float(config.num_images) if is_in_images else 1.0


def setting_along(config: ReplicateConfig, axis: str, measured: Mapping[str, Any], *, is_tuned: bool) -> Setting:
    """The setting of a configuration but for its value on an axis; ``measured`` are fields that only a run can give."""
    unknown: dict[str, Any] = {quantity: None for quantity, path in PATHS.items() if path == axis}
    if axis == PATHS["train_batch"]:
        is_in_images = config.horizon.unit == "examples"
        unknown |= {"steps": None, "num_examples": config.horizon.length} if is_in_images else {"num_examples": None}
    return dataclasses.replace(setting_of(config, is_tuned=is_tuned), **(unknown | dict(measured)))


def first_step(replicates: "pd.DataFrame") -> dict[str, float]:
    """What the first step did, for laws that take it as measured: R_1 and its rate, and v_0, as geometric means."""
    columns = [metric_column(name) for name in _OF_FIRST_STEP]
    if not {*columns} <= set(replicates) or (known := replicates.dropna(subset=columns)).empty:
        return {}
    rates = [json.loads(text)["optimizer.learning_rate"] for text in known["config"]]
    means = np.exp(np.log(known.assign(rate=rates)[[*columns, "rate"]].to_numpy(float)).mean(0))
    return dict(zip([*_OF_FIRST_STEP, "learning_rate"], means.tolist(), strict=True))


def setting_of(config: ReplicateConfig, *, is_tuned: bool) -> Setting:
    """A configuration in the symbols of the theory; ``is_tuned``: its rate differs between points.

    Sizes of the data are those of ``clusters``: on images the setting says so, and laws of vectors refuse it.
    """
    clusters, model, is_trained = config.data.clusters, config.model, config.num_steps > 0
    is_identity, optimizer, loss = model.init == "identity", config.optimizer, config.loss
    return Setting(
        dim=clusters.dim,
        num_classes=clusters.num_classes,
        cosine=clusters.cosine,
        sigma=config.data.strength,
        batch=config.batch.eval,
        train_batch=config.batch.train,
        num_blocks=model.num_blocks,
        residual=model.residual,
        layer_norm=model.layer_norm,
        weights="trained" if is_trained else ("identity" if is_identity else None),
        init=model.init,
        num_views=config.data.num_views,
        spread=clusters.spread,
        mean_norm=clusters.mean_norm,
        basis=clusters.basis,
        num_sources=clusters.num_sources,
        steps=config.num_steps,
        num_examples=config.num_steps * config.num_images,
        optimizer=optimizer.name,
        schedule=optimizer.schedule,
        learning_rate=optimizer.learning_rate,
        is_tuned=is_tuned,
        temperature=loss.temperature if config.trainer == "oar" and loss.contrast != "none" else None,
        oar_weight=loss.oar_weight if config.trainer == "oar" else None,
        num_labels=config.data.label_fraction * clusters.num_sources,
        embedding_dim=model.embedding_dim,
        data="clusters" if config.data.name == "clusters" else "images",
        trainer=cast(Any, config.trainer),
        precision=config.precision,
        encoder=cast(Any, model.encoder),
        projection_dim=model.projection_dim,
        affinity=loss.affinity,
        target=loss.target,
        contrast=loss.contrast,
        oar_from_step=loss.oar_from_step,
        labelled=config.batch.labelled,
        labelling="stratified",
        momentum=optimizer.momentum if optimizer.name == "sgd" else 0.0,
        weight_decay=optimizer.weight_decay,
    )
