"""What every study plans: the hash of each design and the keys of its replicates, as the code gives them now."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from study.designs.assembly import make_design
from study.designs.catalogue import find_studies, load_space
from study.designs.cost import plan_size
from study.designs.design import Design
from study.designs.values import digest, flatten
from study.errors import ConfigError
from study.planning.planner import RoundPlanner
from study.recipes.contrastive.config import ReplicateConfig

KEYS_FILE = Path(__file__).with_name("keys.json")
DATA_DIGEST = "0123456789abcdef"
SEEDS = (1, 101)
# One for each trainer, whose keys are written out: where a digest differs, these show which keys do.
WRITTEN_OUT = (
    "batch_limit/learning/fashion_mnist/laptop",
    "smoke/supervised/digits/laptop",
    "label_limit/lambda_1/clusters/cluster",
)


def designs() -> Iterator[tuple[str, Design]]:
    """Every search space x variant x data set x profile that makes a design, by STUDY/VARIANT/DATASET/PROFILE."""
    for study in find_studies():
        space = load_space(study)
        for variant, dataset, profile in itertools.product(space.variants, space.datasets, space.profiles):
            try:
                design = make_design(space, variant=variant, dataset=dataset, profile=profile)
            except ConfigError as error:
                if "takes --dataset" in str(error):
                    continue
                raise
            yield f"{study}/{variant}/{dataset}/{profile}", design


def replicate_keys(design: Design) -> list[str]:
    """The keys of every point, tuning at the first nuisance setting and reported at the middle one, by both seeds."""
    first = {axis.path: axis.values[0] for axis in design.nuisance}
    middle = {axis.path: axis.values[len(axis.values) // 2] for axis in design.nuisance}
    roles: tuple[tuple[Literal["tuning", "reported"], Any], ...] = (("tuning", first), ("reported", middle))
    return [
        design.recipe.replicate(design.resolve(point, setting, role), seed, DATA_DIGEST).key
        for point, (role, setting), seed in itertools.product(design.points(), roles, SEEDS)
    ]


def first_round_keys(design: Design) -> list[str]:
    """The keys of the first round, in the order in which they are planned."""
    planner = RoundPlanner(design=design, digest_of=lambda _: DATA_DIGEST, replicates=design.replicates)
    return [entry.replicate.key for entry in planner.next_round([], {})]


def record(design: Design) -> dict[str, Any]:
    """What must not move of a design: its hash, its points, the size of its plan and digests of keys."""
    size = plan_size(design, design.replicates)
    return {
        "design": design.hash,
        "points": len(design.points()),
        "replicates": [size.least, size.greatest],
        "keys": digest(replicate_keys(design)),
        "first_round": digest(first_round_keys(design)),
    }


def keys() -> dict[str, Any]:
    """The content of ``keys.json``. Keys leave defaults out, so that a default that moves is seen by itself alone."""
    known = dict(designs())
    return {
        "defaults": flatten(ReplicateConfig()),
        "combinations": {name: record(design) for name, design in known.items()},
        "written_out": {name: replicate_keys(known[name]) for name in WRITTEN_OUT},
    }


def write_keys() -> None:
    """Write ``keys.json`` anew, one line per combination."""
    parts = []
    for part, lines in keys().items():
        text = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in lines.items())
        parts.append(f"{json.dumps(part)}: {{\n{text}\n}}")
    KEYS_FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")
