"""What tests need of pytest, where pytest itself is not: the sandbox shows programs the standard library alone.

Handed to the sandbox as text, as a module named pytest. Known: raises, approx, fail, skip, param, fixture (by name, with yield,
autouse), mark.parametrize, mark.skip, mark.skipif, mark.xfail (skipped); other marks mean nothing. Test functions, classes of
them (with what they inherit and the classes in them) and unittest's cases are run in the order in which they stand; coroutines
to their end, in an event loop of this side.
"""

import contextlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, wraps
from itertools import product
from typing import Any


class Skipped(Exception):  # noqa: N818 - pytest's name
    """A test that says it should not run."""


class CannotRunError(BaseException):
    """A test that cannot be run here. Not an Exception: no test may catch it."""


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
        return lambda function: fixture(function, **more)
    function.is_fixture = True
    function.autouse = more.get("autouse", False)
    return function


Test = tuple[str, Any, Any, Callable[[], int]]
"""Name, class if there is one, function, and what runs it: fails by raising, and says how many tests there were."""


def tests(namespace: dict[str, Any]) -> Iterator[Test]:
    """The tests of a module in order. 0 of them where it was skipped."""
    fixtures = {name: one for name, one in namespace.items() if _is_fixture(one)}
    for name, one in list(namespace.items()):
        if (
            inspect.isfunction(one)
            and name.startswith("test")
            and name not in fixtures
            and getattr(one, "__test__", True)
        ):
            yield name, None, one, lambda one=one: _run(one, fixtures)  # type: ignore[misc]
        elif inspect.isclass(one):
            yield from _tests_of(name, one, fixtures)


def _tests_of(name: str, one: Any, fixtures: dict[str, Any], grid: Any = (), outer: Any = ()) -> Iterator[Test]:
    """Those of a class, with what it inherits and the classes in it."""
    unittest = sys.modules.get("unittest")
    if getattr(one, "skipped", False) or not getattr(one, "__test__", True) or inspect.isabstract(one) or one in outer:
        return
    if unittest and issubclass(one, unittest.TestCase):
        for method in unittest.defaultTestLoader.getTestCaseNames(one):
            function = getattr(one, method)
            yield f"{name}.{method}", one, function, lambda method=method: _run_case(one, method)  # type: ignore[misc]
    elif name.startswith("Test"):
        members = {key: value for base in reversed(one.__mro__) for key, value in vars(base).items()}
        scoped = fixtures | {key: value for key, value in members.items() if _is_fixture(value)}
        grid = (*grid, *getattr(one, "grid", []))
        for key, value in members.items():
            function = getattr(value, "__func__", value)
            if inspect.isclass(value):
                for inner, *rest in _tests_of(key, value, scoped, grid, (*outer, one)):
                    yield f"{name}.{inner}", *rest
            elif key.startswith("test") and inspect.isroutine(value) and key not in scoped:
                run = lambda function=function: _run_method(one, function, scoped, grid)  # noqa: E731
                yield f"{name}.{key}", one, function, run


def _is_fixture(one: Any) -> bool:
    """Only functions are looked at: the program's stand-ins would ask the program."""
    return inspect.isfunction(one) and hasattr(one, "is_fixture")


@lru_cache(maxsize=1)
def _loop() -> Any:
    import asyncio

    return asyncio.Runner()


def _finished(result: Any, function: Any) -> Any:
    """What a test or a fixture gave; a coroutine is run to its end, so that nothing in it is left out."""
    if inspect.iscoroutine(result):
        result = _loop().run(result)
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise CannotRunError(f"{function.__name__} is a generator, which pytest does not run")
    return result


def _run_case(case: Any, method: str) -> int:
    test = case(method)
    body = getattr(test, method)
    if getattr(body, "__unittest_expecting_failure__", False):
        return 0
    # The coroutines of an IsolatedAsyncioTestCase are run to their end by unittest itself.
    if not (inspect.iscoroutinefunction(body) and hasattr(test, "asyncSetUp")):
        setattr(test, method, wraps(body)(lambda: _finished(body(), body)))
    try:
        case.setUpClass()
        test.debug()
        case.tearDownClass()
    except sys.modules["unittest"].SkipTest:
        return 0
    return 1


def _run_method(owner: Any, test: Any, fixtures: dict[str, Any], grid: Any) -> int:
    instance = owner()
    for name in ("setup_class", "setup_method", "setUp"):
        if hasattr(instance, name):
            method = getattr(instance, name)
            _finished(method(*[None] * len(inspect.signature(method).parameters)), method)
    return _run(test, fixtures, instance, grid)


def _run(test: Any, fixtures: dict[str, Any], instance: Any = None, grid: Any = ()) -> int:
    """One function for each row of its `parametrize`s."""
    count = 0
    for rows in product(*grid, *getattr(test, "grid", [])) if not hasattr(test, "skipped") else ():
        values: dict[str, Any] = {}
        for row in rows:
            values |= row
        started: list[Any] = []
        with contextlib.suppress(Skipped):
            for name, one in fixtures.items():
                if one.autouse:
                    _value(name, values, fixtures, instance, started)
            _finished(test(**_arguments(test, values, fixtures, instance, started)), test)
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
        elif name in values or name in fixtures:
            arguments[name] = _value(name, values, fixtures, instance, started)
        elif parameter.default is inspect.Parameter.empty:
            raise CannotRunError(f"{function.__name__} wants the fixture {name!r}, which is not given here")
    return arguments


def _value(name: str, values: dict[str, Any], fixtures: dict[str, Any], instance: Any, started: list[Any]) -> Any:
    """Of a fixture; made once for a test."""
    if name not in values:
        value = fixtures[name](**_arguments(fixtures[name], values, fixtures, instance, started))
        if inspect.isgenerator(value):
            started.append(value)
            values[name] = next(value)
        else:
            values[name] = _finished(value, fixtures[name])
    return values[name]
