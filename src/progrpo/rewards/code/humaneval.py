"""HumanEval+ as published (evalplus/humanevalplus): inputs and results out of the source of a row's `test`.

That source is Python that asserts. It is never run beside a model's program: its values are read as literals, and
where they are not literals it is run by itself (see `gold_source`).
"""

import ast
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

RELATIVE_TOLERANCE = 1e-7
_ABSOLUTE_TOLERANCE = 1e-6
"""evalplus' own, for floats where a row gives 0."""


@dataclass(frozen=True, slots=True)
class PublishedTests:
    """What a test source says.

    Attributes:
        inputs: lists of arguments. results: one for each; None where the source has to be run to know.
        gold_source: the source with a function `gold()` that returns the pair (inputs, results).
    """

    inputs: list[Any]
    results: list[Any] | None
    absolute_tolerance: float
    gold_source: str


def has_inputs(source: str) -> bool:
    """Whether `check` assigns the inputs it tries; where not, it asserts call by call, as HumanEval itself does.

    Raises:
        SyntaxError: it is no Python.
    """
    check = _check(ast.parse(source))
    return check is None or any(_names_one(node) and node.targets[0].id == "inputs" for node in check.body)  # type: ignore[attr-defined]


def _check(tree: ast.Module) -> ast.FunctionDef | None:
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"), None)


@lru_cache(maxsize=16)
def read(source: str) -> PublishedTests:
    """Read `inputs` and `results` of the function `check`.

    Raises:
        ValueError, SyntaxError: no such function, or it assigns no inputs.
    """
    tree = ast.parse(source)
    check = _check(tree)
    if check is None:
        raise ValueError("the test source defines no check(candidate)")
    assigned = {node.targets[0].id: node.value for node in check.body if _names_one(node)}  # type: ignore[attr-defined]
    if "inputs" not in assigned:
        raise ValueError("check(candidate) assigns no inputs")
    gold = _gold_source(tree, check, has_results="results" in assigned)
    tolerance = _tolerance(check)
    try:
        return PublishedTests(
            ast.literal_eval(assigned["inputs"]), ast.literal_eval(assigned["results"]), tolerance, gold
        )
    except (ValueError, KeyError):
        return PublishedTests([], None, tolerance, gold)


def _names_one(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)


def _tolerance(check: ast.FunctionDef) -> float:
    """The third argument of `assertion(candidate(*inp), exp, 1e-06)`, if it is above 0."""
    for node in ast.walk(check):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "assertion":
            value = node.args[2] if len(node.args) > 2 else None
            if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value > 0:
                return float(value.value)
    return _ABSOLUTE_TOLERANCE


def _gold_source(tree: ast.Module, check: ast.FunctionDef, *, has_results: bool) -> str:
    """Without `check` itself, and without numpy, which the assertions need and the values do not."""
    kept = [node for node in tree.body if node is not check and not _imports_numpy(node)]
    assigned = [node for node in check.body if isinstance(node, ast.Assign)]
    results = "results" if has_results else "[ref_func(*copy.deepcopy(arguments)) for arguments in inputs]"
    gold = ast.parse(f"import copy\ndef gold():\n    return inputs, {results}")
    function = gold.body[1]
    assert isinstance(function, ast.FunctionDef)
    function.body[:0] = assigned
    return ast.unparse(ast.Module([*kept, *gold.body], []))


def _imports_numpy(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == "numpy"
    return isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "numpy" for alias in node.names)
