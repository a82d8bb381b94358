"""`status` and `sync-mlflow`: what the ledgers hold, and MLflow rebuilt from them."""

from pathlib import Path

import pytest

from study.__main__ import main
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.interface.run import Replicate
from study.ledger.ledger import Ledger
from study.outcome import Outcome
from tests.synthetic import Result, drive, fill, open_state, rise_and_fall

# MLflow's own queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

SMOKE = make_design(load_space("smoke"))
SUPERVISED = make_design(load_space("smoke"), variant="supervised", overrides={"horizon.length": 700})


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


class TestStatus:
    def test_it_counts_rounds_replicates_and_outcomes_of_every_design(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def with_failures(replicate: Replicate) -> Result:
            return Result(outcome=Outcome.FAILED) if replicate.seed == 103 else rise_and_fall(replicate)

        ledger = Ledger.open(str(storage), "smoke")
        fill(ledger, SMOKE, rise_and_fall)
        fill(ledger, SUPERVISED, with_failures)
        before = files(storage)
        assert main(["status", "--storage", str(storage)]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"smoke  {storage / 'smoke'}\n")
        line = next(line for line in out.splitlines() if SMOKE.hash in line)
        assert f"design {SMOKE.hash} learning, since" in line
        assert "2 rounds, 33 replicates: 33 ok" in line
        line = next(line for line in out.splitlines() if SUPERVISED.hash in line)
        assert f"design {SUPERVISED.hash} supervised exploratory, since" in line
        assert "36 ok, 3 open" in line
        assert files(storage) == before

    def test_replicates_that_were_tried_again_are_counted(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ledger = Ledger.open(str(storage), "smoke")
        fill(ledger, SMOKE, lambda r: Result(outcome=Outcome.FAILED) if r.seed == 103 else rise_and_fall(r))
        drive(open_state(ledger, SMOKE), rise_and_fall)
        main(["status", "--storage", str(storage)])
        assert "33 ok, 3 retried" in capsys.readouterr().out

    def test_it_shows_the_ledger_that_fresh_has_started(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fill(Ledger.open(str(storage), "smoke"), SMOKE, rise_and_fall)
        fill(Ledger.open_fresh(str(storage), "smoke"), SMOKE, rise_and_fall)
        main(["status", "--storage", str(storage)])
        assert capsys.readouterr().out.startswith(f"smoke  {storage / 'smoke.1'}\n")


class TestSync:
    def test_it_writes_every_design_once(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from mlflow.tracking import MlflowClient

        small = make_design(load_space("smoke"), overrides={"horizon.length": 800})
        ledger = Ledger.open(str(storage), "smoke")
        for design in (SMOKE, small):
            fill(ledger, design, rise_and_fall)
        uri = f"sqlite:///{storage}/mlflow.db"
        counts = []
        for _ in range(2):
            assert main(["sync-mlflow", "--storage", str(storage)]) == 0
            out = capsys.readouterr().out
            assert all(design.hash in out for design in (SMOKE, small))
            assert uri in out
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name("smoke")
            assert experiment is not None
            counts.append(len(client.search_runs([experiment.experiment_id], max_results=1000)))
        assert counts == [2 * (1 + 9 + 3)] * 2

    def test_a_server_that_does_not_answer_gives_one_sentence(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fill(Ledger.open(str(storage), "smoke"), SMOKE, rise_and_fall)
        assert main(["sync-mlflow", "--storage", str(storage), "--tracking-uri", "http://127.0.0.1:9"]) == 2
        err = capsys.readouterr().err
        assert "http://127.0.0.1:9 does not answer" in err
        assert err.count("\n") == 1


class TestMistakes:
    @pytest.mark.parametrize("command", ["status", "sync-mlflow"])
    def test_a_storage_without_a_study_says_so_and_stays_empty(
        self, command: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([command, "--storage", str(storage)]) == 2
        err = capsys.readouterr().err
        assert f"no study has run in {storage} yet" in err
        assert err.count("\n") == 1
        assert not storage.exists()

    def test_an_unknown_study_suggests_the_nearest(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["status", "--study", "smok", "--storage", str(storage)]) == 2
        assert "unknown study 'smok': did you mean 'smoke'?" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["statuss"], "unknown command 'statuss': did you mean 'status'?"),
            (["status", "--studdy", "smoke"], "unknown option '--studdy': did you mean '--study'?"),
        ],
        ids=" ".join,
    )
    def test_an_unknown_word_suggests_the_nearest(
        self, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        assert capsys.readouterr() == ("", f"error: {words}\n")
