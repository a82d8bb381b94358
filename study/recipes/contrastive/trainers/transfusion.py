"""TransFusion: an encoder and a fusion head trained by JSD between the batch's affinity and its target."""

from collections.abc import Sequence

import torch
from torch import nn

from study.recipes.contrastive.affinity import affinity, partners, with_dead_rows_uniform
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.evaluation import affinity_success, effective_rank, mean_cosine, pair_auc
from study.recipes.contrastive.losses.affinity_jsd import affinity_jsd, has_some_partner
from study.recipes.contrastive.models.fusion import TransFusion
from study.recipes.contrastive.models.packed import Gather, identity_gather
from study.recipes.contrastive.trainers.base import EmbeddingModel, Trainer, in_chunks, product_dtype
from study.recipes.contrastive.trainers.batch import EvaluationSet, TrainBatch


class TransFusionModel(EmbeddingModel):
    """Encoder and fusion head of a pack; returns (q_rows, k_all)."""

    def __init__(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> None:
        super().__init__(config, dataset, generators)
        self.fusion = TransFusion(
            self.output_dim,
            generators,
            num_blocks=config.model.num_blocks,
            residual=config.model.residual,
            layer_norm=config.model.layer_norm,
            identity_init=config.model.init == "identity",
            affinity_kind=config.loss.affinity,
            temperature=config.loss.temperature,
            product_dtype=product_dtype(config),
        )

    def head(
        self, z: torch.Tensor, gather: Gather = identity_gather, row_offset: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.fusion(self.project(z), gather, row_offset)


class TransFusionTrainer(Trainer[TransFusionModel]):
    """JSD to the class or source target; judged by P and S_J on balanced batches."""

    def build(
        self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]
    ) -> TransFusionModel:
        return TransFusionModel(config, dataset, generators)

    def loss(
        self, model: nn.Module, batch: TrainBatch, config: ReplicateConfig, gather: Gather
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        q_rows, k_all = model(batch.inputs, gather, batch.row_offset)
        ids, all_ids = batch.ids(config.loss.target)
        num_local, num_all = ids.shape[-1], all_ids.shape[-1]
        has_partner = has_some_partner(all_ids)[..., batch.row_offset : batch.row_offset + num_local]
        partnerless = (~has_partner).sum(-1) / num_all
        divergence = affinity_jsd(
            q_rows,
            k_all,
            ids,
            all_ids,
            batch.row_offset,
            kind=config.loss.affinity,
            temperature=config.loss.temperature,
            product_dtype=product_dtype(config),
        )
        return divergence, {"partnerless_row_share": partnerless}

    def evaluate(
        self, model: TransFusionModel, evaluation: EvaluationSet, config: ReplicateConfig
    ) -> dict[str, torch.Tensor]:
        metrics = self._affinity_metrics(model, evaluation.viewed, evaluation, config)
        clean = self._affinity_metrics(model, evaluation.clean, evaluation, config)
        return metrics | {f"{name}_clean": clean[name] for name in ("p", "s_j")}

    def _affinity_metrics(
        self, model: TransFusionModel, inputs: torch.Tensor, evaluation: EvaluationSet, config: ReplicateConfig
    ) -> dict[str, torch.Tensor]:
        z = in_chunks(model.embed, inputs.flatten(1, 2))
        q_rows, k_all = model.head(z.unflatten(1, inputs.shape[1:3]))
        a = affinity(q_rows, k_all, kind=config.loss.affinity, temperature=config.loss.temperature)
        per_batch = affinity_success(a, evaluation.labels_N) | {"pair_auc": pair_auc(a, evaluation.labels_N)}
        if config.data.num_views > 1:
            per_batch["source_mass"] = (
                (with_dead_rows_uniform(a) * partners(evaluation.sources_N, evaluation.sources_N)).sum(-1).mean(-1)
            )
        metrics = {name: values.mean(-1) for name, values in per_batch.items()}
        return metrics | {"effective_rank": effective_rank(z), "mean_cosine": mean_cosine(z)}
