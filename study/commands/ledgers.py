"""The ledgers that a command looks at: those of a storage, of one study or of all."""

import argparse
from collections.abc import Sequence

from study.commands.command_line import other_command
from study.designs.catalogue import find_studies
from study.errors import ConfigError, unknown_name_sentence
from study.ledger.ledger import Ledger
from study.ledger.store import Store, default_storage

Used = Sequence[tuple[str, Ledger]]


def used_ledgers(options: argparse.Namespace) -> Used:
    """The ledgers that hold a design, by study; :class:`ConfigError` where there is none, with how to start one."""
    storage = options.storage or default_storage()
    studies = find_studies()
    if options.study is not None and options.study not in studies:
        raise ConfigError(unknown_name_sentence("study", options.study, studies))
    ledgers = [(name, Ledger.open(storage, name)) for name in studies if options.study in (None, name)]
    used = [(name, ledger) for name, ledger in ledgers if ledger.names("designs")]
    if not used:
        start = other_command(options.program, "run")
        raise ConfigError(f"no study has run in {Store(storage).shown} yet: {start} NAME starts one")
    return used
