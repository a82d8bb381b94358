"""Settings of the documentation, and the pages that are generated from the code when it is built.

Nothing here starts Ray or trains: modules are imported for their docstrings, parsers and configuration alone.
"""

import contextlib
import io
import os
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from study.__main__ import main  # noqa: E402
from study.commands.command_line import PROGRAM, SUMMARIES  # noqa: E402
from study.designs.values import field_types, flatten  # noqa: E402
from study.interface.recipe import find_recipe  # noqa: E402

# Every module that the documentation names for its generated pages, and nowhere else: what moves is changed here.
API = {
    "study.interface.recipe": "What a recipe is",
    "study.interface.metrics": "Metrics and quantities",
    "study.interface.run": "Runs of a recipe",
    "study.interface.theory": "Theory of a recipe",
    "study.interface.readings": "Further readings of a recipe",
    "study.testing.contract": "The contract of a recipe, as tests",
    "study.testing.toy": "The smallest recipe",
    "study.designs.space": "Search spaces",
    "study.designs.axis": "Axes",
    "study.designs.criterion": "Criteria",
    "study.designs.design": "Designs",
    "study.planning.proposals": "Proposals",
    "study.planning.optuna_sampler": "Optuna sampler",
    "study.ledger.ledger": "The ledger",
    "study.ledger.schema": "Columns of the ledger",
    "study.ledger.journal": "The journal of a ledger",
    "study.ledger.names_on_disk": "Words on disk",
    "study.ledger.store": "Storage",
    "study.answers.registered": "Registered designs",
    "study.answers.frames": "The ledger in pandas",
    "study.answers.answer": "The answer of a study",
    "study.answers.report": "The printed answer",
    "study.inference.threshold": "Fit of a threshold",
    "study.inference.statements": "Statements about a threshold",
    "study.inference.verdict": "Verdicts",
    "study.recipes.contrastive.config": "Configuration of a contrastive replicate",
    "study.recipes.contrastive.laws": "Laws",
    "study.recipes.contrastive.laws.law": "What a law is",
}
# The recipe whose configuration paths have a page.
RECIPE = "study.recipes.contrastive.recipe:CONTRASTIVE"

project = "Limit Study"
author = copyright = "The Limit Study developers"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"Limit Study {release}"
# Titles of pages reach deep in theory.md; links within a page are those of the hosting site.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_fence_as_directive = ["math"]
myst_dmath_double_inline = True
# Links, anchors and toctrees are all checked; types in signatures are not: those of other libraries have no page here.
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_typehints_format = "fully-qualified"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}

# Pages of the repository's root that are part of the documentation: title in the navigation by file.
ROOT_PAGES = {"LOG.md": "log", "CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"}


def write(path: str, text: str) -> None:
    """Write a generated page, unless it holds the same text: an unchanged page is not read again."""
    place = HERE / "_generated" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_file() or place.read_text() != text:
        place.write_text(text)


def help_of(arguments: Sequence[str]) -> str:
    """What the command prints for ``--help``."""
    output = io.StringIO()
    # The parser of the laws asks how wide a terminal is.
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return output.getvalue()


def command_pages() -> None:
    lines = ["# Options of all commands", "", "As `--help` prints them.", ""]
    for arguments in ((), *((name,) for name in SUMMARIES)):
        title = " ".join((PROGRAM, *arguments))
        lines += [f"## `{title}`", "", "```text", help_of(arguments).rstrip(), "```", ""]
    write("options.md", "\n".join(lines))


def configuration_page() -> None:
    """Every path that ``--set`` and search spaces of the built-in recipe may name, with type and default."""
    recipe = find_recipe(RECIPE)
    defaults = flatten(recipe.config_class())
    lines = [
        "# Configuration paths",
        "",
        "What `--set PATH=VALUE` and search spaces of contrastive training may name.",
        "",
    ]
    lines += ["| path | takes | default |", "|---|---|---|"]
    for path, hint in field_types(recipe.config_class).items():
        default = defaults[path]
        shown = str(default).lower() if isinstance(default, bool) else f"{default}"
        lines.append(f"| `{path}` | {takes(hint)} | `{shown}` |")
    write("configuration.md", "\n".join([*lines, ""]))


def takes(hint: Any) -> str:
    """The type of a configuration value in words."""
    choices = getattr(hint, "__args__", None)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}[hint]


def api_pages() -> None:
    for module, title in API.items():
        fence = f"```{{eval-rst}}\n.. automodule:: {module}\n```"
        write(f"api/{module}.md", f"# {title}: `{module}`\n\n{fence}\n")
    entries = "\n".join(f"{title} <{module}>" for module, title in API.items())
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```"
    intro = "From the docstrings. The Python interface is [provisional](../../reference/stability.md) until 1.0."
    write("api/index.md", f"# Python interface\n\n{intro}\n\n{toctree}\n")


def root_pages() -> None:
    """Copies of the root's pages, their links as seen from here."""
    for name, page in ROOT_PAGES.items():
        text = re.sub(r"\]\(docs/", "](../", (ROOT / name).read_text())
        write(f"{page}.md", relinked(text, ""))


def relinked(text: str, to_generated: str) -> str:
    """Links to the root's pages lead to their copies."""
    for name, page in ROOT_PAGES.items():
        text = re.sub(rf"\]\((?:\.\./)*{re.escape(name)}(#[^)]*)?\)", rf"]({to_generated}{page}.md\1)", text)
    return text


def relink(_: Any, docname: str, source: list[str]) -> None:
    if not docname.startswith("_generated/"):
        source[0] = relinked(source[0], "../" * docname.count("/") + "_generated/")


def as_plain_text(_: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Keep docstrings of plain text from being read as markup: formulas with bars and stars, and indented examples."""
    text = "\n".join(lines)
    # An indented block below an empty line is printed as it is.
    text = re.sub(r"(?<=\S)\n\n(?=    \S)(?<!::\n\n)", "\n\n::\n\n", text)
    lines[:] = [
        line if line.startswith("    ") else "".join(map(escaped, re.split(r"(``.+?``)", line)))
        for line in text.split("\n")
    ]


def escaped(text: str) -> str:
    return text if text.startswith("``") else re.sub(r"([|*])", r"\\\1", text)


def generate(_: Any) -> None:
    command_pages()
    configuration_page()
    api_pages()
    root_pages()


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", generate)
    app.connect("source-read", relink)
    # Before napoleon, which writes markup.
    app.connect("autodoc-process-docstring", as_plain_text, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
