"""Check a cluster launcher file for AWS without AWS: ``python -m cluster.check cluster/aws.yaml``.

Ray checks its own keys but hands ``node_config`` to EC2 unread, where a typing error costs a start of minutes. Here it
is compared with botocore's description of the request, and the file with what this project needs of a cluster.
Exit codes: 0 nothing wrong; 1 problems, one sentence each; 2 wrong usage or no such file.
"""

import argparse
import contextlib
import difflib
import io
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import yaml
from botocore.model import ListShape, Shape, StructureShape
from ray.autoscaler._private.util import prepare_config, validate_config

from study.errors import unknown_name_sentence

EXIT_PROBLEMS, EXIT_USAGE = 1, 2
MIN_DISK_GB = 100
_PLACEHOLDER = "CHANGE-ME"
_RAY_NODE_KEYS = ("SubnetIds",)  # Ray resolves it before it calls EC2.
_TYPES: dict[str, type] = {"structure": Mapping, "list": list, "string": str, "integer": int, "boolean": bool}


def find_problems(config: object) -> list[str]:
    """One sentence for everything that is wrong with a parsed launcher file; empty when it is right."""
    if not isinstance(config, Mapping):
        return ["the file holds no mapping: it should begin with cluster_name, provider and so on"]
    if sentence := _ray_problem(dict(config)):
        return [sentence]
    types = config.get("available_node_types") or {}
    if not types:
        return ["available_node_types is missing: name a head and a worker type"]
    head = config["head_node_type"]
    found = [*_image_problems(config), *_provider_problems(config["provider"])]
    for name, node_type in types.items():
        node_config = node_type["node_config"]
        found += _shape_problems(node_config, _request_shape(), f"{name}.node_config")
        found += _disk_problems(name, node_config)
        found += _head_problems(name, node_type) if name == head else _worker_problems(name, node_type)
    return found


def find_to_dos(config: Mapping[str, Any]) -> list[str]:
    """What is left to do by hand before ``ray up``: placeholders and files that are not there yet."""
    found = [f"{path}: put a value of yours in the place of {text!r}" for path, text in _placeholders(config)]
    for local in (config.get("file_mounts") or {}).values():
        if not Path(local).expanduser().exists():
            hint = " (make it with: ray get-auth-token --generate)" if local.endswith("auth_token") else ""
            found.append(f"file_mounts: there is no {local} here{hint}")
    return found


def _ray_problem(config: dict[str, Any]) -> str | None:
    """The first thing that Ray itself rejects."""
    provider = config.get("provider")
    if not isinstance(provider, Mapping) or provider.get("type") != "aws":
        return "provider.type is not aws: this check knows AWS only"
    try:
        # Ray prints hints about defaults and single-file mounts, which are no problems.
        with contextlib.redirect_stdout(io.StringIO()):
            logging.getLogger("ray").setLevel(logging.ERROR)
            validate_config(prepare_config(config))
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "the top level"
        if error.validator == "additionalProperties":
            known = sorted(error.schema["properties"])
            unknown = next(key for key in error.instance if key not in known)
            return unknown_name_sentence(f"key at {place}", unknown, known)
        return f"{place}: {error.message}"
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"Ray cannot read the file ({type(error).__name__}: {error})"
    return None


def _provider_problems(provider: Mapping[str, Any]) -> Iterator[str]:
    if "," not in provider.get("availability_zone", ""):
        yield "provider.availability_zone names fewer than two zones: spot capacity runs out zone by zone"


def _image_problems(config: Mapping[str, Any]) -> Iterator[str]:
    docker = config.get("docker") or {}
    for key in ("image", "head_image", "worker_image"):
        if (image := docker.get(key)) is None:
            continue
        tag = image.rpartition("/")[2].partition(":")[2]
        if not tag or tag.startswith(("latest", "nightly")):
            yield f"docker.{key} {image!r} is not pinned: name the Ray and Python version of requirements.lock"
    if not any("RAY_AUTH_MODE=token" in str(option) for option in docker.get("run_options", [])):
        yield "docker.run_options lack --env RAY_AUTH_MODE=token: whoever reaches the cluster could run code on it"


def _head_problems(name: str, node_type: Mapping[str, Any]) -> Iterator[str]:
    if node_type["resources"].get("CPU") != 0:
        yield f"{name}.resources should say CPU: 0: the head holds the drivers of all trials and must train nothing"
    if _is_spot(node_type["node_config"]):
        yield f"{name} is the head and on spot: its preemption would end the cluster and every job on it"


def _worker_problems(name: str, node_type: Mapping[str, Any]) -> Iterator[str]:
    node_config = node_type["node_config"]
    if node_type.get("min_workers", 0) != 0:
        yield f"{name}.min_workers is {node_type['min_workers']}, not 0: an idle cluster would go on costing money"
    if not _is_spot(node_config):
        yield f"{name}.node_config is not on spot: add InstanceMarketOptions: {{MarketType: spot}}"
    if "IamInstanceProfile" not in node_config:
        yield f"{name}.node_config has no IamInstanceProfile: workers write their rows to the bucket themselves"
    if "ImageId" not in node_config:
        yield f"{name}.node_config has no ImageId: the driver of Ray's default image is too old for CUDA 13"


def _disk_problems(name: str, node_config: Mapping[str, Any]) -> Iterator[str]:
    mappings = node_config.get("BlockDeviceMappings")
    disks = [m.get("Ebs", {}) for m in mappings if isinstance(m, Mapping)] if isinstance(mappings, list) else []
    sizes = [disk.get("VolumeSize", 0) for disk in disks if isinstance(disk, Mapping)]
    if not any(isinstance(size, int) and size >= MIN_DISK_GB for size in sizes):
        yield f"{name}.node_config has no disk of at least {MIN_DISK_GB} GB: set Ebs.VolumeSize in BlockDeviceMappings"


def _is_spot(node_config: Mapping[str, Any]) -> bool:
    options = node_config.get("InstanceMarketOptions")
    return isinstance(options, Mapping) and options.get("MarketType") == "spot"


def _request_shape() -> Shape:
    """What EC2 accepts for an instance, as botocore describes it."""
    service = botocore.session.get_session().get_service_model("ec2")
    return service.operation_model("RunInstances").input_shape


def _shape_problems(value: object, shape: Shape, path: str) -> Iterator[str]:
    """Unknown names, wrong types and unknown choices, at any depth."""
    expected = _TYPES.get(shape.type_name)
    is_bool_for_int = isinstance(value, bool) and shape.type_name != "boolean"
    if expected is not None and (not isinstance(value, expected) or is_bool_for_int):
        yield f"{path} takes a {shape.type_name}, not {value!r}"
    elif isinstance(shape, StructureShape):
        assert isinstance(value, Mapping)
        known = [*shape.members, *(_RAY_NODE_KEYS if path.endswith(".node_config") else ())]
        for key, inner in value.items():
            if key in shape.members:
                yield from _shape_problems(inner, shape.members[key], f"{path}.{key}")
            elif key not in known:
                yield unknown_name_sentence(f"key at {path}", key, known)
    elif isinstance(shape, ListShape):
        assert isinstance(value, list)
        for index, inner in enumerate(value):
            yield from _shape_problems(inner, shape.member, f"{path}[{index}]")
    elif (choices := getattr(shape, "enum", None)) and value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=3, cutoff=0)
        yield f"{path} takes no {value!r}: the nearest of {len(choices)} known values are {', '.join(near)}"


def _placeholders(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _placeholders(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _placeholders(inner, path)
    elif isinstance(value, str) and _PLACEHOLDER in value:
        yield path, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cluster.check", description="Check a cluster file without AWS.")
    parser.add_argument("file", type=Path, help="a cluster launcher file, for example cluster/aws.yaml")
    path: Path = parser.parse_args(arguments).file
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        print(f"error: {path} cannot be read ({error.strerror})", file=sys.stderr)
        return EXIT_USAGE
    except yaml.YAMLError as error:
        print(f"{path}: no YAML ({' '.join(str(error).split())})", file=sys.stderr)
        return EXIT_PROBLEMS
    problems = find_problems(config)
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)
    if problems:
        return EXIT_PROBLEMS
    for to_do in find_to_dos(config):
        print(f"before ray up: {to_do}")
    print(f"{path} is right as far as it can be told without AWS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
