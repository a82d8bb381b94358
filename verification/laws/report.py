"""The document docs/theory-tables.md, from rows that were measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from verification.laws.check import Row, Table, Target

_LEAST_SHOWN = 1e-4
_SYMBOLS = {
    "dim": "d",
    "num_classes": "K",
    "cosine": "c",
    "sigma": "sigma",
    "batch": "N",
    "class_sizes": "rows of the classes",
    "train_batch": "N",
    "num_blocks": "L",
    "num_views": "V",
    "num_sources": "M",
    "spread": "tau",
    "mean_norm": "s",
    "temperature": "t",
    "learning_rate": "eta",
    "oar_weight": "lambda",
    "embedding_dim": "p",
    "first_step_variance": "v_0",
    "num_examples": "S",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How far a column of predictions is from what was measured, over the rows that have both numbers."""

    num_rows: int
    num_compared: int
    median: float
    maximum: float
    target: Target

    @property
    def verdict(self) -> str:
        """Whether the target is met: by every row, of which none may lack a number."""
        if self.target == Target():
            return "no target"
        is_met = self.num_compared == self.num_rows
        is_met &= self.median <= (math.inf if self.target.median is None else self.target.median)
        is_met &= self.maximum <= (math.inf if self.target.maximum is None else self.target.maximum)
        return "met" if is_met else "**not met**"


def summarise(table: Table, rows: Sequence[Row], column: str) -> Summary:
    """The summary of a column, with the table's target where it is held against it."""
    errors = [abs(error) for row in rows if math.isfinite(error := row.error(column))]
    return Summary(
        num_rows=len(rows),
        num_compared=len(errors),
        median=median(errors) if errors else math.nan,
        maximum=max(errors, default=math.nan),
        target=table.target if column in (table.held or table.predicted[:1]) else Target(),
    )


def document(header: Sequence[str], tables: Sequence[tuple[Table, Sequence[Row]]]) -> str:
    """The whole document in Markdown."""
    lines = ["# The laws against Monte Carlo", "", *header, "", "## Summary", ""]
    lines += _head(["check", "prediction", "settings", "median error", "largest error", "target", "verdict"])
    for table, rows in tables:
        for column in table.predicted:
            found = summarise(table, rows, column)
            compared = f"{found.num_compared} of {found.num_rows}"
            errors = [_percent(found.median), _percent(found.maximum)]
            lines.append(_line([table.title, column, compared, *errors, _target(found.target), found.verdict]))
    for table, rows in tables:
        lines += ["", f"## {table.title}", "", table.text, "", *_rows(table, rows)]
    return "\n".join(lines) + "\n"


def _rows(table: Table, rows: Sequence[Row]) -> list[str]:
    head = [_SYMBOLS.get(name, name) for name in table.fields] + [table.measured, "s.e."]
    for column in table.predicted:
        head += [column, "error"]
    has_target = table.target != Target()
    lines = _head([*head, *(["inside"] if has_target else []), "note"])
    for row in rows:
        measured = row.measured
        cells = [_value(getattr(row.setting, name)) for name in table.fields]
        cells += [_value(measured.value), _percent(abs(measured.standard_error / measured.value))]
        for column in table.predicted:
            cells += [_value(row.predictions[column]), _percent(row.error(column), sign=True)]
        if has_target:
            bound = table.target.maximum
            cells.append(
                "yes" if abs(row.error(table.predicted[0])) <= (math.inf if bound is None else bound) else "no"
            )
        lines.append(_line([*cells, measured.note]))
    return lines


def _target(target: Target) -> str:
    parts = [
        f"{name} {_percent(bound)}" for name, bound in (("median", target.median), ("largest", target.maximum)) if bound
    ]
    return ", ".join(parts) or "–"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"


def _percent(share: float, *, sign: bool = False) -> str:
    if math.isnan(share):
        return "–"
    if abs(share) < _LEAST_SHOWN:
        return f"< {100 * _LEAST_SHOWN:g} %"
    return (
        f"{100 * share:{'+' if sign else ''}.2g} %" if abs(share) < 0.1 else f"{100 * share:{'+' if sign else ''}.0f} %"
    )


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), "|" + "---|" * len(names)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
