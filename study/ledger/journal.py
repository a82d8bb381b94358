"""The journal of a ledger: numbered entries that say in which order a study came about.

Tables hold what was measured, the journal what was decided and what counted: which design was registered, what was
proposed and upon which knowledge, which results were accepted, which were set aside, what was tried again and what was
forgotten. Workers write files of their own; the driver *adopts* them, so that settled results have one order. A ledger
without a journal, or with files that nobody adopted, is read as it is: its files are adopted by the next driver, in the
order of their times.

An entry is a file ``journal/NUMBER.json``, written once and never changed. One file may stand for many: it is called by
the range of numbers, ``FIRST-LAST.json``, and lists their entries, whether or not they are still there.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from study.ledger.store import Store

_FOLDER, _SUFFIX = "journal", ".json"
_NAME = re.compile(r"(\d+)(?:-(\d+))?\.json")


class Kind(StrEnum):
    """What an entry is about."""

    DESIGN = "design"
    PROPOSAL = "proposal"
    ACCEPTED = "result accepted"
    SET_ASIDE = "result set aside"
    RETRY = "retry"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry: ``file`` is what it adopts, such as ``replicates/NAME.parquet``, ``details`` what its kind adds."""

    number: int
    kind: Kind
    file: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Reads and appends; entries that were read once are not read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[int, Entry] = {}
        self._next: int | None = None

    def entries(self) -> list[Entry]:
        """All entries, in order; one that cannot be read is as good as none, for what it adopts is adopted again."""
        for name, numbers in self._files():
            if not all(number in self._entries for number in numbers):
                self._entries |= {entry.number: entry for entry in self._load(name)}
        return [self._entries[number] for number in sorted(self._entries)]

    @property
    def last(self) -> int:
        """The number of the last entry, 0 where there is none."""
        return max((numbers[-1] for _, numbers in self._files()), default=0)

    def append(self, kind: Kind, file: str = "", **details: Any) -> Entry:
        """Write the next entry; another driver of this ledger may have taken its number."""
        # Listed once: an old ledger's thousands of files are adopted one after the other.
        number = self.last + 1 if self._next is None else self._next
        while True:
            entry = Entry(number=number, kind=kind, file=file, details=details)
            text = {"number": number, "kind": kind, "file": file, "at": datetime.now(UTC).isoformat(), **details}
            if self._store.write_new(_path(number), json.dumps(text, sort_keys=True).encode()):
                self._entries[number] = entry
                self._next = number + 1
                return entry
            number += 1

    def not_adopted(self, files: Iterable[str]) -> list[str]:
        """Those of the files that no entry adopts."""
        adopted = {entry.file for entry in self.entries()}
        return [file for file in files if file not in adopted]

    def _files(self) -> list[tuple[str, range]]:
        """The files of the journal with the numbers that they are called by."""
        found = [(name, _NAME.fullmatch(name)) for name in self._store.names(_FOLDER, _SUFFIX)]
        numbered = [(name, range(int(m[1]), int(m[2] or m[1]) + 1)) for name, m in found if m]
        return [(name, numbers) for name, numbers in numbered if numbers]

    def _load(self, name: str) -> list[Entry]:
        """The entries of a file, none where it cannot be read."""
        try:
            parsed = json.loads(self._store.read(f"{_FOLDER}/{name}") or b"")
            return [_entry(dict(text)) for text in (parsed if isinstance(parsed, list) else [parsed])]
        except (ValueError, KeyError, TypeError, OverflowError):
            return []


def _entry(text: dict[str, Any]) -> Entry:
    number, kind, file = (text.pop(name) for name in ("number", "kind", "file"))
    entry = Entry(number=int(number), kind=Kind(kind), file=file, details=text)
    if entry.kind is Kind.ACCEPTED and not isinstance(text["keys"], list):
        raise TypeError(f"the keys of entry {number} are no list")
    return entry


def settled_order(entries: Sequence[Entry]) -> list[str]:
    """The keys of accepted results, in the order in which they settled."""
    keys = (key for entry in entries if entry.kind is Kind.ACCEPTED for key in entry.details["keys"])
    return list(dict.fromkeys(keys))


def _path(number: int) -> str:
    return f"{_FOLDER}/{number:08d}{_SUFFIX}"
