"""What tests need of pytest, where pytest itself is not: the sandbox shows programs the standard library alone.

Handed to the sandbox as text, as a module named pytest. Known: raises, approx, fail, skip, param, fixture (by name, with
yield), mark.parametrize, mark.skip, mark.skipif, mark.xfail (skipped); other marks mean nothing. Test functions, classes of
them and unittest's cases are run in the order in which they stand.
"""

import contextlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any


class Skipped(Exception):  # noqa: N818 - pytest's name
    """A test that says it should not run."""


def skip(reason: str = "", **more: Any) -> None:
    raise Skipped(reason)


def fail(reason: str = "", **more: Any) -> None:
    raise AssertionError(f"Failed: {reason}")


def importorskip(name: str, **more: Any) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise Skipped(name) from error


class _Info:
    """What was raised."""

    value: Any = None
    type: Any = None

    def match(self, pattern: str) -> bool:
        if not re.search(pattern, str(self.value)):
            raise AssertionError(f"{str(self.value)[:100]!r} does not match {pattern!r}")
        return True


class _Raises:
    def __init__(self, expected: Any, match: str | None) -> None:
        self._expected, self._match, self._info = expected, match, _Info()

    def __enter__(self) -> _Info:
        return self._info

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        if kind is None:
            raise AssertionError(f"did not raise {self._expected}")
        if not issubclass(kind, self._expected):
            return False
        self._info.value, self._info.type = value, kind
        return self._match is None or self._info.match(self._match)


def raises(expected: Any, *call: Any, match: str | None = None, **named: Any) -> Any:
    waiting = _Raises(expected, match)
    if not call:
        return waiting
    with waiting as info:
        call[0](*call[1:], **named)
    return info


class approx:  # noqa: N801 - pytest's name
    """Equal to numbers within max(rel * |expected|, abs), 1e-6 and 1e-12 unless said; with `abs` alone, within that."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None, nan_ok: bool = False) -> None:
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    def __eq__(self, other: object) -> bool:
        return self._near(self.expected, other)

    def _near(self, expected: Any, got: Any) -> bool:
        if isinstance(expected, Mapping):
            return isinstance(got, Mapping) and expected.keys() == got.keys() and all(
                self._near(expected[key], got[key]) for key in expected
            )  # fmt: skip
        if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
            return isinstance(got, Sequence) and len(expected) == len(got) and all(
                self._near(*pair) for pair in zip(expected, got, strict=True)
            )  # fmt: skip
        try:
            if expected == got:
                return True
            if math.isnan(expected) or math.isnan(got):
                return self.nan_ok and math.isnan(expected) and math.isnan(got)
            if math.isinf(expected) or math.isinf(got):
                return False
            absolute = 1e-12 if self.abs is None else self.abs
            relative = (1e-6 if self.abs is None else 0.0) if self.rel is None else self.rel
            return bool(math.fabs(expected - got) <= max(relative * math.fabs(expected), absolute))
        except TypeError:
            return False

    def __repr__(self) -> str:
        return f"approx({self.expected!r})"


class _Param:
    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values


def param(*values: Any, **more: Any) -> _Param:
    return _Param(values)


class _Mark:
    """pytest.mark: each mark is left on its function or class, and read when that is run."""

    def __getattr__(self, name: str) -> Any:
        def mark(*args: Any, **named: Any) -> Any:
            def leave(test: Any) -> Any:
                if name == "parametrize":
                    names, rows = (args + (named.get("argnames"), named.get("argvalues"))[len(args) :])[:2]
                    names = [one.strip() for one in names.split(",")] if isinstance(names, str) else list(names)
                    test.grid = [*getattr(test, "grid", []), [_named(names, row) for row in rows]]
                elif name in ("skip", "xfail") or (name == "skipif" and args and args[0]):
                    test.skipped = True
                return test

            bare = len(args) == 1 and not named and (inspect.isfunction(args[0]) or inspect.isclass(args[0]))
            marked, args = (args[0], ()) if bare else (None, args)
            return leave(marked) if bare else leave

        return mark


def _named(names: list[str], row: Any) -> dict[str, Any]:
    values = row.values if isinstance(row, _Param) else (row,) if len(names) == 1 else tuple(row)
    return dict(zip(names, values, strict=True))


mark = _Mark()


def fixture(function: Any = None, **more: Any) -> Any:
    if function is None:
        return fixture
    function.is_fixture = True
    return function


def tests(namespace: dict[str, Any]) -> Iterator[tuple[str, Callable[[], int]]]:
    """The tests of a module by name, in order; each fails by raising, and says how many there were: 0 where it was skipped."""
    unittest = sys.modules.get("unittest")
    fixtures = {name: one for name, one in namespace.items() if _is_fixture(one)}
    for name, one in list(namespace.items()):
        if inspect.isfunction(one) and name.startswith("test") and name not in fixtures:
            yield name, lambda one=one: _run(one, fixtures)  # type: ignore[misc]
        elif unittest and inspect.isclass(one) and issubclass(one, unittest.TestCase) and one is not unittest.TestCase:
            for method in unittest.defaultTestLoader.getTestCaseNames(one):
                yield f"{name}.{method}", lambda one=one, method=method: _run_case(one, method)  # type: ignore[misc]
        elif inspect.isclass(one) and name.startswith("Test") and not getattr(one, "skipped", False):
            scoped = fixtures | {key: value for key, value in vars(one).items() if _is_fixture(value)}
            for method, test in vars(one).items():
                if method.startswith("test") and inspect.isroutine(test):
                    yield f"{name}.{method}", lambda one=one, test=test, scoped=scoped: _run_method(one, test, scoped)  # type: ignore[misc]


def _is_fixture(one: Any) -> bool:
    """Only functions are looked at: the program's stand-ins would ask the program."""
    return inspect.isfunction(one) and hasattr(one, "is_fixture")


def _run_case(case: Any, method: str) -> int:
    try:
        case.setUpClass()
        case(method).debug()
        case.tearDownClass()
    except sys.modules["unittest"].SkipTest:
        return 0
    return 1


def _run_method(owner: Any, test: Any, fixtures: dict[str, Any]) -> int:
    instance = owner()
    for name in ("setup_class", "setup_method", "setUp"):
        if hasattr(instance, name):
            method = getattr(instance, name)
            method(*[None] * len(inspect.signature(method).parameters))
    return _run(getattr(test, "__func__", test), fixtures, instance, grid=getattr(owner, "grid", []))


def _run(test: Any, fixtures: dict[str, Any], instance: Any = None, grid: Any = ()) -> int:
    """One function for each row of its `parametrize`s."""
    count = 0
    for rows in product(*grid, *getattr(test, "grid", [])) if not hasattr(test, "skipped") else ():
        values: dict[str, Any] = {}
        for row in rows:
            values |= row
        started: list[Any] = []
        with contextlib.suppress(Skipped):
            test(**_arguments(test, values, fixtures, instance, started))
            count += 1
        for generator in reversed(started):
            next(generator, None)
    return count


def _arguments(
    function: Any, values: dict[str, Any], fixtures: dict[str, Any], instance: Any, started: list[Any]
) -> dict[str, Any]:
    arguments = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("self", "cls"):
            arguments[name] = instance
        elif name in values:
            arguments[name] = values[name]
        elif name in fixtures:
            value = fixtures[name](**_arguments(fixtures[name], values, fixtures, instance, started))
            if inspect.isgenerator(value):
                started.append(value)
                value = next(value)
            arguments[name] = values[name] = value
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{function.__name__} wants the fixture {name!r}, which is not given here")
    return arguments
