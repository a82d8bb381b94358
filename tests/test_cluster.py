"""The shipped cluster file passes its check, and each kind of mistake is called by its name."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.check import find_problems, find_to_dos, main

_FILE = Path(__file__).resolve().parent.parent / "cluster" / "aws.yaml"
_LOCK = _FILE.parent.parent / "requirements.lock"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(_FILE.read_text())


def _change(config: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with the value at a path of keys set, or taken out where it is None."""
    # YAML aliases share their target; a change of one node type must not reach the other.
    changed = yaml.safe_load(yaml.dump(copy.deepcopy(config), Dumper=_NoAliases))
    *folders, last = path.split("/")
    place = changed
    for folder in folders:
        place = place[int(folder) if folder.isdigit() else folder]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return changed


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_the_shipped_file_has_no_problems(config: dict[str, Any]) -> None:
    assert find_problems(config) == []


def test_the_shipped_file_pins_the_versions_of_the_lock_file(config: dict[str, Any]) -> None:
    version = next(line for line in _LOCK.read_text().splitlines() if line.startswith("ray==")).removeprefix("ray==")
    for key in ("head_image", "worker_image"):
        assert config["docker"][key].startswith(f"rayproject/ray:{version}-py3")


_WORKER = "available_node_types/gpu_spot"
_HEAD = "available_node_types/head"
_MISTAKES = {
    "a typing error in node_config": (
        f"{_WORKER}/node_config/InstanceTyp",
        "g6.xlarge",
        ("'InstanceTyp'", "gpu_spot.node_config", "InstanceType"),
    ),
    "a typing error deep in node_config": (
        f"{_HEAD}/node_config/BlockDeviceMappings/0/Ebs/VolumeSise",
        100,
        ("'VolumeSise'", "head.node_config.BlockDeviceMappings[0].Ebs", "VolumeSize"),
    ),
    "an instance type that does not exist": (f"{_WORKER}/node_config/InstanceType", "g6.xlage", ("g6.xlarge",)),
    "a wrong type in node_config": (f"{_WORKER}/node_config/ImageId", 17, ("gpu_spot.node_config.ImageId", "string")),
    "an unknown key at the top": ("idle_timeout_minute", 5, ("'idle_timeout_minute'", "idle_timeout_minutes")),
    "an unknown key of a node type": (f"{_WORKER}/min_worker", 0, ("'min_worker'", "min_workers")),
    "a wrong type at the top": ("max_workers", "many", ("max_workers", "integer")),
    "a head type that is not there": ("head_node_type", "chief", ("head_node_type",)),
    "the latest image": ("docker/worker_image", "rayproject/ray:latest-py311-gpu", ("worker_image", "not pinned")),
    "an image without a tag": ("docker/head_image", "rayproject/ray", ("head_image", "not pinned")),
    "no token": ("docker/run_options", [], ("RAY_AUTH_MODE=token",)),
    "a head with CPUs": (f"{_HEAD}/resources", {"CPU": 2}, ("head.resources", "CPU: 0")),
    "a head that counts its CPUs": (f"{_HEAD}/resources", {}, ("head.resources", "CPU: 0")),
    "a head on spot": (f"{_HEAD}/node_config/InstanceMarketOptions", {"MarketType": "spot"}, ("head", "preemption")),
    "a worker that never leaves": (f"{_WORKER}/min_workers", 1, ("gpu_spot.min_workers", "not 0")),
    "a worker on demand": (f"{_WORKER}/node_config/InstanceMarketOptions", None, ("gpu_spot", "spot")),
    "a worker without a profile": (f"{_WORKER}/node_config/IamInstanceProfile", None, ("IamInstanceProfile",)),
    "a worker on Ray's old image": (f"{_WORKER}/node_config/ImageId", None, ("ImageId", "CUDA 13")),
    "a small disk": (f"{_WORKER}/node_config/BlockDeviceMappings/0/Ebs/VolumeSize", 50, ("gpu_spot", "100 GB")),
    "no disk": (f"{_WORKER}/node_config/BlockDeviceMappings", None, ("gpu_spot", "100 GB")),
    "one zone": ("provider/availability_zone", "us-west-2a", ("availability_zone",)),
    "another cloud": ("provider/type", "gcp", ("AWS only",)),
    "no node types": ("available_node_types", None, ("head_node_type",)),
}


@pytest.mark.parametrize("name", _MISTAKES)
def test_one_mistake_is_one_sentence(config: dict[str, Any], name: str) -> None:
    path, value, words = _MISTAKES[name]
    problems = find_problems(_change(config, path, value))
    assert len(problems) == 1
    assert all(word in problems[0] for word in words), problems[0]


def test_several_mistakes_are_all_named(config: dict[str, Any]) -> None:
    changed = _change(config, f"{_WORKER}/min_workers", 1)
    changed = _change(changed, f"{_HEAD}/node_config/InstanceTyp", "m7i.large")
    assert len(find_problems(changed)) == 2


@pytest.mark.parametrize("content", [None, [], "text", {}])
def test_a_file_that_is_no_cluster_file_is_a_problem(content: object) -> None:
    assert len(find_problems(content)) == 1


def test_what_is_left_to_fill_in_is_listed(config: dict[str, Any], tmp_path: Path) -> None:
    config["file_mounts"] = {"~/.ray/auth_token": str(tmp_path / "auth_token")}
    to_dos = find_to_dos(config)
    assert any("ImageId" in line for line in to_dos)
    assert any("ray get-auth-token --generate" in line for line in to_dos)


def test_exit_codes(config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(_FILE)]) == 0
    assert main([str(tmp_path / "missing.yaml")]) == 2
    assert "missing.yaml cannot be read" in capsys.readouterr().err
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.dump(_change(config, f"{_WORKER}/min_workers", 1)))
    assert main([str(wrong)]) == 1
    assert "min_workers is 1, not 0" in capsys.readouterr().err
    wrong.write_text("a: [")
    assert main([str(wrong)]) == 1
