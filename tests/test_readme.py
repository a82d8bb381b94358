"""What the README says is what the code does."""

import re
from pathlib import Path

from study.results.schema import markdown_table

README = Path(__file__).resolve().parent.parent / "README.md"


def between(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert found is not None, f"README.md lacks the markers <!-- {name} --> and <!-- /{name} -->"
    return found[1].strip()


def test_the_table_of_columns_is_the_schema() -> None:
    assert between(README.read_text(), "columns") == markdown_table("replicates")
