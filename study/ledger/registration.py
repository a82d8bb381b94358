"""The row that registers a design before its first replicate."""

import json
from datetime import UTC, datetime

from study.designs.description import axes_json, metrics_json
from study.designs.design import Design
from study.ledger.provenance import Provenance


def design_row(design: Design, provenance: Provenance, asked_for: str) -> dict[str, object]:
    """The row that registers a design before its first replicate, asked for as ``asked_for``'s."""
    return {
        "study_hash": design.hash,
        "study": design.study,
        "variant": design.variant,
        "design": json.dumps(design.canonical(), sort_keys=True),
        "first_variant": design.is_first_variant,
        "exploratory": design.is_exploratory,
        "commit": provenance.commit,
        "dirty": provenance.dirty,
        "created_at": datetime.now(UTC),
        "entry_point": design.recipe.address,
        "axes": json.dumps(axes_json(design)),
        "metrics": json.dumps(metrics_json(design)),
        "dataset_fallback": asked_for if asked_for != design.dataset else None,
    }
