"""What the laws say of a setting, such as ``--d 64 --num-classes 5 --sigma 1 --batch 50 --blocks 2``.

Every law that applies, with the values that its verification allows, its criterion and how well it was verified; then
why the others do not apply. Exit codes: 0 answered; 2 wrong usage.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.commands.streams import run_main
from study.interface.theory import NotApplicableError
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.flags import FLAGS, PROGRAM, UsageError, build_parser, example, read_setting
from study.recipes.contrastive.laws.law import Law, Prediction, Setting

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None, laws: Mapping[str, Law] = LAWS, program: str = PROGRAM) -> int:
    """Entry point; returns the exit code."""
    try:
        options, setting = read_setting(sys.argv[1:] if arguments is None else arguments, program)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options.help:
        print(build_parser(program).format_help(), end="")
        return 0
    if options.list:
        print(_listed_json(laws) if options.json else _listed(laws))
        return 0
    if setting is None:
        print(f"{build_parser(program).format_usage()}name a setting, for example: {example(program)}", file=sys.stderr)
        print("--list shows every law, --help every field of a setting", file=sys.stderr)
        return EXIT_USAGE
    answers, reasons = ask(laws, setting)
    print(_answer_json(setting, answers, reasons) if options.json else _answer(setting, answers, reasons))
    return 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a law says of a setting, and of the value of its own quantity where that is given.

    ``works``: the criterion holds at that value; ``outcome``: the metric that the law predicts there.
    """

    law: Law
    prediction: Prediction
    given: float | None
    works: bool | None
    outcome: float | None


def ask(laws: Mapping[str, Law], setting: Setting) -> tuple[list[Answer], dict[str, str]]:
    """The answers of the laws that apply to a setting, and why each of the others does not."""
    answers, reasons = [], {}
    for name, law in laws.items():
        missing = [field for field in law.inputs if getattr(setting, field) is None]
        if missing:
            reasons[name] = f"needs {_listing([f'--{FLAGS[field].name}' for field in missing])}"
            continue
        try:
            answers.append(_ask(law, setting))
        except NotApplicableError as error:
            reasons[name] = str(error)
    return answers, reasons


def _ask(law: Law, setting: Setting) -> Answer:
    prediction = law.predict(setting)
    given: float | None = getattr(setting, law.quantity)
    if given is None:
        return Answer(law=law, prediction=prediction, given=None, works=None, outcome=None)
    is_below = given <= prediction.value if law.direction == "largest" else given < prediction.value
    outcome = math.nan if law.outcome is None else float(law.outcome(setting))
    return Answer(
        law=law,
        prediction=prediction,
        given=given,
        works=is_below == (law.direction == "largest"),
        outcome=outcome if math.isfinite(outcome) else None,
    )


def _given_fields(setting: Setting) -> dict[str, Any]:
    """The fields of a setting that differ from what holds without a word."""
    defaults = dataclasses.asdict(Setting())
    return {name: value for name, value in dataclasses.asdict(setting).items() if value != defaults[name]}


def _answer(setting: Setting, answers: Sequence[Answer], reasons: Mapping[str, str]) -> str:
    lines = [" · ".join(_field(name, value) for name, value in _given_fields(setting).items())]
    for answer in answers:
        law, prediction = answer.law, answer.prediction
        bound = "at most" if law.direction == "largest" else "at least"
        lines += ["", f"{law.name}{'  (a control: declared to fail)' if law.is_control else ''}: {law.says}"]
        allowed = f"{_number(prediction.low)} to {_number(prediction.high)}"
        lines.append(
            f"  {law.quantity} {bound} {_number(prediction.value)} for {law.criterion} (verification allows {allowed})"
        )
        if answer.given is not None:
            lines.append(f"  {_other_direction(answer)}")
        band = prediction.band
        lines.append(
            f"  verified on {band.num_settings} settings: error {_percent(band.median)} in the median, "
            f"{_percent(band.maximum)} at most"
        )
        lines += [f"  assumes: {law.assumptions}", f"  valid: {law.validity}", f"  {law.source}"]
    if not answers:
        lines += ["", "no law applies"]
    if reasons:
        width = max(map(len, reasons)) + 2
        lines += ["", "not applicable", *(f"  {name:<{width}}{reason}" for name, reason in reasons.items())]
    return "\n".join(lines)


def _other_direction(answer: Answer) -> str:
    assert answer.given is not None
    side = "below" if answer.given < answer.prediction.value else "above"
    said = f"{answer.law.quantity} {_number(answer.given)} lies {side}"
    if not answer.law.is_control:
        said += f": the criterion {'holds' if answer.works else 'fails'}"
    return said if answer.outcome is None else f"{said}, predicted {answer.law.metric} = {answer.outcome:.3g}"


def _answer_json(setting: Setting, answers: Sequence[Answer], reasons: Mapping[str, str]) -> str:
    said = [
        _law_fields(answer.law)
        | {
            "threshold": answer.prediction.value,
            "low": answer.prediction.low,
            "high": answer.prediction.high if math.isfinite(answer.prediction.high) else None,
            "verified": dataclasses.asdict(answer.prediction.band),
            "given": answer.given,
            "criterion_holds": answer.works,
            "outcome": answer.outcome,
        }
        for answer in answers
    ]
    whole = {"setting": _given_fields(setting), "laws": said, "not_applicable": dict(reasons)}
    return json.dumps(whole, indent=2, allow_nan=False)


def _law_fields(law: Law) -> dict[str, Any]:
    names = ("name", "says", "quantity", "direction", "criterion", "assumptions", "validity", "source", "is_control")
    return {name: getattr(law, name) for name in names}


def _listed(laws: Mapping[str, Law]) -> str:
    width = max(map(len, laws), default=0) + 2
    return "\n".join(
        f"{name:<{width}}{law.says} ({law.direction} {law.quantity}, {law.criterion}"
        f"{', control' if law.is_control else ''})"
        for name, law in laws.items()
    )


def _listed_json(laws: Mapping[str, Law]) -> str:
    return json.dumps([_law_fields(law) | {"inputs": law.inputs} for law in laws.values()], indent=2)


def _field(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if isinstance(value, tuple):
        return f"{name} {', '.join(map(_number, value))}"
    return f"{name} {value if isinstance(value, str) else _number(value)}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "any value"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _listing(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


if __name__ == "__main__":
    sys.exit(run_main(main))
