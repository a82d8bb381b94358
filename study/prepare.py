"""What a sweep needs, checked before anything is written or started."""

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.command_line import ray_address
from study.config import ClustersConfig, ConfigError
from study.design import Design
from study.provenance import Provenance, collect

if TYPE_CHECKING:
    from study.results.live_view import LiveView
    from study.searcher import DigestOf
    from study.tasks import ExecutorName


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything checked before anything is written or started."""

    design: Design
    replicates: int
    digest_of: "DigestOf"
    input_shape: tuple[int, ...]
    provenance: Provenance
    storage: str
    executor: "ExecutorName"
    address: str
    view: "LiveView"


def prepare(options: argparse.Namespace, design: Design, replicates: int) -> Prepared:
    """Check data, storage and sizes; raises :class:`ConfigError` with nothing half-written."""
    from study.data.datasets import Dataset, load_dataset
    from study.results.live_view import LiveView
    from study.results.store import Store, default_storage
    from study.results.tracking import default_tracking_uri
    from study.tasks import device_for
    from study.trainers.batch import check_evaluation
    from study.trainers.loop import checkpoint_seconds

    checkpoint_seconds()
    storage = options.storage or default_storage()
    if options.executor == "inline" and options.workers_per_trial > 1:
        raise ConfigError("--executor inline has one worker: use --executor train with --workers-per-trial")
    if options.gpus_per_pack is not None and options.gpus_per_pack < 1 and options.workers_per_trial > 1:
        raise ConfigError("--gpus-per-pack below 1 needs one worker per pack: NCCL refuses two ranks on one GPU")
    if options.workers_per_trial > 1 and design.config.model.norm == "batch":
        raise ConfigError("model.norm=batch needs one worker: its statistics would be those of each worker's part")
    is_wide = options.workers_per_trial > 1 or options.profile == "cluster"
    wanted = options.executor if options.executor != "auto" else ("train" if is_wide else "inline")
    executor: ExecutorName = "train" if wanted == "train" else "inline"
    address = ray_address(options)
    if options.use_gpu and address == "local":
        device_for(use_gpu=True)
    datasets: dict[tuple[str, ClustersConfig], Dataset] = {}
    candidates = [part.point(candidate) for part in design.slices() for candidate in part.candidates]
    for point in candidates if design.is_sought else design.points():
        for role in ("tuning", "reported"):
            config = design.resolve(point, {}, role)
            key = (config.data.name, config.data.clusters)
            if key not in datasets:
                datasets[key] = load_dataset(config.data, options.data_root)
            check_evaluation(config, datasets[key])
    return Prepared(
        design=design,
        replicates=replicates,
        digest_of=lambda config: datasets[config.data.name, config.data.clusters].digest,
        # Of vectors of several lengths the longest decides how much fits.
        input_shape=max((dataset.input_shape for dataset in datasets.values()), key=math.prod),
        provenance=collect(),
        storage=Store(storage).uri,
        executor=executor,
        address=address,
        view=LiveView(options.tracking_uri or default_tracking_uri(storage)),
    )
