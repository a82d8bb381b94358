"""The same question on a data set that needs no download, where the study's own cannot be had.

Only where nobody chose: on the laptop's profile, on a local Ray, and without a data set in the command.
"""

import argparse
import shlex
from typing import TYPE_CHECKING

from study.command_line import parse_overrides, ray_address
from study.config import ConfigError, DataUnavailable
from study.design import Design, load_space, make_design

if TYPE_CHECKING:
    from study.results.ledger import Ledger

FALLBACK = "digits"


def stand_in(options: argparse.Namespace, design: Design) -> Design | None:
    """The design that answers a command whose data set cannot be had; None where the command must fail."""
    is_chosen = options.dataset is not None or "data.name" in parse_overrides(options.overrides)
    if is_chosen or options.profile != "laptop" or ray_address(options) != "local":
        return None
    return _on_fallback(options, design)


def sentence(design: Design, missing: DataUnavailable) -> str:
    """What is said once where another data set stands in for that of ``design``."""
    return (
        f"{missing.trouble}: the same question is answered on {FALLBACK} instead; for "
        f"{design.config.data.name} {missing.remedy}"
    )


def earlier_answer(options: argparse.Namespace, design: Design, ledger: "Ledger") -> str | None:
    """The command that prints what stood in for ``design`` while its data set could not be had; None if nothing did."""
    dataset = design.config.data.name
    hashes = {row["study_hash"] for row in ledger.read("designs").to_pylist() if row["dataset_fallback"] == dataset}
    if not hashes:
        return None
    other = _on_fallback(options, design)
    if other is None or other.hash not in hashes:
        return None
    arguments = [design.study, "--dataset", FALLBACK]
    if design.variant != load_space(design.study).default_variant(FALLBACK):
        arguments += ["--variant", design.variant]
    for override in options.overrides:
        arguments += ["--set", override]
    return f"python -m study.sweep {shlex.join(arguments)}"


def _on_fallback(options: argparse.Namespace, design: Design) -> Design | None:
    """The same question on :data:`FALLBACK`, with the hash that it has when asked for by name."""
    if design.config.data.name == FALLBACK:
        return None
    try:
        return make_design(
            load_space(design.study),
            variant=design.variant,
            profile=options.profile,
            dataset=FALLBACK,
            overrides=parse_overrides(options.overrides),
        )
    except ConfigError:
        # The variant, or what was overridden, makes no sense there.
        return None
