"""Variations by file name: `methods/progrpo.py` *is* the method "progrpo"; nothing else has to be edited.

A dotted path ("mylab.methods.mine") admits code outside this tree on the same contract.
"""

import ast
import importlib
import pkgutil
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from progrpo.errors import PluginError

_SHARED = {"methods": {"step"}}
"""Modules of a package that others call and that are no variation."""

ROOMS = ("methods", "rewards", "tasks", "engines", "measures")


def names(room: str) -> list[str]:
    """List the variations of a room, sorted, without importing them."""
    folder = Path(__file__).parent / room
    found = {module.name for module in pkgutil.iter_modules([str(folder)]) if not module.name.startswith("_")}
    return sorted(found - _SHARED.get(room, set()))


def summaries(room: str) -> dict[str, str]:
    """Map each variation of a room to the first line of its docstring, read without importing it."""
    return {
        name: (ast.get_docstring(ast.parse(_file(room, name).read_text("utf-8"))) or "").split("\n")[0]
        for name in names(room)
    }


def _file(room: str, name: str) -> Path:
    """Where a variation stands: a module, or a folder of modules with its contract in `__init__.py`."""
    folder = Path(__file__).parent / room
    package = folder / name / "__init__.py"
    return package if package.exists() else folder / f"{name}.py"


def load(room: str, name: str) -> ModuleType:
    """Import the variation `name` of `room`, or the module at a dotted path.

    Raises:
        PluginError: no such file; the message names the nearest one.
        ImportError: the file exists and one of its own imports fails (never hidden as "unknown").
    """
    if room not in ROOMS:
        raise PluginError(f"no room {room!r}; expected one of {', '.join(ROOMS)}")
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            raise PluginError(
                f"{room}: no module {name!r} on the Python path (looked for {error.name!r}); "
                f"a dotted path must be importable, a plain name must be one of: {', '.join(names(room))}"
            ) from error
    if name not in names(room):
        near = get_close_matches(name, names(room), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise PluginError(f"{room}: unknown name {name!r}{hint} Expected one of: {', '.join(names(room))}")
    return importlib.import_module(f"progrpo.{room}.{name}")
