"""Runs a program on its tests, in order, until one fails."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from progrpo.rewards.code.compare import TEXT_RULES, Tolerance, same_value
from progrpo.rewards.code.params import Params
from progrpo.rewards.code.tests import PipeTest, Tests, UnreadableTestsError, call_tests
from progrpo.rewards.code.values import UnreadableValueError, text_of, value_of
from progrpo.sandbox import Box, Ended, Limits
from progrpo.sandbox.run import run

DRIVER = Path(__file__).with_name("driver.py").read_bytes()
_CHECKER = Path(__file__).with_name("checker.py").read_bytes()
_MODULES: tuple[str, ...] = (
    "string",
    "re",
    "datetime",
    "collections",
    "heapq",
    "bisect",
    "copy",
    "math",
    "random",
    "statistics",
)
_MODULES += ("itertools", "functools", "operator", "io", "sys", "json")
PREAMBLE = "\n".join(
    [f"from {module} import *" for module in (*_MODULES, "builtins", "typing")]
    + [f"import {module}" for module in _MODULES]
)
"""The modules LiveCodeBench's runner imports before a program (lcb_runner/evaluation/testing_util.py)."""
_EXCERPT = 80
_OUTPUT_ROOM_BYTES = 2**16
_REASONS = {
    "error": "runtime error",
    "cpu": "more CPU time than allowed",
    "wall": "more time than allowed",
    "memory": "more memory than allowed",
    "output": "more output than allowed",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a program did not pass.

    Attributes:
        detail: the test and the reason in words. verifier: the judge failed, not the program.
    """

    detail: str
    verifier: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """Settings and the time that is left, for one program.

    Attributes:
        deadline: on the monotonic clock; all tests together.
    """

    box: Box
    params: Params
    deadline: float

    @classmethod
    def start(cls, box: Box, params: Params) -> "Judge":
        return cls(box, params, time.monotonic() + params.total_s)

    def first_failure(self, code: str, tests: Tests) -> Failure | None:
        """The first test that fails; None if all pass.

        A script is started anew for each test. Calls are made one after the other in one process, each on a new
        `Solution` and with its own CPU time; what a program keeps in global variables lasts from call to call.

        Raises:
            UnreadableTestsError: the tests have to be computed, and cannot be; or cannot be handed in.
        """
        if tests.trusted_source is not None:
            calls = call_tests(*self._gold(tests.trusted_source))
            if not calls:
                raise UnreadableTestsError("the problem has no tests")
            tests = replace(tests, trusted_source=None, calls=calls)
        if self.params.max_tests is not None:
            tests = longest(tests, self.params.max_tests)
        return self._pipes(code, tests) if tests.function is None else self._calls(code, tests)

    def _pipes(self, code: str, tests: Tests) -> Failure | None:
        payload = self.job(code)
        for index, test in enumerate(tests.pipes):
            left = self.deadline - time.monotonic()
            if left <= 0:
                return self._out_of_time(index)
            expected_bytes = 2 * len(test.expected.encode("utf-8", "surrogatepass")) + _OUTPUT_ROOM_BYTES
            limits = self.limits(self.params.cpu_s, min(left, self.params.wall_s), output_bytes=expected_bytes)
            stdin = test.input.encode("utf-8", "surrogatepass")
            ended = run(self.box, DRIVER, payload=payload, stdin=stdin, limits=limits)
            where = f"test {index + 1} of {len(tests.pipes)}"
            shown = f"input {_excerpt(test.input)}"
            if ended.ending != "ok":
                return self.ended_badly(ended, where, shown)
            failure = self._output(ended.stdout, test, tests.checker, where)
            if failure is not None:
                return failure
        return None

    def _output(self, got: bytes, test: PipeTest, checker: str | None, where: str) -> Failure | None:
        words = f"{where}: wrong answer: input {_excerpt(test.input)}, expected {_excerpt(test.expected)}, got {_excerpt(got)}"
        if checker is not None:
            return self._checked(got, test, checker, words)
        params = self.params
        tolerance = Tolerance(params.absolute_tolerance, params.relative_tolerance)
        same = _holds(lambda: TEXT_RULES[params.compare](test.expected, got, tolerance))
        return None if same else Failure(words)

    def _checked(self, got: bytes, test: PipeTest, checker: str, words: str) -> Failure | None:
        """The checker's last printed word must be a number above 0, or true or yes; an error of it on this output is the
        output's fault (they raise on what they cannot read), a limit it hits is not."""
        left = self.deadline - time.monotonic()
        input_bytes, expected = (text.encode("utf-8", "surrogatepass") for text in (test.input, test.expected))
        files = {"input.txt": input_bytes, "correct_output.txt": expected, "solution_output.txt": got}
        limits = self.limits(self.params.cpu_s, max(1.0, min(left, self.params.wall_s)), files=True)
        ended = run(self.box, _CHECKER, payload=text_of({"checker": checker, **files}), limits=limits)
        if ended.ending not in ("ok", "error"):
            return Failure(f"the checker did not judge ({ended.ending}): {ended.last_words}", verifier=True)
        said = (ended.stdout.decode("utf-8", "replace").split() or [""])[-1]
        if ended.ending == "ok" and _accepts(said):
            return None
        return Failure(f"{words}; the checker: {said or ended.last_words}")

    def _calls(self, code: str, tests: Tests) -> Failure | None:
        total = len(tests.calls)
        values, ended = self._call(code, tests.function, [test.input for test in tests.calls], prompt=tests.prompt)
        lcb = self.params.compare == "lcb"
        default_tolerance = (
            Tolerance(0, 0) if lcb else Tolerance(self.params.absolute_tolerance, self.params.relative_tolerance)
        )
        tolerance = tests.tolerance or default_tolerance
        for index, test in enumerate(tests.calls):
            where, shown = f"test {index + 1} of {total}", f"arguments {_excerpt(test.input)}"
            if index >= len(values):
                return self.ended_badly(ended, where, shown)
            value = values[index]
            if isinstance(value, Failure):
                return Failure(f"{where}: {value.detail}: {shown}")
            compare = partial(same_value, got=value, tolerance=tolerance, strict=tests.strict)
            if not any(_holds(partial(compare, one)) for one in test.accepted):
                words = f"{shown}, expected {_excerpt(test.accepted[-1])}, got {_excerpt(value)}"
                return Failure(f"{where}: wrong answer: {words}")
        # A program that has written all its values itself may still hang or crash.
        return None if ended.ending == "ok" else self.ended_badly(ended, "after the last test", "")

    def _call(self, code: str, function: str | None, inputs: list[Any], *, prompt: str = "") -> tuple[list[Any], Ended]:
        """What the calls returned, up to the first that did not (as a Failure), and how the process ended."""
        left = max(0.1, self.deadline - time.monotonic())
        cpu_s = min(self.params.cpu_s * (len(inputs) + 1), int(self.params.total_s) + 1)
        limits = self.limits(cpu_s, left, silent_s=self.params.wall_s)
        try:
            job = self.job(code, function=function, inputs=inputs, prompt=prompt)
        except ValueError as error:
            raise UnreadableTestsError(f"the inputs cannot be handed in: {error}") from None
        ended = run(self.box, DRIVER, payload=job, limits=limits)
        values: list[Any] = []
        for line in ended.channel.split(b"\n")[:-1][: len(inputs)]:  # what follows the last line end was cut off
            try:
                values.append(_record(line))
            except UnreadableValueError as error:
                values.append(Failure(f"returned what cannot be read ({error})"))
            if isinstance(values[-1], Failure):
                break
        return values, ended

    def _gold(self, source: str) -> tuple[list[Any], list[Any]]:
        return _trusted(self.box, self.params, source)

    def job(
        self,
        code: str,
        *,
        function: str | None = None,
        inputs: list[Any] | None = None,
        prompt: str = "",
        pipes: tuple[int, int] | None = None,
    ) -> bytes:
        """What the driver is given: run the program as a script; or call `function` with each of `inputs`; or answer what is
        asked on the first of `pipes` on the second."""
        preamble = PREAMBLE if self.params.preamble else ""
        job = {
            "code": code,
            "preamble": preamble,
            "prompt": prompt,
            "function": function,
            "inputs": inputs,
            "pipes": pipes,
        }
        return text_of({**job, "cpu_s": self.params.cpu_s})

    def limits(
        self, cpu_s: int, wall_s: float, *, silent_s: float | None = None, output_bytes: int = 0, files: bool = False
    ) -> Limits:
        params = self.params
        disk = params.disk_mib * 2**20
        return Limits(
            cpu_s=cpu_s,
            wall_s=wall_s,
            silent_s=silent_s,
            memory_bytes=params.memory_mib * 2**20,
            processes=params.processes,
            disk_bytes=2**28 if files else disk,
            file_bytes=2**28 if files else disk // 2,
            output_bytes=max(params.output_mib * 2**20, output_bytes),
        )

    def ended_badly(self, ended: Ended, where: str, shown: str) -> Failure:
        if ended.ending == "not_started":
            return Failure(f"the sandbox did not start: {ended.last_words or 'no reason given'}", verifier=True)
        if self.deadline <= time.monotonic():
            return Failure(f"{where}: all tests together took more than {self.params.total_s:g} s")
        reason = _REASONS.get(ended.ending, f"ended without a result, exit code {ended.exit_code}")
        words = ended.last_words if ended.ending == "error" else ""
        exit_code = f" (exit code {ended.exit_code})" if ended.ending == "error" else ""
        return Failure(": ".join(part for part in (where, reason + exit_code, words, shown) if part))

    def _out_of_time(self, index: int) -> Failure:
        return Failure(f"test {index + 1}: all tests together took more than {self.params.total_s:g} s")


@lru_cache(maxsize=64)
def _trusted(box: Box, params: Params, source: str) -> tuple[list[Any], list[Any]]:
    """Inputs and results of a test source that has to be run; once per process.

    Raises:
        UnreadableTestsError: it does not give them.
    """
    values, ended = Judge.start(box, params)._call(source, "gold", [[]])
    if not values or isinstance(values[0], Failure):
        reason = values[0].detail if values else ended.last_words or ended.ending
        raise UnreadableTestsError(f"the test source gives no inputs and results: {reason}")
    inputs, results = values[0]
    return list(inputs), list(results)


def longest(tests: Tests, count: int) -> Tests:
    """The `count` tests with the longest inputs, in their own order (DeepCoder's choice, there with 15)."""

    def cut(items: Any) -> Any:
        order = sorted(range(len(items)), key=lambda index: -len(str(items[index].input)))
        return tuple(items[index] for index in sorted(order[:count]))

    return replace(tests, pipes=cut(tests.pipes), calls=cut(tests.calls))


def _record(line: bytes) -> Any:
    """The value of one line of the driver, or the Failure it tells of."""
    kind, content = line[:9], line[9:-1]
    if kind == b'{"value":' and line.endswith(b"}"):
        return value_of(content)
    if kind == b'{"error":' and line.endswith(b"}"):
        return Failure(f"runtime error: {value_of(content)}"[:300])
    raise UnreadableValueError("not a line of the driver")


def _holds(comparison: Callable[[], bool]) -> bool:
    """Whether a comparison holds. One that the program's output breaks (numbers too long for text) does not: such output
    is made on purpose, and must not pass for a fault of the judge."""
    try:
        return comparison()
    except (ValueError, RecursionError, OverflowError):
        return False


def _accepts(word: str) -> bool:
    if word.lower() in ("true", "yes"):
        return True
    try:
        return float(word) > 0
    except ValueError:
        return False


def _excerpt(value: Any) -> str:
    """A value in one line; long text is cut before it is formatted."""
    if isinstance(value, bytes):
        value = value[: 2 * _EXCERPT].decode("utf-8", "backslashreplace")
    text = (
        repr(value[: 2 * _EXCERPT] if isinstance(value, str) else value) if not _huge(value) else "a very long number"
    )
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"


def _huge(value: Any) -> bool:
    """Whether `repr` would refuse or take long: integers of thousands of digits, anywhere inside."""
    if isinstance(value, int):
        return value.bit_length() > 10_000
    if isinstance(value, dict):
        return any(_huge(item) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple | set | frozenset) and any(_huge(item) for item in value)
