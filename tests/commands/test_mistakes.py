"""Wrong usage of a sweep gives one sentence, exit code 2, and writes nothing."""

import dataclasses
from pathlib import Path

import pytest

from study import sweep
from study.designs.catalogue import load_space
from tests.commands.sweeps import files, fill_smoke

USAGE = [
    (["batchlimit"], "unknown study 'batchlimit': did you mean 'batch_limit'?"),
    ([], "name a study"),
    (["smoke", "--variant", "lerning"], "unknown variant of smoke 'lerning': did you mean 'learning'?"),
    (["smoke", "--profile", "claptop"], "unknown profile of smoke 'claptop': did you mean 'laptop'?"),
    (["smoke", "--dataset", "digit"], "unknown data set of smoke 'digit': did you mean 'digits'?"),
    (["smoke", "--dataset", "cifar10"], "unknown data set of smoke 'cifar10'"),
    (["smoke", "--set", "horizon.lenght=10"], "did you mean 'horizon.length'?"),
    (["smoke", "--set", "horizon.length"], "--set takes PATH=VALUE, not 'horizon.length'"),
    (["smoke", "--set", "horizon.length=many"], "horizon.length takes a value of type int, not 'many'"),
    (["smoke", "--set", "horizon.length=1.5"], "horizon.length takes a value of type int, not '1.5'"),
    (["smoke", "--set", "model.residual=yes"], "model.residual takes true or false, not 'yes'"),
    (["smoke", "--set", "data.strength=nan"], "data.strength must be a finite number"),
    (["smoke", "--set", "horizon.length=-1"], "horizon.length must not be negative"),
    (["smoke", "--set", "data.strength=2"], "data.strength on images must lie in [0, 1.5]"),
    (["smoke", "--set", "loss.target=pixel"], "loss.target takes one of class, source, not 'pixel'"),
    (["smoke", "--set", "batch.train=8"], "batch.train is an axis of smoke and cannot be fixed with --set"),
    (["smoke", "--set", "optimizer.learning_rate=1"], "optimizer.learning_rate is an axis of smoke"),
    (
        ["smoke", "--set", "trainer=supervised"],
        "smoke (learning) is judged by p, which reported replicates of",
    ),
    (["smoke", "--set", "batch.eval=41"], "batch.eval=41 cannot be balanced over 10 classes"),
    (["smoke", "--set", "batch.eval=4000"], "batch.eval=4000 needs 400 images of every class"),
    (["smoke", "--precision", "0.2"], "--precision has no effect on smoke (learning): its points are a fixed grid"),
    (["smoke", "--max-replicates", "20"], "--max-replicates has no effect on smoke (learning)"),
    (["smoke", "--executor", "inline", "--workers-per-trial", "2"], "--executor inline has one worker"),
    (["smoke", "--gpus-per-pack", "1/4", "--workers-per-trial", "2"], "--gpus-per-pack below 1 needs one worker"),
]

UNREADABLE = [
    (["smoke", "--replicates", "0"], "--replicates must be at least 1"),
    (["smoke", "--replicates", "many"], "--replicates takes a whole number, not 'many'"),
    (["smoke", "--precision", "0"], "--precision must be positive and finite"),
    (["smoke", "--precision", "-0.25"], "--precision must be positive and finite"),
    (["smoke", "--precision", "nan"], "--precision must be positive and finite"),
    (["smoke", "--precision", "fine"], "--precision takes a number, not 'fine'"),
    (["smoke", "--max-replicates", "0"], "--max-replicates must be at least 1"),
    (["smoke", "--max-replicates", "1.5"], "--max-replicates takes a whole number, not '1.5'"),
    (["smoke", "--max-hours", "0"], "--max-hours must be positive and finite"),
    (["smoke", "--max-hours", "nan"], "--max-hours must be positive and finite"),
    (["smoke", "--niceness", "20"], "--niceness takes a whole number from 0 to 19, not '20'"),
    (["smoke", "--executor", "inlin"], "--executor takes one of auto, inline, train, not 'inlin'"),
    (["smoke", "--gpus-per-pack", "1/3"], "--gpus-per-pack takes auto, 1/8, 1/4, 1/2, 1, not '1/3'"),
    (["smoke", "--workers-per-trial", "-1"], "--workers-per-trial must be at least 1"),
    (["smoke", "--nicenes", "3"], "unknown option '--nicenes': did you mean '--niceness'?"),
    (["smoke", "batch_limit"], "got unexpected extra argument (batch_limit)"),
]


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
    def test_a_mistake_gives_one_sentence_and_exit_code_2_and_writes_nothing(
        self, arguments: list[str], words: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main([*arguments, "--storage", str(storage)]) == 2
        out, err = capsys.readouterr()
        assert words in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert out == ""
        assert not storage.exists()
        assert files(storage.parent) == {"kept"}

    def test_a_batch_larger_than_the_data_is_refused(
        self, storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = load_space("smoke")
        large = dataclasses.replace(space.scientific[0], values=(4, 2048))
        monkeypatch.setattr(sweep, "load_space", lambda name: dataclasses.replace(space, scientific=(large,)))
        assert sweep.main(["smoke", "--storage", str(storage)]) == 2
        err = capsys.readouterr().err
        assert "batch.train=2048 is larger than the data: digits has" in err
        assert err.count("\n") == 1
        assert not storage.exists()

    @pytest.mark.parametrize(("arguments", "words"), UNREADABLE, ids=[" ".join(a) for a, _ in UNREADABLE])
    def test_words_that_cannot_be_read_are_one_sentence_too(
        self, arguments: list[str], words: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main([*arguments, "--storage", str(storage)]) == 2
        assert capsys.readouterr() == ("", f"error: {words}\n")
        assert not storage.exists()

    def test_a_storage_that_cannot_be_written_is_refused(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(["smoke", "--storage", str(storage.parent / "kept" / "below")]) == 2
        err = capsys.readouterr().err
        assert "cannot be written" in err
        assert err.count("\n") == 1
        assert files(storage.parent) == {"kept"}

    @pytest.mark.parametrize("fresh", [[], ["--fresh"]], ids=["", "fresh"])
    def test_a_tracking_server_that_does_not_answer_is_refused_before_anything_is_written(
        self, fresh: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["smoke", "--storage", str(storage), "--tracking-uri", "http://127.0.0.1:9", *fresh]
        assert sweep.main(arguments) == 2
        err = capsys.readouterr().err
        assert "http://127.0.0.1:9 does not answer" in err
        assert err.count("\n") == 1
        assert not storage.exists()

    def test_a_mistake_on_an_existing_ledger_changes_nothing(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fill_smoke(storage)
        before = files(storage)
        assert sweep.main(["smoke", "--storage", str(storage), "--set", "horizon.length=-1"]) == 2
        arguments = ["smoke", "--storage", str(storage), "--replicates", "9", "--tracking-uri", "http://127.0.0.1:9"]
        assert sweep.main(arguments) == 2
        assert files(storage) == before
