"""Counts the assertions that tests execute: each is marked in the syntax tree before the tests are compiled.

Handed to the sandbox of the tests as text. An assertion is an assert statement, the call of a method named `assert...` or
`raises`, or a block under one, and counts when it has held. One that must not be reached (`assert False`,
`raise AssertionError`, `pytest.fail()`) counts when the block it stands in is begun, in a branch of `if`, `try`, `with` or
`match` when that statement is; and no more when it is reached. The marks' names begin with two underscores: no name of the
program's can take their place (see `stand_in` in assert_driver.py).
"""

import ast
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

count = {"there": 0, "reached": 0, "held": 0}
_BRANCHING = ast.If | ast.Try | ast.TryStar | ast.With | ast.AsyncWith | ast.Match
_own: set[str] = set()  # functions that the tests define: what they assert is marked inside


def reached() -> None:
    count["reached"] += 1


def held(more: int = 1) -> None:
    count["held"] += more


NAMES: dict[str, Callable[..., None]] = {"__reached__": reached, "__held__": held}


def compiled(source: str, name: str) -> CodeType:
    """The code of a source with its assertions marked; its lines stay where they are.

    Raises:
        SyntaxError: it is no Python.
    """
    tree = ast.parse(source, name)
    _own.update(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    _mark(tree)
    code: CodeType = compile(tree, name, "exec", dont_inherit=True)
    return code


def _mark(node: ast.AST, *, branch: bool = False) -> None:
    """Mark the blocks of a node. branch: what must not be reached in them is counted where the statement stands."""
    for name, block in ast.iter_fields(node):
        if not (
            isinstance(block, list) and block and isinstance(block[0], ast.stmt | ast.excepthandler | ast.match_case)
        ):
            continue
        below = branch or name == "orelse" or isinstance(node, _BRANCHING)
        for child in block:
            _mark(child, branch=isinstance(child, ast.excepthandler | ast.match_case))
        if isinstance(block[0], ast.stmt):
            setattr(node, name, list(_marked(block, branch=below, chained=_chains(node, name, block))))


def _chains(node: ast.AST, name: str, block: list[Any]) -> bool:
    """Whether a block is an `elif`."""
    return isinstance(node, ast.If) and name == "orelse" and len(block) == 1 and isinstance(block[0], ast.If)


def _marked(block: list[ast.stmt], *, branch: bool, chained: bool) -> Iterator[ast.stmt]:
    begins = not chained and any((not branch and _refuses(one)) or _refuses_below(one) for one in block)
    for number, one in enumerate(block):
        first = isinstance(one, ast.ImportFrom) or (number == 0 and _is_text(one))  # __future__ comes before all else
        if begins and not first:
            yield _call("__reached__", one)
            yield _call("__held__", one)
            begins = False
        if _refuses(one):
            yield _call("__held__", one, -1)
            yield one
        elif _asserts(one):
            yield _call("__reached__", one)
            yield one
            yield _call("__held__", one)
        else:
            yield one


def _refuses(node: ast.stmt) -> bool:
    """Whether it always fails."""
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and not node.test.value
    if isinstance(node, ast.Raise):
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "AssertionError"
    return isinstance(node, ast.Expr) and ast.unparse(node.value).startswith(("pytest.fail(", "self.fail("))


def _refuses_below(node: ast.AST) -> bool:
    """Whether a branch of a statement does, but no loop's body and no function's."""
    if isinstance(node, ast.For | ast.AsyncFor | ast.While):
        return any(_refuses(one) for one in node.orelse)
    if not isinstance(node, _BRANCHING | ast.excepthandler | ast.match_case):
        return False
    for name, block in ast.iter_fields(node):
        for one in block if isinstance(block, list) else ():
            deeper = isinstance(one, ast.excepthandler | ast.match_case) or _chains(node, name, block)
            if (deeper and _refuses_below(one)) or (isinstance(one, ast.stmt) and _refuses(one)):
                return True
    return False


def _asserts(node: ast.stmt) -> bool:
    if isinstance(node, ast.With | ast.AsyncWith):
        return any(_is_assertion(item.context_expr) for item in node.items)
    return isinstance(node, ast.Assert) or (isinstance(node, ast.Expr) and _is_assertion(node.value))


def _is_assertion(node: ast.expr) -> bool:
    name = _called(node)
    return name not in _own and (name == "raises" or (isinstance(node, ast.Call) and name.startswith("assert")))


def _called(node: ast.expr) -> str:
    """The last name of what is called; "" where nothing is."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", "") or getattr(function, "id", "")


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _call(name: str, before: ast.stmt, *args: Any) -> ast.stmt:
    count["there"] += 1
    call = ast.Call(ast.Name(name, ast.Load()), [ast.Constant(one) for one in args], [])
    return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), before))
