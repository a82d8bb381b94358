"""The files of an answer: STORAGE/NAME/reports/HASH/NAME.{png,svg,json}."""

import json
from dataclasses import dataclass

from study.answers.answer import StudyAnswer, to_json
from study.errors import error_sentence
from study.ledger.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """Where the data and the figure (SVG, with a PNG beside it) lie, and why one of them does not."""

    data: str | None
    figure: str | None
    warnings: tuple[str, ...]


def write_report(ledger: Ledger, result: StudyAnswer) -> ReportFiles:
    """Write data and figure next to the ledger; whatever fails is a warning, for the answer does not need them."""
    stem = f"reports/{result.design.hash}/{result.design.study}"
    warnings = []
    places: dict[str, str | None] = {"data": None, "figure": None}
    for name, kind, write in (("data", "json", _write_data), ("figure", "svg", _write_figure)):
        try:
            write(ledger, result, stem)
        except Exception as error:
            warnings.append(f"the {name} of the answer could not be written: {error_sentence(error)}")
        else:
            places[name] = ledger.store.locate(f"{stem}.{kind}")
    return ReportFiles(**places, warnings=tuple(warnings))


def _write_data(ledger: Ledger, result: StudyAnswer, stem: str) -> None:
    ledger.store.write(f"{stem}.json", json.dumps(to_json(result), indent=1).encode())


def _write_figure(ledger: Ledger, result: StudyAnswer, stem: str) -> None:
    # Matplotlib is loaded here alone: where it cannot be, there is still an answer.
    from study.answers.figures import draw_answer, figure_bytes

    figure = draw_answer(result)
    for kind in ("png", "svg"):
        ledger.store.write(f"{stem}.{kind}", figure_bytes(figure, kind))
