"""The README is a landing page: short, and its answer is the one of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
MAX_BYTES = 10_000


def answer_in(path: Path) -> str:
    found = re.search(r"<!-- answer -->\n(.*?)<!-- /answer -->", path.read_text(), re.DOTALL)
    assert found is not None, f"{path.name} lacks the markers <!-- answer --> and <!-- /answer -->"
    return found[1]


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.read_bytes()) <= MAX_BYTES


def test_its_answer_is_that_of_the_page_of_answers() -> None:
    assert "minimum batch" in answer_in(README)
    assert answer_in(README) == answer_in(ROOT / "docs" / "explanation" / "answers.md")


def test_it_leads_to_every_part_of_the_documentation() -> None:
    text = README.read_text()
    for part in ("tutorial", "how-to", "reference", "explanation", "glossary"):
        assert f"](docs/{part}" in text, part
