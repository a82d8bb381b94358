"""A data set that is not on this machine: each source in turn, each missing, silent or wrong, and nothing half done.

No test reaches a network: mirrors are a server on this machine, and apt-get and dpkg-deb are scripts.
"""

import gzip
import hashlib
import io
import pickle
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import CIFAR10, FashionMNIST

from study.errors import ConfigError, DataUnavailable
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data import debian, fetching
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.data.sets import fashion_mnist
from tests.data_files import fashion_files, write_fashion

FASHION = DataConfig(name="fashion_mnist")
FILES = {f"/{stem}.gz": gzip.compress(raw) for stem, raw in fashion_files().items()}
LABELS = "/t10k-labels-idx1-ubyte.gz"


class Mirror(ThreadingHTTPServer):
    """Serves ``files`` by their path: nothing of an empty one, and of None the beginning of a longer one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes | None] = {}
        self.on_request: Callable[[], object] = lambda: None
        self.on_half: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Mirror)
        self.server.on_request()
        content = self.server.files.get(self.path, b"")
        if content == b"":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(1000 if content is None else len(content)))
        self.end_headers()
        self.wfile.write(content or b"only this")
        if content is None:
            self.wfile.flush()
            self.server.on_half()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data, network or apt-get, where seed 0 is what was published; returns its folder for data."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "STUDY_DATA"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{closed_port()}/"])
    sums = {stem: hashlib.sha256(raw).hexdigest() for stem, raw in fashion_files().items()}
    monkeypatch.setattr(fetching, "FASHION_MNIST_SHA256", sums)
    return tmp_path / "cache" / "limit-study" / "data"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def script(tmp_path: Path, name: str, text: str) -> None:
    """A command on PATH: ``text`` in sh, with the system's own commands at hand."""
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n")
    path.chmod(0o755)


def debian_archive(tmp_path: Path, seed: int = 0) -> None:
    """An apt-get that gives a package whose content dpkg-deb unpacks, and that takes no folder but the given ones."""
    write_fashion(tmp_path / "package" / "usr" / "share" / "datasets" / "fashion-mnist", seed)
    apt = """
    for word in "$@"; do case "$word" in --option=Dir::State::lists=*) lists="${word#*=*=}";; esac; done
    case "$*" in
      *" update") echo index > "$lists/partial/archive_InRelease"; mv "$lists/partial/archive_InRelease" "$lists/";;
      *" download dataset-fashion-mnist") test -s "$lists/archive_InRelease" && echo deb > dataset-fashion-mnist_1.deb;;
      *) exit 1;;
    esac
    """
    script(tmp_path, "apt-get", apt)
    script(tmp_path, "dpkg-deb", f'test "$1" = --extract && test -s "$2" && cp -r {tmp_path}/package "$3"')


def digest_of(seed: int, scratch: Path) -> str:
    return load_dataset(FASHION, str(write_fashion(scratch / f"reference-{seed}", seed))).digest


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_mirror_comes_first_and_is_asked_once(
    tmp_path: Path, cache: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    script(tmp_path, "apt-get", "exit 1")
    mirror.files |= FILES
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)
    assert contents(cache) == {"fashion-mnist", *(f"fashion-mnist{path}" for path in FILES)}
    assert capsys.readouterr().err == f"fetching Fashion-MNIST (once) into {cache}\n"
    mirror.files.clear()
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)


def test_a_given_folder_receives_what_is_fetched(tmp_path: Path, cache: Path, mirror: Mirror) -> None:
    mirror.files |= FILES
    load_dataset(FASHION, str(tmp_path / "root"))
    assert contents(tmp_path / "root") == {"fashion-mnist", *(f"fashion-mnist{path}" for path in FILES)}
    assert not cache.exists()


def test_a_second_mirror_serves_where_the_first_does_not(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.files |= FILES
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{closed_port()}/", mirror.url])
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)


def test_a_second_mirror_serves_where_the_first_gives_something_else(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.files |= FILES | {f"/old{path}": content + content for path, content in FILES.items()}
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"{mirror.url}old/", mirror.url])
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)


MIRROR_TROUBLE: dict[str, dict[str, bytes | None]] = {
    "nothing there": dict.fromkeys(FILES, b""),
    "one file missing": {LABELS: b""},
    "one file cut off": {LABELS: None},
    "one file damaged": {LABELS: FILES[LABELS][:-3]},
    "a login page": dict.fromkeys(FILES, b"<html>Welcome to the hotel</html>"),
    "another data set": {LABELS: gzip.compress(fashion_files(1)["t10k-labels-idx1-ubyte"] + b"x")},
}


@pytest.mark.parametrize("name", MIRROR_TROUBLE)
def test_debians_archive_serves_where_the_mirror_does_not(
    tmp_path: Path, mirror: Mirror, cache: Path, name: str
) -> None:
    mirror.files |= FILES | MIRROR_TROUBLE[name]
    debian_archive(tmp_path)
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)
    assert contents(cache) == {"fashion-mnist", *(f"fashion-mnist{path}" for path in FILES)}


@pytest.mark.parametrize("name", MIRROR_TROUBLE)
def test_where_no_source_serves_nothing_is_left_and_both_reasons_are_named(
    tmp_path: Path, mirror: Mirror, cache: Path, name: str
) -> None:
    mirror.files |= FILES | MIRROR_TROUBLE[name]
    with pytest.raises(
        DataUnavailable, match=r"\(mirror: .+; apt-get: there is no apt-get on this machine\)"
    ) as caught:
        load_dataset(FASHION)
    for way in ("--data-root", "STUDY_DATA", "dataset-fashion-mnist", "--dataset digits"):
        assert way in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(cache) == set()


def test_a_package_of_other_content_is_refused(tmp_path: Path, cache: Path) -> None:
    debian_archive(tmp_path, seed=1)
    with pytest.raises(DataUnavailable, match=r"apt-get: .* is not the published file: its checksum differs"):
        load_dataset(FASHION)
    assert contents(cache) == set()


APT_TROUBLE = {
    "echo 'W: Could not resolve archive' >&2": "no package archive answers: Could not resolve archive",
    "echo 'E: The lists are broken' >&2; exit 100": "no package archive answers: The lists are broken",
    'case "$*" in *" update") echo index > lists/InRelease;; *) echo "E: Unable to locate it" >&2; exit 100;; esac': (
        "Unable to locate it"
    ),
    'case "$*" in *" update") echo index > lists/InRelease; exit 100;; esac': "apt-get left no package",
}


@pytest.mark.parametrize("text", APT_TROUBLE)
def test_what_apt_get_complains_of_is_said(tmp_path: Path, cache: Path, text: str) -> None:
    script(tmp_path, "apt-get", text)
    script(tmp_path, "dpkg-deb", "exit 1")
    with pytest.raises(DataUnavailable) as caught:
        load_dataset(FASHION)
    assert f"apt-get: {APT_TROUBLE[text]}" in str(caught.value)
    assert contents(cache) == set()


def test_an_archive_that_is_partly_out_of_reach_still_serves(tmp_path: Path) -> None:
    """Of several sources of packages one may fail: the package may come from another."""
    debian_archive(tmp_path)
    apt = tmp_path / "bin" / "apt-get"
    text = apt.read_text()
    assert 'lists/";;' in text
    apt.write_text(text.replace('lists/";;', "lists/\"; echo 'E: Failed to fetch another' >&2; exit 100;;", 1))
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)


class TestSilence:
    """A network that does not answer costs seconds, whichever way it is silent."""

    def test_the_limits_leave_seconds_of_ten_for_starting_up(self) -> None:
        assert fetching._MIRROR_SECONDS + debian._FIRST_BYTE_SECONDS <= 7

    @pytest.fixture(autouse=True)
    def _in_haste(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Limits of a fifth of a second; without them a test would wait half a minute."""
        monkeypatch.setattr(fetching, "_MIRROR_SECONDS", 0.2)
        monkeypatch.setattr(debian, "_FIRST_BYTE_SECONDS", 0.2)
        self.latest = time.monotonic() + 20
        yield
        assert time.monotonic() < self.latest

    def refused(self, words: str) -> None:
        with pytest.raises(DataUnavailable) as caught:
            load_dataset(FASHION)
        assert words in str(caught.value)

    def test_a_name_that_is_never_resolved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        released = threading.Event()

        def never(*arguments: object, **options: object) -> None:
            released.wait(30)
            raise socket.gaierror(-3, "released")

        monkeypatch.setattr(socket, "getaddrinfo", never)
        monkeypatch.setattr(FashionMNIST, "mirrors", ["http://mirror.invalid/"])
        self.refused("mirror: no answer in 0.2 s")
        released.set()

    def test_an_address_that_swallows_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"] * 4)
            self.refused("mirror: no answer in 0.05 s")

    def test_a_proxy_that_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setattr(FashionMNIST, "mirrors", ["http://mirror.invalid/"])
        monkeypatch.setattr(fetching, "_MIRROR_SECONDS", 5.0)
        self.refused("Connection refused")

    def test_a_mirror_that_falls_silent_half_way(self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fetching, "_STALL_SECONDS", 0.2)
        monkeypatch.setattr(fetching, "_MIRROR_SECONDS", 1.0)
        released = threading.Event()
        mirror.files |= FILES | dict.fromkeys(FILES)
        mirror.on_half = lambda: released.wait(30)
        self.refused("mirror: timed out")
        released.set()

    def test_an_apt_get_that_waits_for_ever_is_ended_with_its_helpers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(debian, "_FIRST_BYTE_SECONDS", 1.0)
        script(tmp_path, "dpkg-deb", "exit 1")
        script(tmp_path, "apt-get", f"sleep 60 & echo $! > {tmp_path}/helper; wait")
        self.refused("apt-get: no package archive answers: nothing in 1 s")
        helper = int((tmp_path / "helper").read_text())
        while is_running(helper):
            assert time.monotonic() < self.latest
            time.sleep(0.01)


def is_running(process: int) -> bool:
    """Whether a process still does something; a dead one whose parent has not looked yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_folder_that_another_process_filled_meanwhile_is_used(tmp_path: Path, cache: Path, mirror: Mirror) -> None:
    mirror.files |= FILES
    mirror.on_request = lambda: write_fashion(cache / "fashion-mnist")
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)
    assert contents(cache) == {"fashion-mnist", *(f"fashion-mnist{path}" for path in FILES)}


def test_an_incomplete_folder_is_completed(tmp_path: Path, cache: Path, mirror: Mirror) -> None:
    mirror.files |= FILES
    (write_fashion(cache / "fashion-mnist") / LABELS[1:]).unlink()
    assert load_dataset(FASHION).digest == digest_of(0, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, mirror: Mirror) -> None:
    mirror.files |= FILES
    (tmp_path / "file").write_text("")
    with pytest.raises(DataUnavailable, match=rf"{tmp_path}/file/fashion-mnist cannot be written: "):
        load_dataset(FASHION, str(tmp_path / "file"))


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match="pass --data-root, or set STUDY_DATA or XDG_CACHE_HOME"):
        load_dataset(FASHION)


@pytest.fixture
def archive(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """CIFAR-10 as a tar archive of three listed files and one that is not, with its address and sum made known."""
    entry = pickle.dumps({"data": [[7] * 3072] * 10, "labels": list(range(10))})
    listing = [["data_batch_1", hashlib.md5(entry).hexdigest()], ["test_batch", hashlib.md5(entry).hexdigest()]]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("data_batch_1", "test_batch", "readme.html"):
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(entry)
            tar.addfile(member, io.BytesIO(entry))
    content = buffer.getvalue()
    monkeypatch.setattr(CIFAR10, "train_list", listing[:1])
    monkeypatch.setattr(CIFAR10, "test_list", listing[1:])
    monkeypatch.setattr(CIFAR10, "url", f"{mirror.url}cifar.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    return content


def test_cifar_is_fetched_and_unpacked(cache: Path, mirror: Mirror, archive: bytes) -> None:
    mirror.files["/cifar.tar.gz"] = archive
    for _ in range(2):
        dataset = load_dataset(DataConfig(name="cifar10"))
        assert dataset.test.labels.tolist() == list(range(10))
        assert dataset.input_shape == (3, 32, 32)
        mirror.files.clear()
    folder = CIFAR10.base_folder
    assert contents(cache) == {folder, f"{folder}/data_batch_1", f"{folder}/test_batch"}


@pytest.mark.parametrize("trouble", [b"", None, b"<html>"], ids=["missing", "cut off", "a login page"])
def test_a_cifar_that_does_not_arrive_leaves_nothing(
    cache: Path, mirror: Mirror, archive: bytes, trouble: bytes | None
) -> None:
    mirror.files["/cifar.tar.gz"] = trouble
    with pytest.raises(DataUnavailable, match=r"cifar10 was not found under .*/data and could not be fetched \(.+\)"):
        load_dataset(DataConfig(name="cifar10"))
    assert contents(cache) == set()
