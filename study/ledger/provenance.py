"""Which code produced a row, and where: commit, dirty flag, digest of the sources, versions of libraries, CPU."""

import functools
import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from study.layout import PACKAGE, spaces_folder

_ROOT = PACKAGE.parent
# What a wheel holds inside the package and a checkout beside it.
_BESIDE = ("search_spaces", "cluster")
_LIBRARIES = ("ray", "torch", "torchvision", "optuna", "numpy", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """``commit`` is empty and ``dirty`` None where there is no git and no ``STUDY_COMMIT``."""

    commit: str
    dirty: bool | None
    source_digest: str
    versions: str
    node_type: str


def source_digest() -> str:
    """Digest of every Python file of study/ and search_spaces/, by path: the same in a checkout and in its wheel."""
    package = _ROOT / "study"
    spaces = spaces_folder(package)
    own = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in _BESIDE]
    sha = hashlib.sha256()
    for folder, files in ((package, own), (spaces, spaces.rglob("*.py"))):
        for path in sorted(files):
            sha.update(f"{folder.name}/{path.relative_to(folder).as_posix()}".encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """What git says of the folder of this code; None where it says nothing."""
    # A hook, or whoever else calls git, leaves variables behind that point git to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # A folder whose code runs is trusted already, whoever owns it.
    command = ["git", "--no-optional-locks", "-c", f"safe.directory={_ROOT}", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _commit_and_dirty() -> tuple[str, bool | None]:
    commit = _git("rev-parse", "HEAD") if (_ROOT / ".git").exists() else None
    if commit:
        status = _git("status", "--porcelain")
        return commit, None if status is None else bool(status)
    dirty = {"0": False, "1": True}.get(os.environ.get("STUDY_DIRTY", ""))
    return os.environ.get("STUDY_COMMIT", ""), dirty


@functools.cache
def cpu_model(info: Path = Path("/proc/cpuinfo")) -> str | None:
    """The name of this machine's CPU; None where it has none to give."""
    try:
        lines = info.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = ((name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return next((value for name, value in fields if name == "model name" and value), platform.processor()) or None


def collect() -> Provenance:
    """The provenance of this process's code; without .git from STUDY_COMMIT and STUDY_DIRTY (0 or 1)."""
    commit, dirty = _commit_and_dirty()
    versions = {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
    return Provenance(
        commit=commit,
        dirty=dirty,
        source_digest=source_digest(),
        versions=json.dumps(versions, sort_keys=True),
        node_type=f"{platform.machine()} {platform.system()}",
    )
