"""The command line of the laws: what they say of a setting, why others do not, in text and JSON."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from study.recipes.contrastive.laws.__main__ import main
from study.recipes.contrastive.laws.flags import FLAGS, UsageError, build_parser, example, read_setting
from study.recipes.contrastive.laws.law import Law, Setting, frozen

ROOT = Path(__file__).resolve().parents[2]

LARGEST = Law(
    name="largest_sigma",
    says="sigma up to which it works",
    quantity="sigma",
    direction="largest",
    metric="p",
    level=0.5,
    inputs=("dim", "num_classes"),
    assumptions="the assumption",
    validity="at least 16 dimensions",
    kind=lambda setting: None,
    outside=lambda setting: None if (setting.dim or 0) >= 16 else "covers 16 dimensions or more",
    threshold=lambda setting: (setting.dim or 0) / 32,
    outcome=lambda setting: 1 / (1 + (setting.sigma or 0)),
    band=frozen(0.05, 0.25, 12),
    section="section 1",
)
SMALLEST = dataclasses.replace(
    LARGEST,
    name="smallest_batch",
    says="rows from which it works",
    quantity="batch",
    direction="smallest",
    inputs=("dim", "sigma", "temperature"),
    threshold=lambda setting: 24.0,
    outcome=None,
    band=frozen(0.5, 1.5, 3),
    is_control=True,
)
NEVER = dataclasses.replace(LARGEST, name="never", threshold=lambda setting: float("nan"))
LAWS = {law.name: law for law in (LARGEST, SMALLEST, NEVER)}
BASE = ("--d", "64", "--num-classes", "5")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments, LAWS)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    loaded: dict[str, Any] = json.loads(out)
    return loaded


def test_a_law_that_applies_says_threshold_range_criterion_and_how_well_it_was_verified(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(capsys, *BASE)
    assert (code, err) == (0, "")
    assert out.startswith("dim 64 · num_classes 5\n")
    for words in (
        "largest_sigma: sigma up to which it works",
        "sigma at most 2 for p = 0.5 (verification allows 1.6 to 2.67)",
        "verified on 12 settings: error 5 % in the median, 25 % at most",
        "assumes: the assumption",
        "valid: at least 16 dimensions",
        "derived in docs/theory.md, section 1",
    ):
        assert words in out


def test_the_others_say_why_not_in_the_words_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *BASE)
    below = out.partition("not applicable\n")[2]
    assert "smallest_batch  needs --sigma and --temperature" in below
    assert "never           p = 0.5 is not crossed" in below
    _, out, _ = run(capsys, "--d", "8", "--num-classes", "5")
    assert "no law applies" in out
    assert "largest_sigma   covers 16 dimensions or more" in out


def test_json_says_the_same_as_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(capsys, *BASE)
    assert said["setting"] == {"dim": 64, "num_classes": 5}
    (law,) = said["laws"]
    assert (law["name"], law["threshold"], law["criterion"]) == ("largest_sigma", 2.0, "p = 0.5")
    assert (law["low"], law["high"]) == (pytest.approx(1.6), pytest.approx(8 / 3))
    assert law["verified"] == {"median": 0.05, "maximum": 0.25, "num_settings": 12}
    assert law["given"] is None
    assert law["criterion_holds"] is None
    assert set(said["not_applicable"]) == {"smallest_batch", "never"}


@pytest.mark.parametrize(("sigma", "side", "verdict"), [("1", "below", "holds"), ("3", "above", "fails")])
def test_a_given_value_of_the_laws_own_quantity_is_judged(
    capsys: pytest.CaptureFixture[str], sigma: str, side: str, verdict: str
) -> None:
    _, out, _ = run(capsys, *BASE, "--sigma", sigma)
    outcome = 1 / (1 + float(sigma))
    assert f"sigma {sigma} lies {side}: the criterion {verdict}, predicted p = {outcome:.3g}" in out
    (law,) = answer(capsys, *BASE, "--sigma", sigma)["laws"]
    assert law["given"] == float(sigma)
    assert law["criterion_holds"] == (verdict == "holds")
    assert law["outcome"] == pytest.approx(outcome)


@pytest.mark.parametrize(("batch", "holds"), [("12", False), ("24", True), ("48", True)])
def test_a_smallest_value_works_from_the_threshold_on(
    capsys: pytest.CaptureFixture[str], batch: str, holds: bool
) -> None:
    said = answer(capsys, *BASE, "--sigma", "1", "--temperature", "0.5", "--batch", batch)
    law = said["laws"][1]
    assert law["criterion_holds"] is holds
    assert law["outcome"] is None
    assert law["high"] is None, "an error of 150 % sets no upper end"


def test_a_control_and_an_open_range_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *BASE, "--sigma", "1", "--temperature", "0.5")
    assert "smallest_batch  (a control: declared to fail)" in out
    assert "batch at least 24 for p = 0.5 (verification allows 9.6 to any value)" in out
    assert "error 50 % in the median, 150 % at most" in out


def test_list_names_every_law_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list")
    assert code == 0
    assert len(out.splitlines()) == len(LAWS)
    assert "largest_sigma   sigma up to which it works (largest sigma, p = 0.5)" in out
    _, out, _ = run(capsys, "--list", "--json")
    assert [law["name"] for law in json.loads(out)] == list(LAWS)


def test_without_a_setting_it_says_how_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert err.startswith("usage: python -m study.recipes.contrastive.laws")
    assert example() in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--d", "many"), "argument --d: takes a whole number, not 'many'"),
        (("--d", "6.5"), "argument --d: takes a whole number, not '6.5'"),
        (("--sigma", "0"), "argument --sigma: must be above 0, not 0"),
        (("--sigma", "nan"), "argument --sigma: takes a finite number, not 'nan'"),
        (("--batch", "1"), "argument --batch: must be at least 2, not 1"),
        (("--weights", "random"), "argument --weights: invalid choice: 'random'"),
        (("--simga", "1"), "unknown argument --simga: did you mean --sigma?"),
        (("64",), "unknown argument 64: see --help"),
        (("--cosine", "simplex"), "--cosine simplex is -1/(K-1): give --num-classes as well"),
        (("--num-classes", "5", "--cosine", "-0.5"), "--cosine must lie from -1/(K-1) = -0.25 (simplex) to below 1"),
        (("--cosine", "1"), "--cosine must lie from -1/(K-1) (simplex) to below 1, not at 1"),
        (("--d", "4", "--num-classes", "5"), "--d must be at least --num-classes, here 5"),
        (("--steps", "10", "--examples", "100"), "--steps and --examples exclude each other"),
    ],
)
def test_a_wrong_flag_gives_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {sentence}")
    assert err.count("\n") == 1


def test_every_field_of_a_setting_has_a_flag() -> None:
    assert list(FLAGS) == [field.name for field in dataclasses.fields(Setting)]
    assert len({flag.name for flag in FLAGS.values()}) == len(FLAGS)


def test_flags_read_every_kind_of_field() -> None:
    words = "--d 32 --num-classes 3 --cosine simplex --sigma 0.5 --blocks 2 --no-residual --centred --weights trained"
    _, setting = read_setting([*words.split(), "--views", "2", "--optimizer", "sgd", "--first-step-variance", "0.01"])
    assert setting == Setting(
        dim=32,
        num_classes=3,
        cosine=-0.5,
        sigma=0.5,
        num_blocks=2.0,
        residual=False,
        centred=True,
        weights="trained",
        num_views=2,
        optimizer="sgd",
        first_step_variance=0.01,
    )


def test_help_names_every_flag_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    text = build_parser().format_help()
    assert all(f"--{flag.name}" in text for flag in FLAGS.values())
    assert "(default yes)" in text
    with pytest.raises(UsageError):
        read_setting(["--d"])


def test_the_module_answers_with_its_own_laws() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "study.recipes.contrastive.laws", "--num-classes", "10", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "label_coverage" in [law["name"] for law in json.loads(done.stdout)["laws"]]
