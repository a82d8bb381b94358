"""No plan moves: what was trained is found again by its key, and designs keep their hash."""

import json
from typing import Any

import pytest

from tests.goldens.plans import KEYS_FILE, WRITTEN_OUT, keys

GOLDEN: dict[str, dict[str, Any]] = json.loads(KEYS_FILE.read_text())


@pytest.fixture(scope="module")
def today() -> dict[str, Any]:
    return json.loads(json.dumps(keys()))


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_keys_of_every_trainer_are_those_on_record(today: dict[str, Any], name: str) -> None:
    assert today["written_out"][name] == GOLDEN["written_out"][name]


def test_hashes_sizes_and_keys_of_every_design_on_record_are_what_they_were(today: dict[str, Any]) -> None:
    """Studies, variants and data sets may be added; what is on record must still be there."""
    moved = {
        name: (values, today["combinations"].get(name))
        for name, values in GOLDEN["combinations"].items()
        if today["combinations"].get(name) != values
    }
    assert not moved


def test_no_default_moves_as_keys_leave_defaults_out(today: dict[str, Any]) -> None:
    assert {path: today["defaults"].get(path) for path in GOLDEN["defaults"]} == GOLDEN["defaults"]
