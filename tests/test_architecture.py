"""Imports run one way: this table says which, and every file is read for it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("study", "search_spaces")

# What a room may import outside the standard library, at the top of its files or inside their functions; rooms are in
# the order in which they stand on each other. The longest matching name on the left decides; a name on the right stands
# for everything below it, and every room may import itself and what is common to all.
COMMON = frozenset({"study.errors", "study.formatting", "study.layout", "study.outcome"})
ROOMS: dict[str, frozenset[str]] = {
    name: frozenset(allowed.split())
    for name, allowed in {
        "study": "",
        "study.inference": "numpy scipy",
        "study.interface": "pandas study.designs.values study.designs.criterion study.inference.threshold",
        "study.designs": "study.interface",
        "study.designs.values": "",
        "study.designs.criterion": "",
        "study.rows": "study.designs.criterion study.interface",
        "study.planning": "study.designs study.interface study.rows study.inference",
        "study.planning.tuning": "optuna study.designs",
        "study.planning.optuna_sampler": "optuna numpy study.inference",
        "study.ledger": "pyarrow study.designs study.interface study.rows",
        "study.tracking": "mlflow study.designs study.interface study.rows study.ledger",
        "study.answers": "numpy pandas matplotlib study.designs study.interface study.rows study.inference "
        "study.ledger",
        "study.execution": "ray joblib psutil rich torch study.designs study.interface study.rows study.planning "
        "study.ledger study.tracking",
        "study.testing": "pytest study.designs study.interface",
        "study.commands": "study click joblib packaging",
        "study.__main__": "study click",
        "study.sweep": "study",
        "study.recipes": "",
        "study.recipes.contrastive": "numpy pandas scipy torch torchvision sklearn study.designs.values "
        "study.designs.criterion study.interface study.rows",
        "study.recipes.contrastive.laws": "numpy scipy study.interface study.commands.streams "
        "study.recipes.contrastive.components",
        "search_spaces": "study.designs study.interface study.recipes",
    }.items()
}
# Libraries that only the named modules may import, whatever else the table says.
ONLY = {
    "ray": {"study.execution.on_ray", "study.execution.ray_start"},
    "mlflow": {"study.tracking.mlflow_runs"},
    "torch.distributed": {"study.recipes.contrastive.distributed"},
    "optuna": {"study.planning.tuning", "study.planning.optuna_sampler"},
    "rich": {"study.execution.progress"},
    "matplotlib": {"study.answers.figures", "study.answers.plane_figures"},
}
# Words of the built-in recipe that the platform must not know, and where one stands all the same.
RECIPE_WORDS = ("clusters", "supervised", "oar", "fashion", "fashion_mnist", "transfusion")
RECIPE_METRICS = ("p", "s_j")
EXCEPTIONS = {"study.ledger.names_on_disk": "old ledgers do not name their recipe: there was one"}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(source: str, *, for_types: bool = True) -> Iterator[str]:
    """Every imported module; ``from a import b`` counts as a.b where that is a module of this project, else as a.

    With ``for_types=False`` without those that are imported for an annotation alone.
    """
    tree = ast.parse(source)
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    unloaded = set() if for_types else {id(inner) for block in blocks for inner in ast.walk(block)}
    for node in (node for node in ast.walk(tree) if id(node) not in unloaded):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES or full in ONLY else node.module


def is_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def room_of(module: str) -> str:
    return max((name for name in ROOMS if is_below(module, name)), key=len)


def violations(module: str, source: str) -> list[str]:
    """Imports of a module that the table does not allow."""
    found, room = [], room_of(module)
    for name in imports(source):
        if name.split(".")[0] in sys.stdlib_module_names:
            continue
        keepers = [users for library, users in ONLY.items() if is_below(name, library)]
        allowed = {*ROOMS[room], *COMMON, room}
        if not any(is_below(name, ok) for ok in allowed) or any(module not in users for users in keepers):
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    assert violations(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("study.designs.space", "import numpy"),
        ("study.designs.space", "from study.planning import rounds"),
        ("study.planning.planner", "import ray"),
        ("study.planning.planner", "from study.ledger.ledger import Ledger"),
        ("study.recipes.contrastive.trainers.loop", "def f():\n    import torch.distributed as dist"),
        ("study.recipes.contrastive.trainers.loop", "from torch import distributed"),
        ("study.recipes.contrastive.trainers.loop", "from study.execution.tasks import PackTask"),
        ("study.ledger.ledger", "import torch"),
        ("study.ledger.ledger", "import mlflow"),
        ("study.ledger.ledger", "from study.answers.answer import answer"),
        ("study.sweep", "import ray.tune"),
        ("study.answers.report", "import study.execution.tasks"),
        ("study.answers.frames", "if True:\n    import torch"),
        ("study.answers.report", "from study.recipes.contrastive.config import ReplicateConfig"),
        ("study.execution.tasks", "import study.recipes.contrastive.run"),
        ("search_spaces.smoke", "from study.ledger.ledger import Ledger"),
    ],
)
def test_the_table_notices(module: str, source: str) -> None:
    assert violations(module, source)


def test_no_layer_imports_the_layer_that_uses_it() -> None:
    """Modules form no cycle."""
    graph = {
        m: {n for n in imports(path.read_text(), for_types=False) if n in MODULES} - {m} for m, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("study.answers.report", {"torch", "ray", "mlflow", "optuna", "matplotlib"}),
        ("study.answers.report_files", {"torch", "ray", "mlflow", "optuna", "matplotlib"}),
        ("study.ledger.ledger", {"torch", "ray", "mlflow", "matplotlib"}),
        ("study.inference.threshold", {"torch", "ray", "matplotlib", "pandas"}),
        ("study.planning.planner", {"torch", "ray", "matplotlib"}),
        ("study.designs.assembly", {"torch", "ray", "numpy", "pyarrow"}),
        ("study.recipes.contrastive.recipe", {"torch", "ray", "numpy", "pyarrow", "scipy"}),
        ("study.execution.queue", {"torch", "ray", "mlflow", "matplotlib"}),
    ],
)
def test_importing_a_module_loads_no_library_of_another_layer(module: str, unwanted: set[str]) -> None:
    assert loaded_by(f"import {module}").isdisjoint(unwanted)


def test_the_command_line_answers_without_loading_what_trains() -> None:
    loaded = loaded_by("from study.sweep import main; main(['batch_limit', '--dry-run'])")
    assert loaded.isdisjoint({"torch", "ray", "mlflow"})


def test_no_file_imports_everything_from_another() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != "*" for alias in node.names), module


PLATFORM = [module for module in MODULES if is_below(module, "study") and not is_below(module, "study.recipes")]


@pytest.mark.parametrize("module", PLATFORM)
def test_the_platform_knows_no_recipe(module: str) -> None:
    """Neither by an import, nor by a word of its code: prose may say what a thing is called elsewhere."""
    source = MODULES[module].read_text()
    assert not any(is_below(name, "study.recipes") for name in imports(source))
    if module in EXCEPTIONS:
        return
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
    texts = [text for text in strings if isinstance(text, str)]
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    names += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    words = {word.lower() for text in (*texts, *names) for word in re.findall(r"[A-Za-z_]+", text)}
    assert words.isdisjoint(RECIPE_WORDS)
    assert {*texts}.isdisjoint(RECIPE_METRICS)


@pytest.mark.parametrize("module", [module for module in MODULES if is_below(module, "study")])
def test_no_file_is_longer_than_350_lines(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 350


@pytest.mark.parametrize("name", ["question", "seek", "tune", "fit", "load"])
def test_no_module_takes_a_name_of_the_public_face(name: str) -> None:
    """A submodule would replace the function of its name."""
    assert f"study.{name}" not in MODULES


@pytest.mark.parametrize("room", sorted({module.rpartition(".")[0] for module in MODULES if "." in module}))
def test_every_room_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[room].read_text()))
