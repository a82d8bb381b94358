"""The same question on a data set that needs no download, where the study's own cannot be had.

Only where nobody chose: on the laptop's profile, on a local Ray, and without a data set in the command.
"""

import argparse
import shlex
from typing import TYPE_CHECKING

from study.commands.options import parse_overrides, ray_address
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.designs.design import Design
from study.errors import ConfigError, DataUnavailable

if TYPE_CHECKING:
    from study.ledger.ledger import Ledger


def stand_in(options: argparse.Namespace, design: Design) -> Design | None:
    """The design that answers a command whose data set cannot be had; None where the command must fail."""
    overrides = parse_overrides(design.recipe.config_class, options.overrides)
    is_chosen = options.dataset is not None or design.recipe.dataset_path in overrides
    if is_chosen or options.profile != "laptop" or ray_address(options) != "local":
        return None
    return _on_fallback(options, design)


def sentence(design: Design, missing: DataUnavailable) -> str:
    """What is said once where another data set stands in for that of ``design``."""
    return (
        f"{missing.trouble}: the same question is answered on {design.recipe.stand_in} instead; for "
        f"{design.dataset} {missing.remedy}"
    )


def earlier_answer(options: argparse.Namespace, design: Design, ledger: "Ledger") -> str | None:
    """The command that prints what stood in for ``design`` while its data set could not be had; None if nothing did."""
    rows = ledger.read("designs").to_pylist()
    hashes = {row["study_hash"] for row in rows if row["dataset_fallback"] == design.dataset}
    if not hashes:
        return None
    other = _on_fallback(options, design)
    if other is None or other.hash not in hashes:
        return None
    arguments = [design.study, "--dataset", other.dataset]
    if design.variant != load_space(design.study).default_variant(other.dataset):
        arguments += ["--variant", design.variant]
    for override in options.overrides:
        arguments += ["--set", override]
    return f"{options.program} {shlex.join(arguments)}"


def _on_fallback(options: argparse.Namespace, design: Design) -> Design | None:
    """The same question on the data set that needs no download, with the hash that it has when asked for by name."""
    if design.dataset == design.recipe.stand_in or not design.recipe.stand_in:
        return None
    try:
        return make_design(
            load_space(design.study),
            variant=design.variant,
            profile=options.profile,
            dataset=design.recipe.stand_in,
            overrides=parse_overrides(design.recipe.config_class, options.overrides),
        )
    except ConfigError:
        # The variant, or what was overridden, makes no sense there.
        return None
