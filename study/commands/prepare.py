"""What a sweep needs, checked before anything is written or started."""

import argparse
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from study.commands.options import ray_address
from study.designs.design import Design
from study.errors import ConfigError
from study.execution.prepared import Prepared
from study.interface.run import Data
from study.ledger.provenance import collect

if TYPE_CHECKING:
    from study.execution.tasks import ExecutorName


def prepare(options: argparse.Namespace, design: Design, replicates: int) -> Prepared:
    """Check data, storage and sizes; raises :class:`ConfigError` with nothing half-written."""
    from study.execution.gpu import require_gpu
    from study.ledger.store import Store, default_storage
    from study.tracking.live_view import LiveView
    from study.tracking.mlflow_runs import default_tracking_uri

    storage = options.storage or default_storage()
    if options.executor == "inline" and options.workers_per_trial > 1:
        raise ConfigError("--executor inline has one worker: use --executor train with --workers-per-trial")
    if options.gpus_per_pack is not None and options.gpus_per_pack < 1 and options.workers_per_trial > 1:
        raise ConfigError("--gpus-per-pack below 1 needs one worker per pack: NCCL refuses two ranks on one GPU")
    is_wide = options.workers_per_trial > 1 or options.profile == "cluster"
    wanted = options.executor if options.executor != "auto" else ("train" if is_wide else "inline")
    executor: ExecutorName = "train" if wanted == "train" else "inline"
    address = ray_address(options)
    if options.use_gpu and address == "local":
        require_gpu()
    recipe = design.recipe
    loaded: dict[Hashable, Data] = {}

    def data_of(config: Any) -> Data:
        key = recipe.data_key(config)
        if key not in loaded:
            loaded[key] = recipe.load(config, options.data_root)
        return loaded[key]

    candidates = [part.point(candidate) for part in design.slices() for candidate in part.candidates]
    for point in candidates if design.is_sought else design.points():
        for role in ("tuning", "reported"):
            config = design.resolve(point, {}, role)
            recipe.check(config, data_of(config), options.workers_per_trial)
    return Prepared(
        design=design,
        replicates=replicates,
        data_of=data_of,
        provenance=collect(),
        storage=Store(storage).uri,
        executor=executor,
        address=address,
        view=LiveView(options.tracking_uri or default_tracking_uri(storage)),
    )
