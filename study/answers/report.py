"""The printed answer of a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study.answers.answer import StudyAnswer, answer
from study.answers.axis_names import AxisWords, axis_words
from study.answers.failures import word_failures
from study.answers.fits import SearchEnd, sought_crossings
from study.answers.law_lines import word_laws, word_verdicts
from study.answers.planes import Plane
from study.answers.registered import RegisteredDesign
from study.answers.sensitivity import Shift
from study.answers.slices import Slice, mean_curve
from study.designs.values import from_json
from study.formatting import column, count, count_range, fixed, part_of
from study.inference.statements import CEILING_FLAG, FLOOR_FLAG, START_CEILING_FLAG
from study.ledger.ledger import Ledger
from study.outcome import FINAL_OUTCOMES

# Columns from where a threshold is worded, beside its name.
_NAME_WIDTH = 22
# An absolute level asks nothing of the ceiling.
_OF_A_FRACTION = (CEILING_FLAG, START_CEILING_FLAG, FLOOR_FLAG)
# Words of an answer that need a sentence where they stand.
_EXPLAINED = {
    "octave": "an octave is a factor of two",
    " rise of ": "a rise goes from the floor (before training, or chance) to the ceiling (the plateau)",
    ", open ": "open: that end of the interval lies outside what was measured",
    "untuned": "untuned: at the middle one of the tuned values",
}
_FLOORS = {"before": "floor", "chance": "chance", "zero": "floor"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """An answer and its text; its files are another matter (report_files.py), so that they cannot cost the answer."""

    answer: StudyAnswer
    text: str


def make_report(
    ledger: Ledger,
    study_hash: str | None = None,
    ends: Mapping[str, SearchEnd] | None = None,
    asked_for: str | None = None,
) -> Report:
    """Compute the answer of a design and word it; nothing is drawn or written.

    ``ends`` says by ``slice_key`` how each search ended and ``asked_for`` names the data set that was asked for: the
    ledger holds what was measured, not what was wanted.
    """
    result = answer(ledger, study_hash, ends, asked_for)
    return Report(answer=result, text="\n".join(word_answer(result)))


def word_answer(result: StudyAnswer) -> list[str]:
    """The answer in lines of plain text."""
    design = result.design
    finished = sum(result.counts.get(name, 0) for name in FINAL_OUTCOMES)
    others = ", ".join(f"{number} {name}" for name, number in sorted(result.counts.items()) if name != "ok")
    header = [
        design.study + ("" if design.is_first_variant else f" ({design.variant})"),
        *([result.dataset_words] if design.dataset else []),
        f"design {design.hash}" + (" (exploratory: --set changed it)" if design.is_exploratory else ""),
        _commit(design.commit, design.dirty),
        f"{finished} of {count(result.num_planned, 'replicate')} with a result" + (f" ({others})" if others else ""),
    ]
    lines = [" · ".join(header)]
    if result.num_older:
        is_one = result.num_older == 1
        verbs = ("is", "it was") if is_one else ("are", "they were")
        lines.append(
            f"{count(result.num_older, 'row')} {verbs[0]} older than this design: {verbs[1]} not planned under it"
        )
    lines += word_failures(result.failures)
    for part in result.slices:
        lines += _word_slice(result, part)
    for plane in result.planes:
        lines += _word_plane(result, plane)
    if result.horizons:
        words = axis_words(design.recipe, design.axis.path, design.criterion, design.flank)
        lines += ["sensitivity to the budget:", *_word_shifts(result.horizons, words)]
    lines += word_verdicts(result.laws)
    explained = [meaning for word, meaning in _EXPLAINED.items() if any(word in line for line in lines)]
    return lines + ([f"words: {'; '.join(explained)}"] if explained else [])


def _tuned(design: RegisteredDesign) -> str:
    """The names of what is tuned afresh in every cell; empty where nothing is."""
    return " and ".join(axis.path.rpartition(".")[2].replace("_", " ") for axis in design.nuisance)


def _commit(commit: str, dirty: bool | None) -> str:
    if not commit:
        return "commit unknown (git told none where this began: set STUDY_COMMIT and STUDY_DIRTY, as make submit does)"
    return f"commit {commit[:8]}" + {True: " with uncommitted changes", False: "", None: " (state unknown)"}[dirty]


def _word_slice(result: StudyAnswer, part: Slice) -> list[str]:
    design = result.design
    axis = design.axis.path
    words = axis_words(design.recipe, axis, part.criterion, design.flank)
    unit = words.unit
    lines = []
    if part.others or len(design.criteria) > 1:
        places = [f"{path} = {value}" for path, value in part.others.items()]
        lines.append("at " + ", ".join([*places, *([part.criterion.sentence] if len(design.criteria) > 1 else [])]))
    if part.fit is None:
        return [*lines, f"{words.rising or words.falling}: no answer: {part.no_fit}"]
    fit = part.fit
    tuned = _tuned(design)
    tuning = f", {tuned} tuned per {unit}" if tuned else ""
    spent = f"{count_range(*part.seeds_per_point(axis), 'seed')} per point"
    if part.search is not None:
        spent = part.search.sentence()
    note = f"{part.criterion.sentence}{tuning}, {spent}"
    horizon = _horizon(design, part)
    rising, falling = words.describe(fit.rising), words.describe(fit.falling)
    if words.rising:
        lines.append(f"{column(words.rising, _NAME_WIDTH)}{rising}    {note}")
        lines.append(f"{column(words.falling, _NAME_WIDTH)}{falling}" + (f"    at {horizon}" if horizon else ""))
    else:
        lines.append(f"{column(words.falling, _NAME_WIDTH)}{falling}    {note}" + (f", {horizon}" if horizon else ""))
    if part.cross_check:
        found = " and ".join(map(words.describe, part.cross_check))
        lines.append(f"bootstrap of seeds, a cross-check: {found}")
    lines += word_laws(part.laws)
    if part.criterion is design.criterion:
        lines += _word_outcomes(part.outcomes)
    lines += [f"note: {flag}" for flag in fit.flags if part.criterion.level is None or flag not in _OF_A_FRACTION]
    lines += _word_diverged(part.frame)
    if part.fit_without_diverged is not None:
        without = sought_crossings(part.fit_without_diverged, design.flank)[0]
        lines.append(f"{words.sought(design.flank)} without the diverged replicates: {words.describe(without)}")
    quantity, floor = part.criterion.quantity(part.criterion.metric), _FLOORS[part.criterion.floor]
    means = mean_curve(part.frame, axis, design, part.criterion)
    lines.append(f"{quantity} ({floor} {fixed(fit.floor, 3)}): " + _points(means, axis))
    if part.shifts:
        tuned_for = f" ({tuned} tuned for {part.criterion.sentence} alone)" if tuned else ""
        lines += [f"sensitivity to the criterion{tuned_for}:", *_word_shifts(part.shifts, words)]
    if len(part.untuned):
        setting = ", ".join(f"{path.rpartition('.')[2]} {value:g}" for path, value in part.untuned_setting.items())
        untuned = mean_curve(part.untuned, axis, design, part.criterion)
        split = f", {design.tuning_split} split" if design.tuning_split else ""
        lines.append(f"{quantity} untuned ({setting}{split}): " + _points(untuned, axis))
    if part.at_edge:
        cells = ", ".join(f"{x:g}" for x in part.at_edge)
        lines.append(f"{tuned} at edge: the best value tried at {unit} {cells} has no tried neighbour on one side")
    for reading in part.readings:
        lines += reading.lines()
    return lines


def _word_plane(result: StudyAnswer, plane: Plane) -> list[str]:
    """The boundary at a few values of the second axis, with the laws there."""
    x, y = (axis.path for axis in result.design.axes[:2])
    design, flank = result.design, result.design.flank
    words = axis_words(design.recipe, x, plane.criterion, flank)
    word, other = words.sought(flank), axis_words(design.recipe, y, plane.criterion, flank).unit
    place = "".join(f"at {value}: " for value in plane.others.values())
    if plane.fit is None:
        return [f"{place}{word}: no answer: {plane.no_fit}"]
    sought = f", {plane.search.sentence()}" if plane.search is not None else ""
    tuned = _tuned(result.design)
    tuning = f", {tuned} tuned per cell" if tuned else ""
    lines = [f"{place}{word} over {other}, a boundary    {plane.criterion.sentence}{tuning}{sought}"]
    for height in plane.heights:
        lines.append(f"at {other} {column(f'{height.value:g}', 10)}{words.describe(height.crossing)}")
        lines += [f"    {text}" for text in word_laws([line for line in height.laws if not line.reason])]
    # Most reasons are the same at every height.
    reasons = {(line.law.name, line.reason): line for height in plane.heights for line in height.laws if line.reason}
    lines += word_laws(list(reasons.values()))
    lines += [*_word_outcomes(plane.outcomes), *_word_diverged(plane.frame)]
    return lines + [f"note: {flag}" for flag in plane.fit.flags]


def _word_outcomes(outcomes: Mapping[str, int]) -> list[str]:
    """Replicates that did not end well: collapsed ones are data, of failed ones there are none."""
    total, collapsed = sum(outcomes.values()), outcomes.get("collapsed", 0)
    failed = total - sum(outcomes.get(name, 0) for name in (*FINAL_OUTCOMES, "open"))
    lines = []
    if collapsed:
        verbs = ("collapsed and counts", "collapsed and count")
        lines.append(f"{part_of(collapsed, total, 'reported replicate', *verbs)} as measured")
    if failed:
        verbs = ("failed and is", "failed and are")
        lines.append(f"{part_of(failed, total, 'reported replicate', *verbs)} left out")
    return lines


def _word_diverged(frame: pd.DataFrame) -> list[str]:
    diverged = frame[frame["outcome"] == "diverged"]
    if diverged.empty:
        return []
    if len(diverged) == 1:
        return [f"1 diverged and counts as the floor: {diverged['error'].iloc[0]}"]
    return [f"{len(diverged)} diverged and count as the floor, the first: {diverged['error'].iloc[0]}"]


def _word_shifts(shifts: Sequence[Shift], words: AxisWords) -> list[str]:
    """A line per threshold by another criterion or horizon."""
    width = max(len(shift.name) for shift in shifts)
    lines = []
    for shift in shifts:
        moved = "" if shift.octaves is None else f"    {fixed(shift.octaves, 2, signed=True)} octave"
        lines.append(f"    {shift.name:<{width}}  {words.describe(shift.crossing)}{moved}")
    return lines


def _points(means: pd.DataFrame, axis: str) -> str:
    return "  ".join(f"{row[axis]:g}: {fixed(row['mean'], 3)}" for _, row in means.iterrows())


def _horizon(design: RegisteredDesign, part: Slice) -> str:
    config: Any = from_json(design.recipe.config_class, part.frame["config"].iloc[0])
    return design.recipe.horizon(config)
