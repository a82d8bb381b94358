"""Ray, started on this machine or reached at an address; what can go wrong there gets its true cause in a sentence."""

import contextlib
import getpass
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

# Ray reads these when it is imported or started. The health check interval bounds how long a report waits. Tune's own
# handler of Ctrl-C would take it from study/execution/interrupts.py.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")

import psutil
import ray
from joblib import cpu_count

from study.errors import ConfigError, error_sentence

# Below its folder Ray makes names of this length for sockets, whose paths may have at most 107 characters.
LONGEST_FOLDER = 107 - 70
NICENESS, START_WAIT = "RAY_worker_niceness", "RAY_gcs_server_port_wait_time_s"
_START_SECONDS = 120


def start_ray(address: str, *, needs_dashboard: bool, niceness: int | None = None) -> None:
    """Connect to a cluster, or start Ray on this machine for ``local``.

    Placement groups of killed trials are cleaned up through the dashboard's State API, which nested training needs.

    Args:
        niceness: of the workers of a local Ray, 0 (a fair share of the processor) to 19 (what nobody else wants); None
            is what Ray's own variable says, else 0.
    """
    if address == "local":
        _start_here(needs_dashboard, niceness)
        return
    try:
        _probe(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise ConfigError(
            f"no Ray cluster answers at {address!r} ({error_sentence(error)}): check --address or "
            "RAY_ADDRESS, or pass --address local"
        ) from error


def _start_here(needs_dashboard: bool, niceness: int | None) -> None:
    # Ray's default is 15, with which workers nearly stand still beside a busy program.
    text = str(niceness) if niceness is not None else os.environ.get(NICENESS) or "0"
    if not text.isdecimal() or int(text) > 19:
        # Ray's processes die of it without a word.
        raise ConfigError(f"{NICENESS} takes a whole number from 0 to 19, not {text!r}")
    os.environ[NICENESS] = text
    # A busy machine takes longer than the half minute that Ray allows.
    os.environ.setdefault(START_WAIT, str(_START_SECONDS))
    _do_without_an_account()
    folder = ray_folder()
    try:
        ray.init(
            address="local",
            # Of a limited container too: Ray rounds half a processor down to none.
            num_cpus=cpu_count(),
            include_dashboard=needs_dashboard,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=128 * 2**20,
            _temp_dir=folder,
            _plasma_directory=_place_of_objects(folder),
        )
    # Ray raises bare exceptions here.
    except Exception as error:
        ray.shutdown()
        raise ConfigError(
            f"Ray could not be started on this machine ({error_sentence(error)}): its logs are in "
            f"{folder}/session_latest/logs; the same command tries again"
        ) from error


def _do_without_an_account() -> None:
    """Give the user a name and Ray its token where the system has no account or no home for them, as in containers."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"
    if not os.access(Path("~").expanduser(), os.W_OK) and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Ray would write a token of its cluster there.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())


def ray_folder() -> str:
    """The folder for Ray's sessions: its own choice where that may be written and is short enough for sockets."""
    temporary = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    usual = Path(temporary, "ray")
    for folder in (usual, Path("/tmp/ray"), Path(f"/tmp/ray-{os.getuid()}")):
        if len(str(folder)) <= LONGEST_FOLDER and _can_write(folder):
            return str(folder)
    return str(usual)


def _place_of_objects(folder: str) -> str | None:
    """Ray's own choice, but where that is a /dev/shm that this user may not write: then Ray would not start."""
    shared = Path("/dev/shm")
    return folder if shared.is_dir() and not os.access(shared, os.W_OK | os.X_OK) else None


def _can_write(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        return os.access(folder, os.W_OK | os.X_OK)
    return False


def _probe(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would wait there for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextlib.contextmanager
def watched(on_end: Callable[[], None]) -> Iterator[None]:
    """Call ``on_end`` from a thread when a Ray on this machine loses a process that it cannot do without.

    Tune would wait for ever for a raylet, and without its GCS Ray ends the program after a minute.
    """
    vital = [process for process in psutil.Process().children() if process.name() in ("raylet", "gcs_server")]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(1):
            if not all(map(_is_alive, vital)):
                on_end()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_ray() -> None:
    """Disconnect, and end a Ray that :func:`start_ray` started."""
    ray.shutdown()
