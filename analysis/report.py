"""The printed answer of a study and its files: STORAGE/NAME/reports/HASH/NAME.{png,svg,json}."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.answer import StudyAnswer, answer, to_json
from analysis.designs import DesignRecord
from analysis.figures import draw_answer, figure_bytes
from analysis.fits import SearchEnd, sought_crossings
from analysis.law_words import word_laws, word_verdicts
from analysis.moments import falls_at
from analysis.planes import Plane
from analysis.sensitivity import Shift
from analysis.slices import Slice, mean_curve
from study.inference.statements import CEILING_FLAG, FLOOR_FLAG, START_CEILING_FLAG
from study.results.ledger import Ledger

# What the rising and the falling crossing of an axis are called; a crossing without a name is none of the question.
_WORDS = {
    "batch.train": ("minimum batch", "maximum useful batch", "batch"),
    "data.strength": ("", "maximum strength", "strength"),
    "data.label_fraction": ("minimum label share", "maximum label share", "label share"),
    "optimizer.learning_rate": ("fused from rate", "fused up to rate", "learning rate"),
    "batch.eval": ("minimum batch", "maximum batch", "batch"),
    "model.num_blocks": ("", "maximum depth", "depth"),
}
# An absolute level asks nothing of the ceiling.
_OF_A_FRACTION = (CEILING_FLAG, START_CEILING_FLAG, FLOOR_FLAG)
_FLOORS = {"before": "floor", "chance": "chance", "zero": "floor"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """An answer, its text and where its files are."""

    answer: StudyAnswer
    text: str
    figure: str
    data: str


def make_report(
    ledger: Ledger,
    study_hash: str | None = None,
    ends: Mapping[str, SearchEnd] | None = None,
    asked_for: str | None = None,
) -> Report:
    """Compute the answer of a design, write its figure and data next to the ledger, and word it.

    ``ends`` says by ``slice_key`` how each search ended and ``asked_for`` names the data set that was asked for: the
    ledger holds what was measured, not what was wanted.
    """
    result = answer(ledger, study_hash, ends, asked_for)
    folder = f"reports/{result.design.hash}"
    stem = f"{folder}/{result.design.study}"
    figure = draw_answer(result)
    for kind in ("png", "svg"):
        ledger.store.write(f"{stem}.{kind}", figure_bytes(figure, kind))
    ledger.store.write(f"{stem}.json", json.dumps(to_json(result), indent=1).encode())
    drawn, data = (ledger.store.locate(f"{stem}.{kind}") for kind in ("svg", "json"))
    text = "\n".join([*word_answer(result), f"figure {drawn}    .png    data {data}"])
    return Report(answer=result, text=text, figure=drawn, data=data)


def word_answer(result: StudyAnswer) -> list[str]:
    """The answer in lines of plain text."""
    design = result.design
    finished = sum(result.counts.get(name, 0) for name in ("ok", "collapsed", "diverged"))
    others = ", ".join(f"{count} {name}" for name, count in sorted(result.counts.items()) if name != "ok")
    header = [
        design.study + ("" if design.variant == "learning" else f" ({design.variant})"),
        result.dataset_words,
        f"design {design.hash}" + (" (exploratory: --set changed it)" if design.is_exploratory else ""),
        _commit(design.commit, design.dirty),
        f"{finished} of {result.num_planned} replicates with a result" + (f" ({others})" if others else ""),
    ]
    lines = [" · ".join(header)]
    if result.num_older:
        lines.append(f"{result.num_older} rows are older than this design: they were not planned under it")
    for part in result.slices:
        lines += _word_slice(result, part)
    for plane in result.planes:
        lines += _word_plane(result, plane)
    unit = _WORDS.get(design.axes[0][0], ("", "", design.axes[0][0]))[2]
    if result.horizons:
        lines += ["sensitivity to the budget:", *_word_shifts(result.horizons, unit)]
    return lines + word_verdicts(result.laws)


def _tuned(design: DesignRecord) -> str:
    """The names of what is tuned afresh in every cell; empty where nothing is."""
    return " and ".join(path.rpartition(".")[2].replace("_", " ") for path, _ in design.nuisance_axes)


def _commit(commit: str, dirty: bool | None) -> str:
    if not commit:
        return "commit unknown (no git here: set STUDY_COMMIT and STUDY_DIRTY, as make submit does)"
    return f"commit {commit[:8]}" + {True: " with uncommitted changes", False: "", None: " (state unknown)"}[dirty]


def _word_slice(result: StudyAnswer, part: Slice) -> list[str]:
    design = result.design
    axis = design.axes[0][0]
    low_word, high_word, unit = _WORDS.get(axis, (f"minimum {axis}", f"maximum {axis}", axis))
    lines = []
    if part.others or len(design.criteria) > 1:
        places = [f"{path} = {value}" for path, value in part.others.items()]
        lines.append("at " + ", ".join([*places, *([part.criterion.sentence] if len(design.criteria) > 1 else [])]))
    if part.fit is None:
        return [*lines, f"{low_word or high_word}: no answer: {part.no_fit}"]
    fit = part.fit
    tuned = _tuned(design)
    tuning = f", {tuned} tuned per {unit}" if tuned else ""
    seeds = f"{result.num_seeds} seeds" if part.search is None else part.search.sentence()
    note = f"{part.criterion.sentence}{tuning}, {seeds}"
    if low_word:
        lines.append(f"{low_word:<22}{fit.rising.describe(unit)}    {note}")
        lines.append(f"{high_word:<22}{fit.falling.describe(unit)}    at {_horizon(part)}")
    else:
        lines.append(f"{high_word:<22}{fit.falling.describe(unit)}    {note}, {_horizon(part)}")
    if part.cross_check:
        found = " and ".join(crossing.describe(unit) for crossing in part.cross_check)
        lines.append(f"bootstrap of seeds, a cross-check: {found}")
    lines += word_laws(part.laws)
    if part.criterion is design.criterion:
        lines += _word_outcomes(part.outcomes)
    lines += [f"note: {flag}" for flag in fit.flags if part.criterion.level is None or flag not in _OF_A_FRACTION]
    lines += _word_diverged(part.frame)
    if part.fit_without_diverged is not None:
        word = low_word if low_word and design.flank != "falling" else high_word
        without = sought_crossings(part.fit_without_diverged, design.flank)[0]
        lines.append(f"{word} without the diverged replicates: {without.describe(unit)}")
    quantity, floor = part.criterion.quantity(part.criterion.metric), _FLOORS[part.criterion.floor]
    means = mean_curve(part.frame, axis, design, part.criterion)
    lines.append(f"{quantity} ({floor} {fit.floor:.3f}): " + _points(means, axis))
    if part.shifts:
        tuned_for = f" ({tuned} tuned for {part.criterion.sentence} alone)" if tuned else ""
        lines += [f"sensitivity to the criterion{tuned_for}:", *_word_shifts(part.shifts, unit)]
    if part.escapes is not None:
        lines.append(part.escapes.sentence())
    if part.from_moments is not None:
        lines += _word_moments(part, means.set_index(axis)["mean"])
    if len(part.untuned):
        setting = ", ".join(f"{path.rpartition('.')[2]} {value:g}" for path, value in part.untuned_setting.items())
        untuned = mean_curve(part.untuned, axis, design, part.criterion)
        lines.append(f"{quantity} untuned ({setting}, validation split): " + _points(untuned, axis))
    if part.at_edge:
        cells = ", ".join(f"{x:g}" for x in part.at_edge)
        lines.append(f"{tuned} at edge: the best value tried at {unit} {cells} has no tried neighbour on one side")
    if part.knn is not None:
        knn = part.knn
        raw = "" if knn.raw is None else f", raw inputs {knn.raw:.3f}"
        lines.append(f"kNN accuracy at {unit} {knn.point:g}: {knn.trained:.3f}, untrained {knn.untrained:.3f}{raw}")
    return lines


def _word_plane(result: StudyAnswer, plane: Plane) -> list[str]:
    """The boundary at a few values of the second axis, with the laws there."""
    (x, _), (y, _), *_ = result.design.axes
    low_word, high_word, unit = _WORDS.get(x, (f"minimum {x}", f"maximum {x}", x))
    word = (high_word if result.design.flank == "falling" else low_word) or high_word
    other = _WORDS.get(y, ("", "", y))[2]
    place = "".join(f"at {value}: " for value in plane.others.values())
    if plane.fit is None:
        return [f"{place}{word}: no answer: {plane.no_fit}"]
    sought = f", {plane.search.sentence()}" if plane.search is not None else ""
    tuned = _tuned(result.design)
    tuning = f", {tuned} tuned per cell" if tuned else ""
    lines = [f"{place}{word} over {other}, a boundary    {plane.criterion.sentence}{tuning}{sought}"]
    for height in plane.heights:
        lines.append(f"at {other} {height.value:<10g}{height.crossing.describe(unit)}")
        lines += [f"    {text}" for text in word_laws([line for line in height.laws if not line.reason])]
    # Most reasons are the same at every height.
    reasons = {(line.law.name, line.reason): line for height in plane.heights for line in height.laws if line.reason}
    lines += word_laws(list(reasons.values()))
    lines += [*_word_outcomes(plane.outcomes), *_word_diverged(plane.frame)]
    return lines + [f"note: {flag}" for flag in plane.fit.flags]


def _word_outcomes(outcomes: Mapping[str, int]) -> list[str]:
    """Replicates that did not end well: collapsed ones are data, of failed ones there are none."""
    total, collapsed = sum(outcomes.values()), outcomes.get("collapsed", 0)
    failed = total - sum(outcomes.get(name, 0) for name in ("ok", "collapsed", "diverged", "open"))
    lines = []
    if collapsed:
        lines.append(f"{collapsed} of {total} reported replicates collapsed and count as measured")
    if failed:
        lines.append(f"{failed} of {total} reported replicates failed and are left out")
    return lines


def _word_diverged(frame: pd.DataFrame) -> list[str]:
    diverged = frame[frame["outcome"] == "diverged"]
    if diverged.empty:
        return []
    return [f"{len(diverged)} diverged and count as the floor, the first: {diverged['error'].iloc[0]}"]


def _word_shifts(shifts: Sequence[Shift], unit: str) -> list[str]:
    """A line per threshold by another criterion or horizon."""
    width = max(len(shift.name) for shift in shifts)
    lines = []
    for shift in shifts:
        moved = "" if shift.octaves is None else f"    {shift.octaves:+.2f} octave"
        lines.append(f"    {shift.name:<{width}}  {shift.crossing.describe(unit)}{moved}")
    return lines


def _word_moments(part: Slice, measured: pd.Series) -> list[str]:
    """What one identity block should reach by the cosines of the views, and how far the measurement is from it."""
    assert part.from_moments is not None
    lines = []
    for source, predicted in (("untrained encoder", part.from_moments.encoder), ("raw pixels", part.from_moments.raw)):
        if predicted:
            error = pd.Series(predicted) - measured
            shown = "  ".join(f"{strength:g}: {value:.3f}" for strength, value in predicted.items())
            largest = error.loc[error.abs().idxmax()]
            fall = falls_at(predicted, part.criterion)
            found = part.fit.falling.estimate if part.fit is not None else None
            place = "no fall through the criterion" if fall is None else f"falls through the criterion at {fall:.2g}"
            ratio = "" if fall is None or found is None else f", measured/predicted {found / fall:.2f}"
            lines.append(f"one identity block by cosines of the {source}: {place}{ratio}")
            lines.append(f"    predicted {shown} (largest error {largest:+.2g})")
    return lines


def _points(means: pd.DataFrame, axis: str) -> str:
    return "  ".join(f"{row[axis]:g}: {row['mean']:.3f}" for _, row in means.iterrows())


def _horizon(part: Slice) -> str:
    config = json.loads(part.frame["config"].iloc[0])
    if not config["horizon.length"]:
        return "no training"
    unit = {"examples": "training images", "steps": "steps"}[config["horizon.unit"]]
    return f"{config['horizon.length']:,} {unit}"
