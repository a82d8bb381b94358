"""What ``doctor`` looks at on this machine, each with the remedy for what is wrong."""

import contextlib
import os
import platform
import re
import tomllib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from study.commands.mlflow import is_free
from study.commands.settings import Setting
from study.designs.values import flatten
from study.errors import ConfigError, DataUnavailable, error_sentence, first_line
from study.formatting import count
from study.layout import DISTRIBUTION, checkout
from study.ledger.addresses import without_secret

_GiB = 2**30
# Of all processes of the smallest study, one pack at a time on a CPU, 1.7 GiB were measured (sum of PSS).
LEAST_MEMORY = 2 * _GiB
_DASHBOARD_PORT, _MLFLOW_PORT = 8265, 5000
_UNFORESEEN = "this is not foreseen, please report it with this line"


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found; ``remedy`` says what to do where it is not all right."""

    name: str
    is_ok: bool
    found: str
    remedy: str = ""


def check_all(settings: dict[str, Setting]) -> Iterator[Check]:
    """One check after the other; what one raises is a failed check."""
    value = {name: setting.value for name, setting in settings.items()}
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("python", check_python),
        ("packages", check_packages),
        ("cpu", check_cpu),
        ("memory", check_memory),
        ("gpu", lambda: check_gpu(is_wanted=value["use_gpu"])),
        ("data", lambda: check_data(value["data_root"])),
        ("storage", lambda: check_storage(value["storage"])),
        ("mlflow", lambda: check_mlflow(value["tracking_uri"], value["storage"])),
        ("ray", check_ray),
        ("ports", check_ports),
    ]
    for name, look in looks:
        try:
            yield look()
        # A check must not hide those after it, whatever is broken in what it looks at.
        except ConfigError as error:
            yield failed(name, without_secret(str(error)))
        except Exception as error:
            yield Check(name=name, is_ok=False, found=without_secret(error_sentence(error)), remedy=_UNFORESEEN)


def failed(name: str, sentence: str) -> Check:
    """A failed check from a sentence of the kind "trouble: remedy"."""
    trouble, mark, remedy = sentence.rpartition(": ")
    if not mark:
        trouble, remedy = sentence, _UNFORESEEN
    return Check(name=name, is_ok=False, found=trouble, remedy=remedy)


def check_python() -> Check:
    """Whether this Python is new enough."""
    from packaging.specifiers import SpecifierSet

    wanted, found = _wanted_python(), platform.python_version()
    is_ok = SpecifierSet(wanted).contains(found, prereleases=True)
    return Check(name="python", is_ok=is_ok, found=found, remedy=f"make an environment with Python {wanted}")


def check_packages() -> Check:
    """Whether what this project asks for is installed: as pinned in a checkout, within its bounds elsewhere."""
    from packaging.requirements import Requirement

    wanted, source = _wanted_packages()
    wrong = []
    for requirement in map(Requirement, wanted):
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
    install = "pip install -c requirements.lock -e ." if checkout() else f"pip install --upgrade {DISTRIBUTION}"
    found = f"{', '.join(wrong)} ({source})" if wrong else f"{count(len(wanted), 'package')} as {source} asks"
    return Check(name="packages", is_ok=not wrong, found=found, remedy=install)


def check_cpu() -> Check:
    """How many processors a sweep may use."""
    from joblib import cpu_count

    return Check(name="cpu", is_ok=True, found=count(cpu_count(), "CPU"))


def check_memory() -> Check:
    """Whether there is memory for one worker beside Ray."""
    from study.execution.packs import available_memory

    found = available_memory()
    return Check(
        name="memory",
        is_ok=found >= LEAST_MEMORY,
        found=f"{found / _GiB:.1f} GiB free for new work",
        remedy=f"free {LEAST_MEMORY / _GiB:g} GiB: end other programs, or give the container more",
    )


def check_gpu(*, is_wanted: bool) -> Check:
    """What GPU torch sees; none is wrong only where one is asked for."""
    from study.execution.gpu import gpu_name, require_gpu

    try:
        require_gpu()
    except ConfigError as error:
        if is_wanted:
            raise
        built = re.search(r"torch \S+ is built [^)]*", str(error))
        return Check(name="gpu", is_ok=True, found=f"none that torch sees ({built[0] if built else 'torch'})")
    return Check(name="gpu", is_ok=True, found=gpu_name() + ("" if is_wanted else ", used with --use-gpu"))


def check_data(data_root: str | None) -> Check:
    """Whether the default data set can be read; it is fetched where it is not on disk."""
    from study.interface.recipe import find_recipe
    from study.ledger.names_on_disk import FIRST_RECIPE

    recipe = find_recipe(FIRST_RECIPE)
    config = recipe.config_class()
    try:
        data = recipe.load(config, data_root)
    except DataUnavailable as error:
        return Check(name="data", is_ok=False, found=error.trouble, remedy=error.remedy)
    name = flatten(config)[recipe.dataset_path]
    return Check(name="data", is_ok=True, found=f"{name} can be read (digest {data.digest})")


def check_storage(storage: str | None) -> Check:
    """Whether files of the storage can be written, read, renamed and deleted; nothing is left behind."""
    from study.ledger.store import Store, default_storage

    store = Store(storage or default_storage())
    with _nothing_left(store.local_path):
        name, words = f".probe-{uuid.uuid4().hex}", b"words"
        try:
            store.write(name, words)
            is_same = store.read(name) == words
            store.delete(name)
            is_gone = store.read(name) is None
        except OSError as error:
            return Check(
                name="storage",
                is_ok=False,
                found=f"{store.shown} cannot be written ({without_secret(first_line(error))})",
                remedy="pass a folder of yours or a URL with --storage, or set STUDY_STORAGE",
            )
    return Check(
        name="storage",
        is_ok=is_same and is_gone,
        found=f"{store.shown} " + ("can be written" if is_same and is_gone else "does not give back what is written"),
        remedy="pass another folder with --storage",
    )


def check_mlflow(tracking_uri: str | None, storage: str | None) -> Check:
    """Whether the server or database of MLflow answers; a file that is not there yet is made by the first sweep."""
    from study.ledger.store import default_storage
    from study.tracking.mlflow_runs import Tracker, default_tracking_uri, sqlite_file

    uri = tracking_uri or default_tracking_uri(storage or default_storage())
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        folder = next(place for place in file.absolute().parents if place.exists())
        is_ok = os.access(folder, os.W_OK | os.X_OK)
        return Check(
            name="mlflow",
            is_ok=is_ok,
            found=f"{file} is not there yet" + (": the first sweep makes it" if is_ok else ", and cannot be made"),
            remedy=f"make {folder} writable, or name another place with --tracking-uri",
        )
    Tracker(uri)
    return Check(name="mlflow", is_ok=True, found=f"{without_secret(uri)} answers")


def check_ray() -> Check:
    """Whether Ray finds a folder for its sockets, whose paths may have at most 107 characters."""
    from study.execution.ray_start import LONGEST_FOLDER, ray_folder

    folder = Path(ray_folder())
    is_writable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    return Check(
        name="ray",
        is_ok=is_writable and len(str(folder)) <= LONGEST_FOLDER,
        found=f"sessions in {folder} ({len(str(folder))} of at most {LONGEST_FOLDER} characters)",
        remedy=f"set RAY_TMPDIR to a folder of yours whose path has at most {LONGEST_FOLDER - len('/ray')} characters",
    )


def check_ports() -> Check:
    """Who holds the usual ports, which is no more than a remark: others are taken instead."""
    names = {_DASHBOARD_PORT: "Ray's dashboard", _MLFLOW_PORT: "MLflow"}
    found = [f"{port} ({name}) {'free' if is_free(port) else 'taken'}" for port, name in names.items()]
    return Check(name="ports", is_ok=True, found=", ".join(found))


def _project() -> dict[str, Any]:
    """The project table of a checkout, empty where there is none."""
    root = checkout()
    return tomllib.loads((root / "pyproject.toml").read_text())["project"] if root else {}


def _wanted_python() -> str:
    from importlib.metadata import metadata

    return _project().get("requires-python") or metadata(DISTRIBUTION)["Requires-Python"]


def _wanted_packages() -> tuple[list[str], str]:
    """The requirements that the project names itself, and where their versions come from."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    root = checkout()
    wanted = _project().get("dependencies") or requires(DISTRIBUTION) or []
    here = [
        str(item) for item in map(Requirement, wanted) if item.marker is None or item.marker.evaluate({"extra": ""})
    ]
    if root is None or not (root / "requirements.lock").is_file():
        return here, "this project"
    pins = [Requirement(line) for line in (root / "requirements.lock").read_text().splitlines() if line.strip()]
    names = {canonicalize_name(Requirement(item).name) for item in here}
    pinned = [
        f"{pin.name}{pin.specifier}"
        for pin in pins
        if canonicalize_name(pin.name) in names and (pin.marker is None or pin.marker.evaluate())
    ]
    return pinned, "requirements.lock"


@contextlib.contextmanager
def _nothing_left(folder: Path | None) -> Iterator[None]:
    """Remove the empty folders that a probe below ``folder`` made."""
    made = [] if folder is None else [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    finally:
        for place in made:
            # A sweep may have begun to write there.
            with contextlib.suppress(OSError):
                place.rmdir()
