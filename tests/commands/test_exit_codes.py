"""Exit codes of a sweep mean what they say, and the same command goes on from every one."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from study import sweep
from study.interface.run import Replicate
from study.ledger.attempts import MAX_ATTEMPTS
from study.ledger.ledger import Ledger
from study.outcome import Outcome
from tests.synthetic import Result, ResultOf, rise_and_fall

# MLflow's own queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


class TestExitCodes:
    def test_a_sweep_that_ends_well_exits_0(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert "minimum batch" in out
        assert "round 0: tuning nuisances, 18 replicates in 3 cells" in err

    def test_a_pack_that_ran_out_of_memory_is_named_and_is_no_failure(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        assert capsys.readouterr().err.count("a pack of 5 ran out of memory and was halved: trained as 3 + 2\n") == 1

    def test_mlflow_is_brought_up_to_date_when_a_pack_ends_and_at_the_end(
        self, storage: Path, no_ray: Callable[[ResultOf], None], num_syncs: list[int]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        rows = Ledger.open(str(storage), "smoke").read("replicates").to_pylist()
        num_packs = sum(1 / row["pack_planned"] for row in rows)
        assert len(num_syncs) == round(num_packs) + 1

    def test_a_sweep_that_ends_with_failed_replicates_exits_3_and_names_them(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            return Result(outcome=Outcome.FAILED) if replicate.seed == 103 else rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 3
        err = capsys.readouterr().err
        assert err.count("failed (attempt 2): RuntimeError: invented") == 3, "first in a pack, then alone"
        assert "tries failed replicates again" in err

    def test_a_study_whose_replicates_have_failed_for_good_still_exits_3(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            return Result(outcome=Outcome.FAILED) if replicate.seed == 103 else rise_and_fall(replicate)

        no_ray(result_of)
        codes = [sweep.main(["smoke", "--storage", str(storage)]) for _ in range(MAX_ATTEMPTS)]
        assert codes == [3] * MAX_ATTEMPTS
        capsys.readouterr()
        assert sweep.main(["smoke", "--storage", str(storage)]) == 3
        err = capsys.readouterr().err
        assert "3 replicates of them failed alone 3 times or more and will not be tried again, but with --retry" in err
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 3
        assert sweep.main(["smoke", "--storage", str(storage), "--retry"]) == 0

    def test_a_full_disk_exits_5_and_the_same_command_goes_on_when_there_is_room(
        self,
        storage: Path,
        no_ray: Callable[[ResultOf], None],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            if replicate.seed == 103:
                raise OSError(28, "No space left on device")
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 5
        err = capsys.readouterr().err
        assert "cannot be used any more ([Errno 28] No space left on device); everything finished is kept" in err
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0

    def test_what_libraries_print_meanwhile_does_not_reach_the_json(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capfd: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            print("a library's line")
            os.write(1, b"a line of its C++ part\n")
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--json", "--storage", str(storage)]) == 0
        out, err = capfd.readouterr()
        assert out.count("\n") == 1
        assert json.loads(out)["exit_code"] == 0
        assert "a library's line" in err
        assert "a line of its C++ part" in err

    def test_a_budget_that_ends_first_exits_4(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--max-hours", "1e-9", "--storage", str(storage)]) == 4
        assert "the same command goes on from here" in capsys.readouterr().err
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0

    def test_a_budget_that_ends_before_a_second_design_has_begun_exits_4(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        arguments = ["smoke", "--variant", "supervised", "--max-hours", "1e-9", "--storage", str(storage)]
        assert sweep.main(arguments) == 4

    def test_an_interrupted_sweep_exits_130_and_goes_on_later(
        self,
        storage: Path,
        no_ray: Callable[[ResultOf], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            if replicate.seed == 103:
                raise KeyboardInterrupt
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 128 + signal.SIGINT
        assert "everything finished is kept" in capsys.readouterr().err
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        attempts = Ledger.open(str(storage), "smoke").attempts()
        outcomes = {tuple(row["outcome"] for row in rows) for rows in attempts.values()}
        assert outcomes == {("ok",), ("interrupted", "ok")}

    def test_a_terminated_sweep_exits_143(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            if replicate.seed == 103:
                os.kill(os.getpid(), signal.SIGTERM)
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 128 + signal.SIGTERM

    def test_a_sweep_whose_progress_nobody_reads_stops_and_goes_on_later(
        self, storage: Path, no_ray: Callable[[ResultOf], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Unread(io.StringIO):
            """A pipe whose reader goes away after three lines."""

            def write(self, text: str) -> int:
                if self.getvalue().count("\n") >= 3:
                    raise BrokenPipeError
                return super().write(text)

        no_ray(rise_and_fall)
        with monkeypatch.context() as unread:
            unread.setattr(sys, "stderr", Unread())
            assert sweep.main(["smoke", "--storage", str(storage)]) == 128 + signal.SIGPIPE
        before = Ledger.open(str(storage), "smoke").read("replicates").num_rows
        assert 0 < before < 33
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        attempts = Ledger.open(str(storage), "smoke").attempts()
        assert {len(rows) for rows in attempts.values()} == {1}

    def test_fresh_starts_a_new_ledger_and_keeps_the_old(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        for arguments, folder in (([], "smoke"), (["--fresh"], "smoke.1"), (["--fresh"], "smoke.2")):
            assert sweep.main(["smoke", *arguments, "--storage", str(storage)]) == 0
            assert f"ledger {storage / folder}\n" in capsys.readouterr().err
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        assert str(storage / "smoke.2" / "reports") in capsys.readouterr().out
        counts = [Ledger.open(str(storage), "smoke").read("replicates").num_rows]
        counts += [len(list((storage / name / "replicates").iterdir())) > 0 for name in ("smoke", "smoke.1")]
        assert counts == [counts[0], True, True]
        assert counts[0] >= 33
