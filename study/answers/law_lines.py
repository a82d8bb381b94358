"""Laws and their verdicts in words and as plain values."""

import math
from collections.abc import Sequence
from typing import Any

from study.answers.laws import LawLine
from study.formatting import column, count, fixed, part_of, short_number
from study.inference.verdict import Verdict

_CONTROL = {
    Verdict.DIFFERENT: "control fails as declared",
    Verdict.EQUIVALENT: "a control that was declared to fail does not",
    Verdict.UNDECIDED: "a control that was declared to fail is not shown to",
}


def word_laws(lines: Sequence[LawLine]) -> list[str]:
    """A line of text for every comparable law, and one for all others with their reasons."""
    words = [
        column(f"law {line.law.name}", 30)
        + column(short_number(line.predicted, 3), 8)
        + column(str(line.verdict), 13)
        + _ratio(line)
        for line in lines
        if line.judgement is not None and line.predicted is not None
    ]
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if line.reason:
            reasons.setdefault(line.reason, []).append(line.law.name)
    if reasons:
        words.append("not comparable: " + "; ".join(f"{', '.join(laws)}: {why}" for why, laws in reasons.items()))
    return words


def _ratio(line: LawLine) -> str:
    assert line.judgement is not None
    ratio, low, high = (None if x is None else fixed(x, 2) for x in (line.ratio, line.ratio_low, line.ratio_high))
    parts = []
    if ratio is not None:
        parts.append(f"measured/law {ratio}, 95 % interval {low or 'open'} to {high or 'open'}")
    elif low or high:
        parts.append(f"measured/law below {high}" if low is None else f"measured/law above {low}")
    if parts:
        smallest, largest = line.judgement.margin
        parts[0] += f", margin {fixed(smallest, 2)} to {fixed(largest, 2)}"
    if line.law.is_control:
        parts.append(_CONTROL[line.verdict])
    elif line.place is not None and line.low is not None and line.high is not None:
        parts.append(f"{line.place} its verified band {short_number(line.low, 3)} to {short_number(line.high, 3)}")
    if line.judgement.reason:
        parts.append(line.judgement.reason)
    return "; ".join(parts)


def word_verdicts(lines: Sequence[LawLine]) -> list[str]:
    """What the verdicts of a whole study come to, and how to read them; empty where no law is comparable."""
    judged = [line for line in lines if line.judgement is not None]
    if not judged:
        return []
    counts = {name: sum(line.verdict is name for line in judged) for name in Verdict}
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    controls = [line for line in judged if line.law.is_control]
    if controls:
        failing = sum(line.verdict is Verdict.DIFFERENT for line in controls)
        parts.append(f"{part_of(failing, len(controls), 'control', 'fails', 'fail')} as declared")
    together = ", corrected together" if len(judged) > 1 else ""
    return [
        f"verdict{'s' if len(judged) > 1 else ''} of {count(len(judged), 'law')}{together}: {', '.join(parts)}",
        "    equivalent: the interval lies within the study's margin, different: outside it; the verified band is the "
        "law's own",
    ]


def law_json(line: LawLine) -> dict[str, Any]:
    """A law's line as plain values."""
    values = {name: getattr(line, name) for name in ("predicted", "low", "high", "ratio", "ratio_low", "ratio_high")}
    plain = {name: None if value is not None and not math.isfinite(value) else value for name, value in values.items()}
    judgement = line.judgement
    told = {} if judgement is None else {k: _plain(v) for k, v in vars(judgement).items() if k != "reason"}
    return {
        "law": line.law.name,
        "is_control": line.law.is_control,
        "reason": line.reason if judgement is None else judgement.reason,
        "place": line.place,
        **plain,
        **told,
        "verdict": str(line.verdict),
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Verdict) else value
