"""A pack of contrastive replicates in one worker: what needs no training is measured first, then the pack trains."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from study.designs.values import flatten, to_json
from study.interface.run import Context, Progress, Replicate, Result
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.identities import encoder_settings, view_settings
from study.recipes.contrastive.memory import encoder_rows
from study.recipes.contrastive.trainers.checkpoints import TorchCheckpoints, to_bytes
from study.recipes.contrastive.trainers.context import RunContext
from study.recipes.contrastive.trainers.downstream import is_wanted, measure_raw
from study.recipes.contrastive.trainers.loop import PackRun, measure_untrained, measure_view_moments
from study.recipes.contrastive.trainers.view_cosines import raw_moments

# What the measures of a frozen embedding depend on, beside the encoder.
_JUDGING = ("evaluation.split", "evaluation.knn_bank", "evaluation.knn_neighbours", "evaluation.linear_probe")


class ContrastiveRun:
    """A :class:`study.interface.run.Run` on tensors of one device."""

    def __init__(self, pack: Sequence[Replicate[ReplicateConfig]], data: Dataset, context: Context) -> None:
        device = torch.device("cuda", torch.cuda.current_device()) if context.use_gpu else torch.device("cpu")
        if not context.use_gpu:
            torch.set_num_threads(context.num_threads)
        self._pack, self._dataset, self._measurements = pack, _on(data, device), context.measurements
        self._untrained = self._measure_untrained() if context.rank == 0 else []
        self._run = PackRun(pack, self._dataset, _loop_context(pack[0].config, self._dataset, context, device))

    @property
    def is_done(self) -> bool:
        return self._run.is_done

    def advance(self) -> Progress:
        """Train until the next evaluation or report."""
        return self._run.advance()

    def results(self) -> list[Result]:
        """Results of all members, on rank 0, once the run is done."""
        return self._run.results(self._untrained)

    def model(self, index: int) -> bytes | None:
        """A member's weights, buffers and configuration: readable with ``weights_only=True``."""
        model = {
            "parameters": self._run.optimizer.replicate_parameters(index),
            "buffers": self._run.replicate_buffers(index),
            "config": to_json(self._pack[index].config),
        }
        return to_bytes(model)

    def delete_checkpoints(self) -> None:
        """Drop the checkpoints of a pack whose results are safe."""
        self._run.delete_checkpoints()

    def _measure_untrained(self) -> list[dict[str, float]]:
        """What needs no training, of raw inputs and untrained encoders: views' cosines, and what members rise from.

        Returns the downstream measures of each member's encoder before training.
        """
        config, dataset, pack = self._pack[0].config, self._dataset, self._pack
        values, model = flatten(config), encoder_settings(config)
        for strength in sorted({replicate.config.data.strength for replicate in pack}):
            self._measure_views([replicate for replicate in pack if replicate.config.data.strength == strength])
        if not is_wanted(config.evaluation):
            return [{} for _ in pack]
        judging = {path: values[path] for path in _JUDGING}
        self._measured("raw_", [None], judging, lambda: [measure_raw(dataset, config.evaluation)])
        settings = judging | model | {"data.label_fraction": config.data.label_fraction}
        seeds = [replicate.seed for replicate in pack]
        return self._measured("untrained_", seeds, settings, lambda: measure_untrained(pack, dataset))

    def _measure_views(self, peers: Sequence[Replicate[ReplicateConfig]]) -> None:
        """Cosine moments of views at the strength that ``peers`` share, raw and by each one's untrained encoder."""
        config, dataset = peers[0].config, self._dataset
        views = view_settings(config)
        self._measured("raw_views_", [None], views, lambda: [raw_moments(dataset, config)])
        seeds, settings = [peer.seed for peer in peers], views | encoder_settings(config)
        self._measured("untrained_views_", seeds, settings, lambda: measure_view_moments(peers, dataset))

    def _measured(
        self,
        prefix: str,
        seeds: Sequence[int | None],
        settings: dict[str, Any],
        measure: Callable[[], list[dict[str, float]]],
    ) -> list[dict[str, float]]:
        """Measurements of every seed as they were kept; where one is missing, all are made and kept."""
        if self._measurements is None:
            return measure()
        digest = self._dataset.digest
        found = [self._measurements.measurements(prefix, digest, seed, settings) for seed in seeds]
        if not all(found):
            found = measure()
            for seed, known in zip(seeds, found, strict=True):
                self._measurements.record_measurements(prefix, digest, seed, settings, known)
        return found


_moved: list[tuple[Dataset, torch.device, Dataset]] = []


def _on(data: Dataset, device: torch.device) -> Dataset:
    """The data set on a device, where its last copy there is kept for the next pack."""
    if device.type == "cpu":
        return data
    if not _moved or _moved[0][0] is not data or _moved[0][1] != device:
        _moved[:] = [(data, device, data.to(device))]
    return _moved[0][2]


def _loop_context(config: ReplicateConfig, dataset: Dataset, context: Context, device: torch.device) -> RunContext:
    checkpoints = None if context.checkpoints is None else TorchCheckpoints(context.checkpoints)
    found = RunContext(checkpoints=checkpoints)
    if context.world_size > 1:
        from study.recipes.contrastive.distributed import process_group_context

        found = process_group_context(checkpoints, device)
    rows = encoder_rows(config, dataset.input_shape, context.world_size, context.memory_bytes)
    return dataclasses.replace(found, encoder_rows=rows)
