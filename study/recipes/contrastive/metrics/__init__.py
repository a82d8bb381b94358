"""What replicates report. A metric of embeddings, which every method then has, is a file of its own here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.interface.metrics import Metric

if TYPE_CHECKING:
    import torch

    from study.recipes.contrastive.config import ReplicateConfig
    from study.recipes.contrastive.trainers.batch import EvaluationSet


@dataclass(frozen=True, kw_only=True)
class EmbeddingMetric:
    """A metric of the judged embeddings (R, E, N, D) of the evaluation batches, one value per replicate, (R,).

    ``is_reported`` says whether a configuration has it.
    """

    metric: Metric
    of: "Callable[[torch.Tensor, EvaluationSet], torch.Tensor]"
    is_reported: "Callable[[ReplicateConfig], bool]" = lambda config: True
