"""Variations by file name: `methods/progrpo.py` *is* the method "progrpo"; nothing else has to be edited.

A dotted path ("mylab.methods.mine") or the path of a file ("./mine.py") admits code outside this tree on the same contract:
each package says in its `CONTRACT` what a variation may define, and `check_contract` holds all of them to it.
"""

import ast
import importlib
import importlib.util
import inspect
import math
import os
import pkgutil
import symtable
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import quote

from progrpo.errors import PluginError

PACKAGES = ("methods", "rewards", "tasks", "engines", "measures")

_SHARED = {"methods": {"step"}}
"""Modules of a package that others call and that are no variation."""

_TYPO = 0.8
"""From this likeness on (`difflib`) a name is taken for a mistyped one even where the module lists it in `__all__`."""


def names(package: str) -> list[str]:
    """List the variations of a package, sorted, without importing them."""
    folder = Path(__file__).parent / package
    modules = {module.name for module in pkgutil.iter_modules([str(folder)]) if not module.name.startswith("_")}
    return sorted(modules - _SHARED.get(package, set()))


def summaries(package: str) -> dict[str, str]:
    """Map each variation of a package to the first line of its docstring, read without importing it."""
    return {
        name: (ast.get_docstring(ast.parse(_file(package, name).read_text("utf-8"))) or "").split("\n")[0]
        for name in names(package)
    }


def _file(package: str, name: str) -> Path:
    """Where a variation stands: a module, or a folder of modules with its contract in `__init__.py`."""
    folder = Path(__file__).parent / package
    module = folder / name / "__init__.py"
    return module if module.exists() else folder / f"{name}.py"


def load(package: str, name: str) -> ModuleType:
    """Import the variation `name` of `package`, the module at a dotted path, or a file.

    A plain name that is none of the package's is that of a file `name.py` in the current folder, where there is one. A dotted
    path is looked for in the current folder after all other places: a `math.py` there does not hide Python's. A file is known
    by its absolute path: it is run once per process, as an import is, and finds no modules beside it that Python would not
    find anyway.

    Raises:
        PluginError: no such file or module; the message names the nearest one.
        ImportError: it exists and one of its own imports fails (never hidden as "unknown").
    """
    if package not in PACKAGES:
        raise PluginError(f"no package {package!r}; expected one of {', '.join(PACKAGES)}")
    if _is_file(name):
        return _load_file(package, name)
    if "." in name:
        return _load_dotted(package, name)
    if name not in names(package):
        if Path(f"{name}.py").is_file():
            return _load_file(package, f"{name}.py")
        hint = _hint(name, known := names(package))
        listed = f"progrpo list {package} names all" if "?" in hint else f"Expected one of: {', '.join(known)}"
        raise PluginError(f"{package}: unknown name {name!r}{hint} {listed}")
    return importlib.import_module(f"progrpo.{package}.{name}")


def of_another(package: str, chosen: str, *, kind: str) -> Callable[[str], str]:
    """What is to be said of a setting that a variation does not have: which others of the package have it, and how to leave it
    behind; "" where none has.

    Args:
        chosen: the name of the variation. kind: the section that chooses it ("method"), for the remedy.
    """

    def hint(key: str) -> str:
        params = {name: getattr(load(package, name), "Params", None) for name in names(package)}
        return _left_behind("setting", [name for name in params if key in _fields(params[name])], kind, chosen)

    return hint


def preset_of_another(package: str, chosen: str, preset: str, *, kind: str) -> str:
    """The same of a preset."""
    owners = [name for name in names(package) if preset in getattr(load(package, name), "PRESETS", {})]
    return _left_behind("preset", owners, kind, chosen)


def _fields(params: object) -> Collection[str]:
    fields: Collection[str] = getattr(params, "model_fields", {})
    return fields


def _left_behind(what: str, owners: list[str], kind: str, chosen: str) -> str:
    remedy = f"{kind}={chosen} replaces the whole section, and {kind}.name={chosen} keeps its other keys"
    return f"it is a {what} of {', '.join(owners)}: {remedy}" if owners else ""


def load_function(package: str, name: str) -> tuple[str, Callable[..., Any]] | None:
    """The function that "PLACE:FUNCTION" names, with its name alone; None for any other name.

    Args:
        name: PLACE is what `load` takes, or a module that is imported already (one of a test, or of a notebook's folder).

    Raises:
        PluginError, ImportError: see `load`; or there is no such function.
    """
    place, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        return None
    module = sys.modules[place] if place in sys.modules else load(package, place)
    attribute = getattr(module, function, None)
    if not callable(attribute):
        raise PluginError(f"{package}: {name!r}: {place} has no function {function!r}; expected MODULE:FUNCTION")
    return function, attribute


def label(name: str) -> str:
    """A name as it may stand in the name of a file: the last part of a dotted path, a file without folder and suffix."""
    _, colon, function = name.rpartition(":")
    if colon and function.isidentifier():
        return function
    return Path(name).stem if _is_file(name) else name.rpartition(".")[2]


def _is_file(name: str) -> bool:
    return "/" in name or "\\" in name or name.endswith(".py")


def _load_file(package: str, name: str) -> ModuleType:
    path = Path(name).expanduser().resolve()
    if not path.is_file() or path.suffix != ".py":
        raise PluginError(
            f"{package}: {name!r} is no Python file (looked for {path}); a path must be that of a .py file, a plain name "
            f"one of: {', '.join(names(package))}"
        )
    known = "file:" + quote(str(path.with_suffix(""))).replace(".", "%2E")  # a dot would be read as a package
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{package}: Python cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module  # before it runs: dataclasses, pydantic and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def _load_dotted(package: str, name: str) -> ModuleType:
    try:
        return _import(name)
    except ModuleNotFoundError as error:
        if not _is_missing(name, error):
            raise
        raise PluginError(
            f"{package}: no module {name!r} on the Python path (looked for {error.name!r}); "
            f"a dotted path must be importable, a plain name must be one of: {', '.join(names(package))}"
        ) from error


def _import(name: str) -> ModuleType:
    """Import a module, from the current folder where it is nowhere else; the folder then stays the last of the path, for what
    the module imports later."""
    here = os.getcwd()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not _is_missing(name, error) or {here, ""} & set(sys.path):
            raise
    sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        sys.path.remove(here)
        raise


def _is_missing(name: str, error: ModuleNotFoundError) -> bool:
    """Whether it is the module itself that was not found, or a package it stands in; not one that it imports."""
    return error.name is not None and (name == error.name or name.startswith(f"{error.name}."))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """What the modules of a package may define in public.

    Attributes:
        kind: one of them in a word ("reward"), for messages.
        names: each public name and what it is. A function is written as it is called, "score(text, problem[, params]) ->
            Verdict": it must take these arguments by position, and may do without those in brackets.
        required: of each tuple one name must be there.
        settings: what `Params` must be a subclass of.
    """

    kind: str
    names: Mapping[str, str]
    settings: type
    required: tuple[tuple[str, ...], ...] = ()

    def described(self, name: str) -> str:
        """A name with what it is."""
        return self.names[name] if self.is_function(name) else f"{name} ({self.names[name]})"

    def is_function(self, name: str) -> bool:
        return self.names[name].startswith(f"{name}(")


def check_contract(contract: Contract, name: str, module: ModuleType) -> None:
    """Refuse a module that does not keep its package's contract, before anything of it is used.

    Every public function, constant (UPPER_CASE) and settings class that the module defines itself must be in the contract.
    What it offers to others beyond that it lists in `__all__`; the rest begins with an underscore.

    Raises:
        PluginError: an unknown name (the nearest is given), a required one missing, a function that cannot be called as
            the contract says, or `Params` that are no settings.
    """
    where = f"{contract.kind} {name!r}"
    offered = getattr(module, "__all__", ())
    for defined in _defined_in(module):
        if (
            defined in contract.names
            or defined.startswith("_")
            or not _concerns(contract, defined, getattr(module, defined))
        ):
            continue
        meant = ["Params"] if isinstance(getattr(module, defined), type) else contract.names
        if defined not in offered or get_close_matches(defined, meant, cutoff=_TYPO):
            raise PluginError(
                f"{where}: unknown {_what(getattr(module, defined))} {defined!r}{_hint(defined, meant)} "
                f"{_article(contract.kind)} may define: {', '.join(contract.names)}. What is the module's own begins with an "
                "underscore or is listed in its __all__"
            )
    for choices in contract.required:
        if not any(hasattr(module, choice) for choice in choices):
            expected = " or ".join(contract.described(choice) for choice in choices)
            raise PluginError(f"{where}: {module.__name__} must define {expected}")
    _check_functions(contract, where, module)
    settings = getattr(module, "Params", contract.settings)
    if not isinstance(settings, type) or not issubclass(settings, contract.settings):
        package = ".".join(part for part in contract.settings.__module__.split(".") if not part.startswith("_"))
        base = f"{package}.{contract.settings.__qualname__}"
        raise PluginError(f"{where}: Params must be a subclass of {base}, got {settings!r:.80}")


def _check_functions(contract: Contract, where: str, module: ModuleType) -> None:
    for name, text in contract.names.items():
        if name == "Params" or not hasattr(module, name):
            continue
        value = getattr(module, name)
        if callable(value) != contract.is_function(name):
            raise PluginError(f"{where}: {name} is a {_what(value)}; expected {contract.described(name)}")
        called = text.partition(")")[0]
        most, least = called.count(",") + 1, called.partition("[")[0].count(",") + 1
        if callable(value) and not any(accepts(value, count) for count in range(least, most + 1)):
            raise PluginError(f"{where}: {name}{inspect.signature(value)} cannot be called as {called})")


def accepts(function: object, count: int) -> bool:
    """Whether a function can be called with so many positional arguments; True where it does not say."""
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def takes(function: object, name: str) -> bool:
    """Whether a function has a parameter of that name, so that it can be handed over as a keyword."""
    try:
        return name in inspect.signature(function).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def number(value: object) -> float | None:
    """The finite number that a Python, NumPy or torch scalar is; None for anything else."""
    plain = scalar(value)
    if not isinstance(plain, Real):
        return None
    try:
        number = float(plain)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def scalar(value: object) -> object:
    """A NumPy or torch scalar as Python's own; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _defined_in(module: ModuleType) -> list[str]:
    """The names a module binds itself, by anything but an import; all of its names where it has no source."""
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        return list(vars(module))
    symbols = symtable.symtable(source, module.__name__, "exec").get_symbols()
    return [symbol.get_name() for symbol in symbols if symbol.is_assigned() and symbol.get_name() in vars(module)]


def _concerns(contract: Contract, name: str, value: object) -> bool:
    """Whether a public name could be meant as part of the contract; helper classes, type aliases and loggers could not."""
    if isinstance(value, type):
        return issubclass(value, contract.settings) or bool(get_close_matches(name, ["Params"], cutoff=_TYPO))
    if isinstance(value, ModuleType | TypeVar):
        return False
    return name.isupper() or name.upper() in contract.names or (callable(value) and name[0].islower())


def _article(kind: str) -> str:
    return f"{'An' if kind[0] in 'aeiou' else 'A'} {kind}"


def _what(value: object) -> str:
    if isinstance(value, type):
        return "settings class"
    return "function" if callable(value) else "module" if isinstance(value, ModuleType) else "constant"


def _hint(name: str, known: Collection[str]) -> str:
    near = [name.upper()] if name.upper() in known else get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."
