"""Which search spaces there are, and how one is loaded."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from study.designs.space import SearchSpace
from study.errors import ConfigError, error_sentence, first_line, unknown_name_sentence
from study.layout import PACKAGE, spaces_folder


def find_studies() -> list[str]:
    """Names of all search spaces: the files of search_spaces/."""
    return sorted(
        path.stem for path in spaces_folder().glob("*.py") if path.stem.isidentifier() and path.stem[0] != "_"
    )


def load_space(name: str) -> SearchSpace:
    """The search space of a study.

    Raises :class:`ConfigError` for an unknown name, with the nearest one, and for a file that gives no search space.
    """
    studies = find_studies()
    if name not in studies:
        raise ConfigError(unknown_name_sentence("study", name, studies))
    file = f"search_spaces/{name}.py"
    try:
        space = _module(spaces_folder() / f"{name}.py").SPACE
    # Whatever a user's file does when it is run: the other studies do not depend on it.
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{file} cannot be used: {_cause(error, file)}") from error
    if not isinstance(space, SearchSpace):
        raise ConfigError(f"{file} cannot be used: its SPACE is no SearchSpace")
    if space.name != name:
        raise ConfigError(f"{file} cannot be used: it calls itself {space.name}, but a study has the name of its file")
    return space


def _module(path: Path) -> ModuleType:
    """The module of a file, run once. Workers need not find it: what they run has an address of its own."""
    is_inside = path.parent.parent == PACKAGE
    name = f"{'study.' if is_inside else ''}search_spaces.{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _cause(error: BaseException, file: str) -> str:
    """What went wrong in a file, and on which of its lines."""
    words = first_line(error) if isinstance(error, AssertionError) else error_sentence(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    if isinstance(error, SyntaxError):
        words = f"SyntaxError: {error.msg}"
        lines = [error.lineno] if str(error.filename).endswith(file) else lines
    return f"{words} (line {lines[-1]})" if lines else words
