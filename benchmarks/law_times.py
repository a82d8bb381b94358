"""How long does a law take for one prediction? The first (nothing cached) and the median of twenty more settings.

    python benchmarks/law_times.py

A prediction is ``Law.predict`` of a setting; every further one has another number of dimensions or classes, so that no
cache answers for it.
"""

import dataclasses
import statistics
import time

from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.law import Setting

STACK = Setting(dim=64, num_classes=5, cosine=-0.25, batch=50, num_blocks=5)
ONE = dataclasses.replace(STACK, cosine=0.0, num_blocks=1)
SETTINGS = {
    "one_block_closed": ONE,
    "one_block": ONE,
    "one_block_jsd": ONE,
    "extreme_value": ONE,
    "state_evolution": STACK,
    "state_evolution_batch": dataclasses.replace(STACK, sigma=2.2),
    "depth": Setting(dim=256, num_classes=5, sigma=0.5, batch=100),
    "trained": dataclasses.replace(ONE, weights="trained"),
    "trained_plus": dataclasses.replace(ONE, num_blocks=2, weights="trained"),
    "n2t": Setting(dim=128, num_classes=5, sigma=3.5, num_blocks=1, steps=48),
}
NUM_REPEATS = 20


def seconds(name: str, setting: Setting) -> float:
    start = time.perf_counter()
    LAWS[name].predict(setting)
    return time.perf_counter() - start


def main() -> None:
    """Print a Markdown table."""
    print("| law | first | median of the next |")
    print("|---|---|---|")
    for name, setting in SETTINGS.items():
        first = seconds(name, setting)
        repeats = 3 if name.startswith("trained") else NUM_REPEATS
        field = "batch" if name.startswith("trained") else "dim"
        later = [
            seconds(name, dataclasses.replace(setting, **{field: getattr(setting, field) + 5 * (i + 1)}))
            for i in range(repeats)
        ]
        print(f"| `{name}` | {1e3 * first:.2g} ms | {1e3 * statistics.median(later):.2g} ms |")


if __name__ == "__main__":
    main()
