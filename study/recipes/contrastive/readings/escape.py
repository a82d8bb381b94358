"""How long single runs stayed collapsed, beside what theory predicts of each from its own first step."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.designs.values import from_json
from study.formatting import count, fixed
from study.interface.readings import SliceView
from study.interface.theory import NotApplicableError
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.theory import setting_of
from study.rows import metric_column

_MEASURED = ("first_step_norm", "first_step_variance")


@dataclass(frozen=True, kw_only=True)
class EscapeComparison:
    """Runs that escaped, measured steps over predicted ones; runs that did not, and of how many that was predicted.

    ``num_refused`` runs lie outside the law (they never collapsed, for example), for ``refusal`` among other reasons.
    """

    name = "escapes"

    law: str
    ratios: tuple[float, ...]
    num_censored: int
    num_censored_as_predicted: int
    num_refused: int
    refusal: str

    def curves(self) -> dict[str, dict[float, float]]:
        return {}

    def as_json(self) -> dict[str, Any]:
        return vars(self)

    def lines(self) -> list[str]:
        parts = [f"{self.num_censored} never escaped, {self.num_censored_as_predicted} of them as predicted"]
        if self.ratios:
            low, median, high = np.quantile(self.ratios, [0, 0.5, 1])
            range_ = f"{fixed(low, 2)} to {fixed(high, 2)}"
            parts.insert(0, f"{count(len(self.ratios), 'escape')}, measured/law median {fixed(median, 2)} ({range_})")
        if self.num_refused:
            parts.append(f"{self.num_refused} outside the law ({self.refusal})")
        return [f"law {self.law}, run by run: {'; '.join(parts)}"]


def read_escapes(view: SliceView) -> EscapeComparison | None:
    """Compare every reported run with the escape law of its loss; None where the design names none or none was run."""
    columns = [metric_column(name) for name in _MEASURED]
    if not {*columns} <= set(view.replicates) or (known := view.replicates.dropna(subset=columns)).empty:
        return None
    first = from_json(ReplicateConfig, known["config"].iloc[0])
    if not first.evaluation.escape:
        return None
    weight = first.loss.oar_weight
    name = "oar_escape" if weight > 0 else "frozen_escape"
    if name not in view.laws:
        return None
    ratios, censored, as_predicted, refusals = [], 0, 0, []
    for row in known.to_dict("records"):
        config = from_json(ReplicateConfig, row["config"])
        measured = {field: row[metric_column(field)] for field in _MEASURED}
        setting = dataclasses.replace(setting_of(config, is_tuned=False), **measured)
        try:
            predicted = LAWS[name].predict(setting).value
        except NotApplicableError as error:
            refusals.append(str(error))
            continue
        escaped = row.get(metric_column("escape_step"))
        if pd.notna(escaped):
            ratios.append(escaped / predicted)
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
