"""TransFusion, OAR and a supervised baseline as one recipe. Loading this module loads neither torch nor the laws."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from study.designs.criterion import Criterion
from study.designs.values import Scalar, Values, digest, flatten
from study.errors import ConfigError
from study.formatting import count
from study.interface.metrics import Metric, Reported
from study.interface.recipe import Cost, Method, Recipe
from study.interface.run import Context, Replicate, Run
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.memory import cost_of, workers_for
from study.recipes.contrastive.metrics.declared import all_metrics, reported
from study.recipes.contrastive.presets import PAPER, paper_config
from study.recipes.contrastive.quantities import QUANTITIES

if TYPE_CHECKING:
    from study.interface.readings import Reading, SliceView
    from study.interface.theory import Theory
    from study.recipes.contrastive.data.datasets import Dataset

# The two measures of one affinity matrix, which criteria of classes are stated in.
_MASSES = ("p", "s_j")
_ACCURACY = "knn_accuracy"


class Contrastive(Recipe[ReplicateConfig]):
    """Contrastive training of an encoder, judged by its affinities, its anchors or its logits."""

    address = "study.recipes.contrastive.recipe:CONTRASTIVE"
    config_class = ReplicateConfig
    quantities = QUANTITIES
    dataset_path = "data.name"
    stand_in = "digits"
    split_path = "evaluation.split"
    horizon_path = "horizon.length"
    # Its keys and designs are older than names of recipes.
    identity = ""
    reading_names = ("knn", "from_moments", "escapes")

    def start(self, pack: Sequence[Replicate[ReplicateConfig]], data: "Dataset", context: Context) -> Run:
        from study.recipes.contrastive.run import ContrastiveRun

        return ContrastiveRun(pack, data, context)

    @functools.cached_property
    def metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        return all_metrics()

    def method(self, config: ReplicateConfig) -> Method:
        return Method(name=config.trainer, numerics=components.method(config.trainer).numerics)

    def reported(self, config: ReplicateConfig) -> Reported:
        return reported(config)

    def data_key(self, config: ReplicateConfig) -> Hashable:
        return config.data.name, config.data.clusters

    def load(self, config: ReplicateConfig, data_root: str | None) -> "Dataset":
        from study.recipes.contrastive.data.datasets import load_dataset

        return load_dataset(config.data, data_root)

    def check(self, config: ReplicateConfig, data: "Dataset", num_workers: int) -> None:
        from study.recipes.contrastive.trainers.batch import check_evaluation
        from study.recipes.contrastive.trainers.context import checkpoint_seconds

        checkpoint_seconds()
        if num_workers > 1 and config.model.norm == "batch":
            raise ConfigError("model.norm=batch needs one worker: its statistics would be those of each worker's part")
        check_evaluation(config, data)

    def of_dataset(self, name: str) -> Values:
        return {"data.name": name} | ({"model.encoder": "none"} if components.dataset(name).is_vector else {})

    def together(self, config: ReplicateConfig) -> str:
        """Members may differ in seed, learning rate and augmentation strength."""
        values = flatten(config)
        for path in ("optimizer.learning_rate", "data.strength"):
            del values[path]
        return digest(values)

    def order(self, config: ReplicateConfig) -> float:
        """Equal learning rates are neighbours, so that the optimiser updates them together."""
        return config.optimizer.learning_rate

    def cost(self, config: ReplicateConfig, data: "Dataset | None", num_workers: int) -> Cost:
        return cost_of(config, None if data is None else data.input_shape, num_workers)

    def num_workers(self, config: ReplicateConfig, asked: int) -> int:
        return workers_for(config, asked)

    def shown(self, values: Values) -> dict[str, Scalar]:
        is_synthetic = values["data.name"] == "clusters"
        return {path: v for path, v in values.items() if is_synthetic or not path.startswith("data.clusters.")}

    def horizon(self, config: ReplicateConfig) -> str:
        if not config.horizon.length:
            return "no training"
        return count(config.horizon.length, {"examples": "training image", "steps": "step"}[config.horizon.unit])

    def alternatives(self, criterion: Criterion) -> Iterator[Criterion]:
        if criterion.metric in _MASSES:
            for metric in _MASSES:
                if metric != criterion.metric:
                    yield dataclasses.replace(criterion, metric=metric)
        if criterion.metric != _ACCURACY and self.metric(criterion.metric).broken == "low":
            # Accuracies have no common level with other metrics: a share of their own rise from the untrained encoder.
            yield Criterion(metric=_ACCURACY, fraction=criterion.fraction or 0.5)

    @property
    def presets(self) -> Mapping[str, ReplicateConfig]:
        """The methods' settings in their papers."""
        return {name: paper_config(name) for name in PAPER}

    @functools.cached_property
    def theory(self) -> "Theory":
        from study.recipes.contrastive.theory import ContrastiveTheory

        return ContrastiveTheory()

    @property
    def law_command(self) -> Callable[[Sequence[str], str], int]:
        from study.recipes.contrastive.laws.__main__ import main

        return lambda arguments, program: main(arguments, program=program)

    def readings(self, view: "SliceView") -> "Iterator[Reading]":
        from study.recipes.contrastive.readings import readings_of

        return readings_of(view)


CONTRASTIVE = Contrastive()
