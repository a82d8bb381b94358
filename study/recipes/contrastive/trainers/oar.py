"""Contrast of all views plus Orthonormal Anchor Regression (OAR) of the labelled ones.

The method follows the abstract of arXiv 2403.18699 v1: OAR pulls labelled views to anchors that are orthonormal, and is
added to InfoNCE with a weight lambda. By configuration it is also each of its baselines: InfoNCE alone (lambda 0,
SimCLR), OAR alone (``loss.contrast=none``) and SupCon, whose unlabelled views have only their own source as positive.
"""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import nn

from study.recipes.contrastive.affinity import unit
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.evaluation import alignment, effective_rank, mean_cosine, uniformity
from study.recipes.contrastive.losses.info_nce import info_nce
from study.recipes.contrastive.losses.oar import oar, orthonormal_anchors
from study.recipes.contrastive.models.packed import Gather, identity_gather
from study.recipes.contrastive.trainers.base import EmbeddingModel, Trainer, in_chunks, product_dtype
from study.recipes.contrastive.trainers.batch import EvaluationSet, TrainBatch


class OarModel(EmbeddingModel):
    """Encoder, projection and fixed anchors of a pack; returns (z_RND, anchors_RKD)."""

    anchors_RKD: torch.Tensor

    def __init__(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> None:
        super().__init__(config, dataset, generators)
        self.register_buffer("anchors_RKD", orthonormal_anchors(dataset.num_classes, self.output_dim, generators))

    def judged(self, inputs: torch.Tensor) -> torch.Tensor:
        """The vectors that the loss sees: it is they that fuse."""
        return self.project(self.embed(inputs))

    def head(
        self, z: torch.Tensor, gather: Gather = identity_gather, row_offset: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.project(z), self.anchors_RKD


class OarTrainer(Trainer[OarModel]):
    """Contrast + lambda OAR; judged by nearest-anchor accuracy and by how far the embeddings have fused."""

    once = ("first_step_norm", "first_step_variance", "escape_step")

    def build(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> OarModel:
        return OarModel(config, dataset, generators)

    def loss(
        self, model: nn.Module, batch: TrainBatch, config: ReplicateConfig, gather: Gather
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        z_all, anchors_RKD = model(batch.inputs, gather, batch.row_offset)
        z_RBD, extra_RLD = z_all[:, : batch.labels_RB.shape[1]], z_all[:, batch.labels_RB.shape[1] :]
        weight = config.loss.oar_weight if batch.step >= config.loss.oar_from_step else 0.0
        terms: dict[str, torch.Tensor] = {}
        if config.loss.contrast != "none":
            ids_RB, all_ids_RN = batch.contrast_ids(config.loss.contrast)
            terms["contrast_loss"] = info_nce(
                z_RBD,
                gather(z_RBD),
                ids_RB,
                all_ids_RN,
                batch.row_offset,
                temperature=config.loss.temperature,
                product_dtype=product_dtype(config),
            )
        if weight > 0:
            if batch.extra_labels_RL is None:
                regressed = z_RBD, batch.labels_RB, batch.labelled_RB, batch.all_labelled_RN
            else:
                labelled_RL = torch.ones_like(batch.extra_labels_RL, dtype=torch.bool)
                all_labelled = labelled_RL[:, :1].expand(-1, batch.num_extra)
                regressed = extra_RLD, batch.extra_labels_RL, labelled_RL, all_labelled
            terms["oar_loss"] = oar(*regressed, anchors_RKD)
        total = sum((weight if name == "oar_loss" else 1) * term for name, term in terms.items())
        assert isinstance(total, torch.Tensor)
        return total, {name: term.detach() for name, term in terms.items()}

    def evaluate(self, model: OarModel, evaluation: EvaluationSet, config: ReplicateConfig) -> dict[str, torch.Tensor]:
        metrics = {}
        for suffix, inputs in (("", evaluation.viewed), ("_clean", evaluation.clean)):
            z_RED = in_chunks(model.judged, inputs.flatten(1, 2))
            nearest = (unit(z_RED) @ model.anchors_RKD.transpose(-1, -2)).argmax(-1).unflatten(1, inputs.shape[1:3])
            metrics[f"accuracy{suffix}"] = (nearest == evaluation.labels_N).float().mean((-2, -1))
            if not suffix:
                metrics |= {
                    "effective_rank": effective_rank(z_RED),
                    "mean_cosine": mean_cosine(z_RED),
                    "embedding_norm": z_RED.norm(dim=-1).mean(-1),
                    "uniformity": uniformity(z_RED.unflatten(1, inputs.shape[1:3])).mean(-1),
                }
                if config.data.num_views > 1:
                    batches = z_RED.unflatten(1, inputs.shape[1:3])
                    metrics["alignment"] = alignment(batches, evaluation.sources_N).mean(-1)
        return metrics

    def watch(
        self,
        model: OarModel,
        evaluation: Callable[[], EvaluationSet],
        config: ReplicateConfig,
        step: int,
        seen: Sequence[Collection[str]],
    ) -> dict[str, list[float | None]]:
        """Norm and variance of the embeddings after the first step, and the first step at which they are apart.

        Both on unaugmented evaluation rows: R_1 and v_0 of the frozen state, and its escape (mean cosine below 1/2).
        """
        has_escaped = ["escape_step" in names for names in seen]
        if step > 1 and (not config.evaluation.escape or all(has_escaped)):
            return {}
        model.eval()
        z_RND = model.judged(evaluation().clean[:, 0])
        model.train()
        cosines, norms = mean_cosine(z_RND).tolist(), z_RND.norm(dim=-1).mean(-1).tolist()
        found: dict[str, list[float | None]] = {}
        if step == 1:
            found = {"first_step_norm": norms, "first_step_variance": [1 - cosine for cosine in cosines]}
        if config.evaluation.escape:
            pairs = zip(cosines, has_escaped, strict=True)
            found["escape_step"] = [step if cosine < 0.5 and not escaped else None for cosine, escaped in pairs]
        return found
