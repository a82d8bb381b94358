"""Which code produced a row: commit, dirty flag, digest of the sources and versions of the libraries."""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
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
    """Digest of every Python file of study/ and search_spaces/, by path."""
    sha = hashlib.sha256()
    for folder in ("study", "search_spaces"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            sha.update(path.relative_to(_ROOT).as_posix().encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=10)
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
