"""How long single runs stayed collapsed, beside what theory predicts of each from its own first step."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.laws import setting_of
from study.config import from_json
from study.limits import LAWS
from study.limits.law import NotApplicableError
from study.words import count, fixed

_MEASURED = ["first_step_norm", "first_step_variance"]


@dataclass(frozen=True, kw_only=True)
class EscapeComparison:
    """Runs that escaped, measured steps over predicted ones; runs that did not, and of how many that was predicted.

    ``num_refused`` runs lie outside the law (they never collapsed, for example), for ``refusal`` among other reasons.
    """

    law: str
    ratios: tuple[float, ...]
    num_censored: int
    num_censored_as_predicted: int
    num_refused: int
    refusal: str

    def sentence(self) -> str:
        """One line of text."""
        parts = [f"{self.num_censored} never escaped, {self.num_censored_as_predicted} of them as predicted"]
        if self.ratios:
            low, median, high = np.quantile(self.ratios, [0, 0.5, 1])
            range_ = f"{fixed(low, 2)} to {fixed(high, 2)}"
            parts.insert(0, f"{count(len(self.ratios), 'escape')}, measured/law median {fixed(median, 2)} ({range_})")
        if self.num_refused:
            parts.append(f"{self.num_refused} outside the law ({self.refusal})")
        return f"law {self.law}, run by run: {'; '.join(parts)}"


def compare_escapes(frame: pd.DataFrame, laws: Sequence[str]) -> EscapeComparison | None:
    """Compare every reported run with the escape law of its loss; None where the design names none or none was run."""
    if not {"escape_step", *_MEASURED} <= set(frame) or (known := frame.dropna(subset=_MEASURED)).empty:
        return None
    first = from_json(known["config"].iloc[0])
    if not first.evaluation.escape:
        return None
    weight = first.loss.oar_weight
    name = "oar_escape" if weight > 0 else "frozen_escape"
    if name not in laws:
        return None
    ratios, censored, as_predicted, refusals = [], 0, 0, []
    for row in known.to_dict("records"):
        config = from_json(row["config"])
        setting = dataclasses.replace(setting_of(config, is_tuned=False), **{field: row[field] for field in _MEASURED})
        try:
            predicted = LAWS[name].predict(setting).value
        except NotApplicableError as error:
            refusals.append(str(error))
            continue
        if pd.notna(row["escape_step"]):
            ratios.append(row["escape_step"] / predicted)
        else:
            censored += 1
            as_predicted += predicted > config.num_steps
    return EscapeComparison(
        law=name,
        ratios=tuple(ratios),
        num_censored=censored,
        num_censored_as_predicted=as_predicted,
        num_refused=len(refusals),
        refusal=refusals[0] if refusals else "",
    )
