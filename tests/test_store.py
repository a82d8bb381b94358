"""Complete files on a disk and in an object store: the same promises in both."""

import errno
import os
import re
import threading
from pathlib import Path

import pytest

from study.errors import ConfigError
from study.ledger.store import Store, default_storage
from tests.synthetic import object_store_uri


@pytest.fixture(params=["disk", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage") if request.param == "disk" else object_store_uri())


class TestEveryStore:
    """What holds on a disk and in an object store."""

    def test_what_was_written_is_read(self, store: Store) -> None:
        store.write("a/b.parquet", b"first")
        assert store.read("a/b.parquet") == b"first"

    def test_a_second_write_replaces_the_first(self, store: Store) -> None:
        store.write("current", b"a long first text")
        store.write("current", b"short")
        assert store.read("current") == b"short"

    def test_an_empty_file_is_a_file(self, store: Store) -> None:
        store.write("a/empty", b"")
        assert store.read("a/empty") == b""

    def test_a_missing_file_reads_as_none(self, store: Store) -> None:
        assert store.read("a/b.parquet") is None
        store.write("a/b.parquet", b"x")
        assert store.read("a") is None

    def test_names_are_sorted_and_of_one_folder_and_suffix(self, store: Store) -> None:
        for path in ("t/b.parquet", "t/a.parquet", "t/c.txt", "t/deeper/d.parquet", "other/e.parquet"):
            store.write(path, b"x")
        assert store.names("t", ".parquet") == ["a.parquet", "b.parquet"]

    def test_a_folder_that_is_not_there_has_no_names(self, store: Store) -> None:
        assert store.names("t", ".parquet") == []

    def test_hidden_names_are_not_complete_files(self, store: Store) -> None:
        store.write("t/.a.parquet", b"half")
        assert store.names("t", ".parquet") == []

    def test_a_deleted_file_is_gone_and_deleting_it_again_is_no_error(self, store: Store) -> None:
        store.write("a/checkpoint.pt", b"x")
        store.delete("a/checkpoint.pt")
        store.delete("a/checkpoint.pt")
        assert store.read("a/checkpoint.pt") is None

    def test_a_child_is_the_folder_of_that_name(self, store: Store) -> None:
        store.child("study").write("t/a.parquet", b"x")
        assert store.read("study/t/a.parquet") == b"x"
        assert Store(store.child("study").uri).read("t/a.parquet") == b"x"

    def test_checking_that_it_can_be_written_leaves_nothing_behind(self, store: Store) -> None:
        store.check_writable()
        assert store.names("", "") == []
        assert store.local_path is None or not store.local_path.exists()

    def test_checking_a_storage_in_use_keeps_what_is_there(self, store: Store) -> None:
        store.write("t/a.parquet", b"x")
        store.check_writable()
        assert store.read("t/a.parquet") == b"x"

    def test_readers_never_see_half_a_file(self, store: Store) -> None:
        texts = [bytes([65 + i]) * 200_000 for i in range(8)]
        store.write("t/a.parquet", texts[0])
        stop, seen = threading.Event(), []

        def read() -> None:
            reader = Store(store.uri)
            while not stop.is_set():
                seen.append(reader.read("t/a.parquet"))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for text in texts:
            store.write("t/a.parquet", text)
        stop.set()
        for thread in threads:
            thread.join()
        assert seen
        assert set(seen) <= set(texts)


class TestDisk:
    def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Store(str(tmp_path))
        store.write("t/a.parquet", b"old")

        def fail(*paths: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            store.write("t/a.parquet", b"new")
        assert [path.name for path in (tmp_path / "t").iterdir()] == ["a.parquet"]
        assert store.read("t/a.parquet") == b"old"

    def test_checking_keeps_an_empty_folder_of_the_user(self, tmp_path: Path) -> None:
        (tmp_path / "results").mkdir()
        Store(str(tmp_path / "results" / "deep" / "storage")).check_writable()
        assert (tmp_path / "results").exists()
        assert list((tmp_path / "results").iterdir()) == []

    def test_a_folder_below_a_regular_file_cannot_be_written_and_one_sentence_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ConfigError, match=r"cannot be written .* pass a folder of yours") as caught:
            Store(str(tmp_path / "file" / "storage")).check_writable()
        assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_a_relative_storage_means_the_folder_it_was_given_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        store = Store("results")
        monkeypatch.chdir("/")
        store.write("a", b"x")
        assert (tmp_path / "results" / "a").read_bytes() == b"x"

    def test_a_file_url_is_a_folder(self, tmp_path: Path) -> None:
        store = Store(f"file://{tmp_path}/storage")
        store.child("study").write("a", b"x")
        assert store.local_path == tmp_path / "storage"
        assert (tmp_path / "storage" / "study" / "a").exists()

    def test_the_default_is_the_environment_else_a_folder_of_the_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STUDY_STORAGE", "s3://bucket/x")
        assert default_storage() == "s3://bucket/x"
        monkeypatch.delenv("STUDY_STORAGE")
        monkeypatch.setenv("XDG_DATA_HOME", "/data")
        assert default_storage() == "/data/limit-study"
        monkeypatch.delenv("XDG_DATA_HOME")
        assert Path(default_storage()) == Path.home() / ".local/share/limit-study"


class TestUrl:
    def test_the_query_of_a_url_stays_at_its_end(self) -> None:
        uri = object_store_uri()
        base, _, query = uri.partition("?")
        assert Store(uri).child("study").uri == f"{base}/study?{query}"

    @pytest.mark.parametrize("uri", ["nonsense://bucket/x", "s3://bucket/x?endpoint=127.0.0.1"])
    def test_a_url_that_is_none_gives_one_sentence(self, uri: str) -> None:
        with pytest.raises(ConfigError, match=r"cannot be used .* check the URL") as caught:
            Store(uri)
        assert "\n" not in str(caught.value)

    def test_a_bucket_that_is_not_there_gives_one_sentence(self) -> None:
        uri = object_store_uri().replace("@bucket/", "@nowhere/")
        with pytest.raises(ConfigError, match="cannot be written") as caught:
            Store(uri).check_writable()
        assert "\n" not in str(caught.value)

    def test_no_message_shows_the_secret_of_a_url(self) -> None:
        uri = object_store_uri().replace("@bucket/", "@nowhere/")
        with pytest.raises(ConfigError) as caught:
            Store(uri).check_writable()
        assert not re.search("user:secret", str(caught.value))


def test_a_file_that_is_there_stays_also_where_a_disk_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store = Store(str(tmp_path))
    assert store.write_new("journal/1.json", b"first")
    assert not store.write_new("journal/1.json", b"second")
    assert store.read("journal/1.json") == b"first"
    assert [file.name for file in (tmp_path / "journal").iterdir()] == ["1.json"]
