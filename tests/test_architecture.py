"""Imports run one way: this table says which, and every file is read for it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("study", "search_spaces", "analysis")

# Imports outside the standard library that a module may make, at its top or inside a function. The longest matching
# name on the left decides; a name on the right stands for everything below it.
ALLOWED: dict[str, frozenset[str]] = {
    name: frozenset(allowed.split())
    for name, allowed in {
        "study": "",
        "study.addresses": "",
        "study.config": "",
        "study.outcome": "",
        "study.paper": "study.config",
        "study.provenance": "",
        "study.words": "",
        "study.metrics": "study.config",
        "study.space": "study.config study.words",
        "study.design": "study.config study.space study.metrics",
        "search_spaces": "study.space study.config",
        "study.limits": "numpy scipy study.limits",
        "study.limits.__main__": "study.limits study.command_line",
        "study.inference": "numpy scipy study.inference study.space study.words",
        "study.affinity": "torch",
        "study.tiling": "torch study.affinity",
        "study.losses": "torch study.affinity study.tiling study.losses",
        "study.models": "torch study.affinity study.tiling study.models",
        "study.models.encoders": "torch torchvision.models study.config study.models",
        "study.data": "numpy torch torchvision sklearn.datasets study.config study.data",
        "study.evaluation": "torch sklearn.linear_model study.affinity study.losses",
        "study.trainers": "torch study.config study.outcome study.affinity study.losses study.models study.data "
        "study.evaluation study.trainers",
        "study.distributed": "torch study.trainers.loop",
        "study.results": "study.addresses study.config study.metrics study.outcome study.space study.words "
        "study.results pyarrow pandas",
        "study.results.tracking": "study.addresses study.config study.outcome study.space study.results mlflow",
        "study.results.__main__": "study.addresses study.config study.design study.space study.words study.results "
        "study.command_line analysis.answer",
        "study.packing": "study.config",
        "study.tuning": "study.config study.design study.space optuna",
        "study.limit_seeking": "study.config study.design study.space study.inference study.words",
        "study.searcher": "study.config study.outcome study.design study.space study.tuning study.limit_seeking",
        "study.optuna_sampler": "study.inference optuna numpy",
        "study.tasks": "torch study.addresses study.config study.outcome study.packing study.provenance study.data "
        "study.trainers study.results.identities study.results.ledger study.results.schema study.results.store",
        "study.workers": "torch study.config study.outcome study.tasks",
        "study.sweep_state": "study.config study.outcome study.packing study.design study.limit_seeking "
        "study.searcher study.tasks study.results.ledger",
        "study.scratch": "study.config",
        "study.doors": "study.addresses study.config",
        "study.interrupts": "",
        "study.ray_start": "ray joblib psutil study.config",
        "study.executors": "ray study.config study.outcome study.packing study.ray_start study.scratch "
        "study.sweep_state study.tasks study.workers study.distributed",
        "study.prepare": "study.command_line study.config study.design study.provenance study.data study.results "
        "study.searcher study.tasks study.trainers.batch study.trainers.loop",
        "study.session": "study.config study.interrupts study.outcome study.progress study.prepare study.sweep_state "
        "study.executors study.ray_start study.scratch study.results study.words",
        "study.progress": "rich study.searcher study.sweep_state study.words",
        "study.command_line": "study.config study.packing study.space study.design study.words",
        "study.fallback": "study.config study.design study.command_line study.results.ledger",
        "study.sweep": "study analysis.answer analysis.fits analysis.report analysis.report_files",
        "study.train": "study",
        "analysis": "numpy pandas matplotlib analysis study.results study.space study.config study.outcome "
        "study.inference study.limits study.words",
    }.items()
}
# Libraries that only the named modules may import, whatever else the table says.
ONLY = {
    "ray": {"study.executors", "study.ray_start"},
    "mlflow": {"study.results.tracking"},
    "torch.distributed": {"study.distributed"},
    "optuna": {"study.tuning", "study.optuna_sampler"},
    "rich": {"study.progress"},
    "matplotlib": {"analysis.figures"},
}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(source: str) -> Iterator[str]:
    """Every imported module; ``from a import b`` counts as a.b where that is a module of this project, else as a."""
    for node in ast.walk(ast.parse(source)):
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


def allowed_for(module: str) -> frozenset[str]:
    return ALLOWED[max((name for name in ALLOWED if is_below(module, name)), key=len)]


def violations(module: str, source: str) -> list[str]:
    """Imports of a module that the table does not allow."""
    found = []
    for name in imports(source):
        if name.split(".")[0] in sys.stdlib_module_names:
            continue
        keepers = [users for library, users in ONLY.items() if is_below(name, library)]
        if not any(is_below(name, ok) for ok in allowed_for(module)) or any(module not in users for users in keepers):
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    assert violations(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("study.config", "import numpy"),
        ("study.space", "from study import searcher"),
        ("study.searcher", "import ray"),
        ("study.trainers.loop", "def f():\n    import torch.distributed as dist"),
        ("study.trainers.loop", "from torch import distributed"),
        ("study.trainers.loop", "from study.inference.threshold import fit_curve"),
        ("study.results.ledger", "import torch"),
        ("study.results.ledger", "import mlflow"),
        ("study.sweep", "import ray.tune"),
        ("analysis.report", "import study.trainers"),
        ("analysis.frames", "if True:\n    import torch"),
        ("search_spaces.smoke", "from study.results.ledger import Ledger"),
    ],
)
def test_the_table_notices(module: str, source: str) -> None:
    assert violations(module, source)


def test_no_layer_imports_the_layer_that_uses_it() -> None:
    """Modules form no cycle."""
    graph = {m: {n for n in imports(path.read_text()) if n in MODULES and n != m} for m, path in MODULES.items()}
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
        ("analysis.report", {"torch", "ray", "mlflow", "optuna", "matplotlib"}),
        ("analysis.report_files", {"torch", "ray", "mlflow", "optuna", "matplotlib"}),
        ("study.results.ledger", {"torch", "ray", "mlflow", "matplotlib"}),
        ("study.inference.threshold", {"torch", "ray", "matplotlib", "pandas"}),
        ("study.searcher", {"torch", "ray", "matplotlib"}),
        ("study.design", {"torch", "ray", "numpy", "pyarrow"}),
        ("study.sweep_state", {"ray", "mlflow", "matplotlib"}),
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
