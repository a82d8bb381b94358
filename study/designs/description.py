"""What a reader of a ledger needs to know of a design without its search space: what axes and metrics are."""

import math
from typing import Any

from study.designs.design import Design


def axes_json(design: Design) -> dict[str, dict[str, Any]]:
    """Every axis by its path: what it is called, its unit and scale, and the names and places of its ends."""
    described = {}
    for axis in (*design.scientific, *design.nuisance):
        quantity = design.recipe.quantity(axis.path)
        ends = {name: value for name in ("least", "most") if math.isfinite(value := getattr(quantity, name))}
        described[axis.path] = {
            "label": quantity.label,
            "unit": quantity.unit,
            "scale": axis.scale,
            "rising": quantity.rising or f"minimum {quantity.unit}",
            "falling": quantity.falling or f"maximum {quantity.unit}",
            **ends,
        }
    return described


def metrics_json(design: Design) -> dict[str, dict[str, Any]]:
    """Every metric of the recipe by its name: meaning, unit, chance level and the side on which it is broken."""
    return {
        metric.name: {
            "meaning": metric.meaning,
            "unit": metric.unit,
            "chance": metric.chance_of(design.config),
            "has_before": metric.has_before,
            "broken": metric.broken,
        }
        for metric in design.recipe.metrics
    }
