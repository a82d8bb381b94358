"""What a replicate sees at each step: drawn for the global batch from the seed, then sliced.

Shape suffixes: M images of a global batch, V views, P view parameters, S steps of a chunk.
"""

from dataclasses import dataclass

import torch

from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.labels import labelled_subset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.views import draw_view_parameters

_CHUNK_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Global draws of one step: training-split indices (M,) and raw view parameters (M * V, P), on the CPU.

    Rows are ordered image by image, so a slice by worker keeps the views of an image together. In a labelled stream
    every image has one view.
    """

    indices: torch.Tensor
    parameters: torch.Tensor


class BatchStream:
    """The training batches of one replicate, or its batches of labelled images, addressed by step.

    Images are drawn with replacement, so classes are i.i.d. as in the stated model. Drawing ``_CHUNK_STEPS``
    steps at a time costs one generator for all of them; a chunk depends on the seed and its number only.
    """

    def __init__(self, dataset: Dataset, config: ReplicateConfig, seed: int, *, is_labelled: bool = False) -> None:
        self._views = config.data.views
        self._seed = seed
        self._input_shape = dataset.input_shape
        self._prefix = "labelled-" if is_labelled else ""
        self._num_images = config.batch.labelled if is_labelled else config.num_images
        self._num_rows = config.batch.labelled if is_labelled else config.batch.train
        self._pool: torch.Tensor | None = None
        self._num_train = len(dataset.train)
        if config.data.label_fraction < 1 and (is_labelled or config.trainer == "supervised"):
            self._pool = labelled_subset(
                dataset.train.labels.cpu(), dataset.num_classes, config.data.label_fraction, seed
            )
            self._num_train = len(self._pool)
        self._chunk = -1

    def draws(self, step: int) -> Draws:
        """The global draws of ``step``, whatever was asked for before."""
        chunk, position = divmod(step, _CHUNK_STEPS)
        if chunk != self._chunk:
            self._fill(chunk)
        return Draws(indices=self._indices_SM[position], parameters=self._parameters_SRP[position])

    def _fill(self, chunk: int) -> None:
        order, views = (stream(self._seed, f"{self._prefix}{name}", chunk) for name in ("order", "views"))
        indices_SM = torch.randint(self._num_train, (_CHUNK_STEPS, self._num_images), generator=order)
        self._indices_SM = indices_SM if self._pool is None else self._pool[indices_SM]
        self._parameters_SRP = draw_view_parameters(self._num_rows, self._input_shape, views, _CHUNK_STEPS, self._views)
        self._chunk = chunk
