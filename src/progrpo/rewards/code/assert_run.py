"""Runs tests that assert against a program: two sandboxes, two pipes between them, the verdict from the side of the tests."""

import ast
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from progrpo.rewards.code.assert_tests import PROGRAM, Asserts
from progrpo.rewards.code.run import DRIVER, Failure, Judge
from progrpo.rewards.code.tests import UnreadableTestsError
from progrpo.rewards.code.values import text_of
from progrpo.sandbox import Ended
from progrpo.sandbox.run import run

_TESTER, _PYTEST, _MARKS, _VALUES = (Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in (
    "assert_driver", "assert_pytest", "assert_marks", "values"))  # fmt: skip
_GRACE_S = 2.0
"""Seconds the program has to end when the tests have, before it is taken for hanging."""
_CRASH_S = 0.5
"""The same where it did not answer: time for a crash to be seen as one."""
_TESTS_OWN = 5
"""CPU time of the tests, in units of that of one call: they may compute what they expect."""


def first_failure(judge: Judge, code: str, asserts: Asserts, prompt: str) -> Failure | None:
    """Why the program does not pass; None if every test passes and the program has ended well.

    Raises:
        UnreadableTestsError: the tests themselves cannot be run here.
    """
    program, tests = _both(judge, code, asserts, prompt)
    for ended in (program, tests):
        if ended.ending == "not_started":
            return judge.ended_badly(ended, "", "")
    said = _said(tests)
    if said is None:
        if program.ending != "ok":
            return judge.ended_badly(program, "the tests", "")
        return Failure(f"the tests did not come to an end ({tests.ending}): {tests.last_words}", verifier=True)
    if "passed" in said:
        if said["passed"] <= 0 and not said["gone"]:
            if said["reached"]:
                return Failure("the tests: no assertion held")
            raise UnreadableTestsError("the tests hold no test that runs")
        return judge.ended_badly(program, "after the last test", "") if said["gone"] or program.ending != "ok" else None
    if said["cannot"]:
        raise UnreadableTestsError(f"the tests cannot be run here: {said['words']}")
    where, line = said["failed"], said["line"]
    if said["gone"]:
        return judge.ended_badly(program, where, line or said["words"])
    return Failure(f"{where}: {said['words']}{': ' if line else ''}{line}")


def _both(judge: Judge, code: str, asserts: Asserts, prompt: str) -> tuple[Ended, Ended]:
    """How the program and the tests ended."""
    questions, ask = os.pipe2(os.O_CLOEXEC)
    answers, answer = os.pipe2(os.O_CLOEXEC)
    params = judge.params
    left = max(0.1, judge.deadline - time.monotonic())
    limits = judge.limits(min(int(params.total_s) + 1, 2**20), left)
    tester_limits = replace(limits, cpu_s=_TESTS_OWN * params.cpu_s, wall_s=left + _GRACE_S)
    ends: list[float] = []  # when the program is to be gone, once the tests are
    tests = {
        "parts": list(asserts.parts),
        "names": list(asserts.names),
        "modules": list(asserts.modules),
        "program": list(PROGRAM),
        "pytest": _PYTEST,
        "marks": _MARKS,
        "values": _VALUES,
        "pipes": (answers, ask),
        "longest": limits.output_bytes,
        "wall_s": params.wall_s,
    }
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            run,
            judge.box,
            DRIVER,
            payload=judge.job(code, prompt=prompt, pipes=(questions, answer)),
            limits=limits,
            handed=(questions, answer),
            over=lambda: bool(ends) and time.monotonic() > ends[0],
        )
        tested = None
        try:
            tested = run(
                judge.box, _TESTER.encode(), payload=text_of(tests), limits=tester_limits, handed=(answers, ask)
            )
        finally:
            said = _said(tested) if tested else None
            ends.append(time.monotonic() + (_CRASH_S if said is None or said["gone"] else _GRACE_S))
        return running.result(), tested


def _said(tests: Ended) -> dict[str, Any] | None:
    """The one line of the tests' side; None where there is none."""
    line, end, _ = tests.channel.partition(b"\n")
    if not end:
        return None
    report: dict[str, Any] = ast.literal_eval(line.decode("ascii"))
    return report
