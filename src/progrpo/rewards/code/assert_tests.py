"""Tests that assert: lists of assert statements (MBPP, open-instruct) and pytest files (KodCode), read but not run here.

They are Python, so their expected values cannot be taken out of them; `assert_run.py` runs them apart from the program.
"""

import ast
import builtins
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

PROGRAM = ("solution", "main", "your_module", "your_solution", "submission", "candidate")
"""Modules by whose name tests import the program."""
_AS_SCRIPT = ("__name__ == '__main__'", "'__main__' == __name__")
_FIXTURES = frozenset({"request"})


@dataclass(frozen=True, slots=True)
class Asserts:
    """Python that asserts.

    Attributes:
        parts: sources that are run one after the other in one namespace; each assert statement of a list is one. Functions
            and classes of tests are run as soon as their part has defined them.
        names: what they use and do not define: the program's. modules: of the standard library, used but not imported.
    """

    parts: tuple[str, ...]
    names: tuple[str, ...]
    modules: tuple[str, ...]


@lru_cache(maxsize=64)
def read(parts: tuple[str, ...]) -> Asserts:
    """Read sources of tests.

    Raises:
        ValueError, SyntaxError: they are no Python, assert nothing but under `if __name__ == "__main__"`, or want a fixture of
            pytest's that is not given. What is not run for another reason is seen when the tests are (`assert_marks.py`).
    """
    trees = [ast.parse(part) for part in parts]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    if not any(isinstance(node, ast.Assert) or _is_test(node) for tree in trees for node in _imported(tree)):
        raise ValueError("no assert and no test function in it that runs when it is imported")
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    fixtures = {node.name for node in functions if any("fixture" in ast.unparse(one) for one in node.decorator_list)}
    for node in functions:
        if _is_test(node) and (missing := _wanted(node) - fixtures - _FIXTURES):
            raise ValueError(f"{node.name} wants the fixture {min(missing)}, which is not given here")
    free = _free_names(trees)
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    modules = {name for name in free - called if name in sys.stdlib_module_names}
    return Asserts(parts, tuple(sorted(free - modules)), tuple(sorted(modules)))


def is_source(text: str) -> bool:
    """Whether a text is Python with an assert or a test function in it, and not JSON or a literal."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Assert) or _is_test(node) for node in ast.walk(tree))


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _imported(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that run only where the tests are started as a script: they are imported here, as by pytest."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in _AS_SCRIPT:
            yield from (one for other in child.orelse for one in ast.walk(other))
        else:
            yield child
            yield from _imported(child)


def _wanted(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Arguments without a default that no `parametrize` gives."""
    arguments = [one.arg for one in function.args.args][: len(function.args.args) - len(function.args.defaults)]
    supplied = {"self", "cls"}
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and "parametrize" in ast.unparse(decorator.func) and decorator.args:
            supplied |= set(_texts(decorator.args[0]))
    return set(arguments) - supplied


def _texts(node: ast.expr) -> Iterator[str]:
    """The names in `parametrize`'s first argument: "a, b", or a list of them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from (name.strip() for name in node.value.split(","))
    elif isinstance(node, ast.List | ast.Tuple):
        for item in node.elts:
            yield from _texts(item)


def _free_names(trees: Sequence[ast.Module]) -> set[str]:
    """Names that are read and nowhere bound, in any scope; builtins and pytest are bound."""
    used: set[str] = set()
    bound = {*dir(builtins), "__name__", "__file__", "__doc__", "pytest"}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return used - bound
