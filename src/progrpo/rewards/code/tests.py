"""The published shapes of tests, read into one: what goes in, and what must come out."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from progrpo.rewards.code import assert_tests, humaneval
from progrpo.rewards.code.assert_tests import Asserts
from progrpo.rewards.code.compare import Tolerance
from progrpo.types import Problem

_ASSERTING = ("test_list", "ground_truth", "test")
"""Columns in which tests that assert are published: MBPP, open-instruct, KodCode."""


class UnreadableTestsError(ValueError):
    """The tests of a problem cannot be read, or there are none."""


@dataclass(frozen=True, slots=True)
class PipeTest:
    """Standard input and the standard output it must give."""

    input: str
    expected: str


@dataclass(frozen=True, slots=True)
class CallTest:
    """Arguments of the function, and the values it may return: one, or two where the data set is not of one mind."""

    input: Sequence[Any]
    accepted: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tests:
    """Exactly one of `pipes`, `calls`, `trusted_source` and `asserts` is there.

    Attributes:
        function: whom `calls` call; None for `pipes`.
        prompt: Python that comes before the program; "" for none.
        strict: the expected values are Python's own, not JSON's: a list is no tuple.
        tolerance: of floats, where the tests say one themselves.
        trusted_source: Python that defines `gold()`, which gives the inputs and results.
        checker: Python that judges the output of `pipes` in place of the comparison.
        asserts: Python that asserts.
    """

    pipes: tuple[PipeTest, ...] = ()
    calls: tuple[CallTest, ...] = ()
    function: str | None = None
    prompt: str = ""
    strict: bool = False
    tolerance: Tolerance | None = None
    trusted_source: str | None = None
    checker: str | None = None
    asserts: Asserts | None = None

    @property
    def count(self) -> int:
        return len(self.pipes) + len(self.calls) + (len(self.asserts.parts) if self.asserts else 0)


def read_tests(problem: Problem) -> Tests:
    """The tests of `problem.info`.

    `info["tests"]`, as a value or as text in JSON or Python-literal syntax, is one of
        [{"input", "output"[, "testtype"][, "fn_name" | "metadata": {"func_name"}]}, ...]   PrimeIntellect, LiveCodeBench
        {"inputs": [...], "outputs": [...][, "fn_name"]}                                    TACO, APPS
        {"entry_point", "inputs": [[argument, ...], ...], "expected": [...][, "prompt"]}    calls in plain form
        {"entry_point", "test": source[, "prompt"]}                                         HumanEval(+) as published
        ["assert f(1) == 2", ...]                                                           MBPP, open-instruct
        "from solution import f\\n\\ndef test_f(): ..."                                     KodCode: a pytest file
    and without it `info` itself may be of one of the two with an entry point, or the last two may stand in
    `info["test_list"]`, `info["ground_truth"]` or `info["test"]`; MBPP's `info["test_setup_code"]` and `info["test_imports"]`
    are run before them. `info["fn_name"]` and `info["checker"]` are seen too.
    A key may be dotted, as the columns of a file are: `info["reward_model.ground_truth"]` is `ground_truth`.
    `info["cpu_s"]`, whole seconds, is read by `rewards/code.py`.

    Raises:
        UnreadableTestsError: none of these, or no test in it.
    """
    info = {**{name.rpartition(".")[2]: value for name, value in problem.info.items()}, **problem.info}
    try:
        raw = info.get("tests", info if "entry_point" in info else None)
        raw = next((info[name] for name in _ASSERTING if raw is None and name in info), raw)
        read = _literal(raw) if isinstance(raw, str) else raw
        tests = _read(read, info)
    except UnreadableTestsError:
        raise
    except (KeyError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UnreadableTestsError(f"the tests cannot be read: {type(error).__name__}: {error}"[:300]) from None
    if not tests.count and tests.trusted_source is None:
        raise UnreadableTestsError("the problem has no tests")
    checker = info.get("checker") or None
    if checker is not None and not (tests.pipes and isinstance(checker, str)):
        raise UnreadableTestsError("a checker is Python source that judges printed output; these tests call functions")
    return replace(tests, checker=checker)


def call_tests(inputs: Sequence[Any], results: Sequence[Any]) -> tuple[CallTest, ...]:
    """Tests from arguments and results.

    Raises:
        UnreadableTestsError: their numbers differ, or the arguments are no lists.
    """
    if len(inputs) != len(results):
        raise UnreadableTestsError(f"{len(inputs)} inputs and {len(results)} results")
    if not all(isinstance(arguments, list | tuple) for arguments in inputs):
        raise UnreadableTestsError("the inputs of a call must be lists of arguments")
    return tuple(CallTest(arguments, (result,)) for arguments, result in zip(inputs, results, strict=True))


@lru_cache(maxsize=16)
def _literal(text: str) -> Any:
    """One group's completions share their tests, and those may be megabytes: read once."""
    try:
        return json.loads(text)
    except ValueError:
        return text if assert_tests.is_source(text) else ast.literal_eval(text.strip())


def _read(raw: Any, info: Mapping[str, Any]) -> Tests:
    if raw is None:
        raise UnreadableTestsError('the problem has no tests: info["tests"] is missing')
    if isinstance(raw, str) or (isinstance(raw, list | tuple) and raw and all(isinstance(one, str) for one in raw)):
        setup = [*info.get("test_imports", ()), info.get("test_setup_code") or ""]
        parts = (*(one for one in setup if one), *((raw,) if isinstance(raw, str) else raw))
        return Tests(asserts=assert_tests.read(parts))
    if isinstance(raw, Mapping) and "entry_point" in raw:
        return _entry_point(raw)
    if isinstance(raw, Mapping):
        rows = [{"input": one, "output": other} for one, other in _pairs(raw["inputs"], raw["outputs"])]
        name = raw.get("fn_name")
    else:
        rows, name = list(raw), None
    names = {_function(row) or name or _function(info) for row in rows}
    if len(names) > 1:
        raise UnreadableTestsError(f"the tests call different functions: {sorted(map(str, names))}")
    function = names.pop() if names else None
    if function is None:
        if any(row.get("testtype") == "functional" for row in rows):
            raise UnreadableTestsError("the tests call a function and do not name it (fn_name)")
        return Tests(pipes=tuple(PipeTest(_lines(row["input"]), _lines(row["output"])) for row in rows))
    return Tests(calls=tuple(_call(row["input"], row["output"]) for row in rows), function=function)


def _entry_point(raw: Mapping[str, Any]) -> Tests:
    function, prompt = str(raw["entry_point"]), str(raw.get("prompt") or "")
    if "test" not in raw:
        return Tests(calls=call_tests(raw["inputs"], raw["expected"]), function=function, prompt=prompt)
    source = str(raw["test"])
    if not humaneval.has_inputs(source):  # HumanEval itself: check(candidate) that asserts
        return Tests(asserts=assert_tests.read((source, f"check({function})")), prompt=prompt)
    published = humaneval.read(source)
    calls = () if published.results is None else call_tests(published.inputs, published.results)
    return Tests(
        calls=calls,
        function=function,
        prompt=prompt,
        strict=True,
        tolerance=Tolerance(published.absolute_tolerance, humaneval.RELATIVE_TOLERANCE),
        trusted_source=published.gold_source if published.results is None else None,
    )


def _pairs(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(inputs) != len(outputs):
        raise UnreadableTestsError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    return list(zip(inputs, outputs, strict=True))


def _function(row: Mapping[str, Any]) -> str | None:
    metadata = row.get("metadata")
    metadata = json.loads(metadata) if isinstance(metadata, str) and metadata else metadata
    name = row.get("fn_name") or row.get("func_name") or (metadata or {}).get("func_name")
    return str(name) if name else None


def _lines(value: Any) -> str:
    """Some rows hold a list of lines, or a bare number."""
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _call(arguments: Any, result: Any) -> CallTest:
    """LiveCodeBench writes text: one JSON value a line, and one as the result. The others write values, the result
    bare or as a list of one: both are accepted."""
    if isinstance(arguments, str):
        return CallTest([json.loads(line) for line in arguments.split("\n")], (json.loads(result),))
    if not isinstance(arguments, list | tuple):
        raise UnreadableTestsError(
            f"the input of a call must be a list of arguments or text, got {type(arguments).__name__}"
        )
    one = isinstance(result, list | tuple) and len(result) == 1
    return CallTest([_with_number_keys(value) for value in arguments], (result, result[0]) if one else (result,))


def _with_number_keys(value: Any) -> Any:
    """JSON made text of a dictionary's whole-number keys; as the published harnesses do, make them numbers again."""
    if isinstance(value, dict) and value:
        try:
            return {int(key): item for key, item in value.items()}
        except (ValueError, TypeError):
            return value
    return value
