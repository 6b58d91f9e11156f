"""Programs, judged by running them on tests in a sandbox: standard input and output, calls of one function, or asserts.

The judge stands outside, the program runs inside (`progrpo.sandbox`): only the program and the inputs go in, outputs
and returned values come out and are compared here. Expected outputs are never inside, so there is nothing to read,
patch or overwrite there; whatever a program does to its own process, it can only claim values. Tests that assert (lists of
asserts, pytest files) run in a second sandbox and call the program in the first: the same holds, see `assert_driver.py`.

Not covered: faults of the kernel, bubblewrap or the processor that let a program out (see `progrpo.sandbox` for the
rest of that list); a program that knows the tests by heart, or tells them by the prompt's examples: that takes hidden
tests; a program whose answer depends on the clock or on chance. `unsafe: true` gives all isolation up.
"""

from typing import Literal

from progrpo.errors import SandboxError
from progrpo.rewards.code import assert_run
from progrpo.rewards.code.extract import extract
from progrpo.rewards.code.params import Params
from progrpo.rewards.code.run import Failure, Judge
from progrpo.rewards.code.tests import UnreadableTestsError, read_tests
from progrpo.sandbox import Box
from progrpo.sandbox.isolation import require_isolation
from progrpo.types import Problem, Verdict

ANSWERS = False

SLOW = True
_MARGIN_S = 20.0
_EXTRACT_CHARACTERS = 4000


def prepare(params: Params) -> None:
    """Prove that this machine isolates programs.

    Raises:
        SandboxError: it does not; how to enable it.
    """
    _box(params)


def warm(params: Params) -> None:
    _box(params)


def limit_s(params: Params) -> float:
    return params.total_s + _MARGIN_S


def fast_verdict(text: str, problem: Problem, params: Params) -> Verdict | None:
    """A completion without a program needs no sandbox."""
    return _no_answer(text, params)


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Run the completion's last code block on the tests of `problem.info` (see `read_tests` for their shapes).

    `correct`: every test passes. `wrong`: the first that fails is in the detail; a program that crashes, hangs or wants
    too much memory is wrong, too. `bad_gold`: there are no tests, or none that can be read. `crashed`: the sandbox or
    the problem's own checker failed; the program is not to blame.

    A script must end with exit code 0. `problem.info["checker"]` may hold Python source that judges printed output in
    place of the comparison; it runs in a sandbox of its own as `checker.py input.txt correct_output.txt
    solution_output.txt`, and accepts by printing, as its last word, a number above 0, `true` or `yes`.
    """
    missing = _no_answer(text, params)
    if missing is not None:
        return missing
    code = extract(text, allow_unterminated=params.allow_unterminated) or ""
    shown = code[:_EXTRACT_CHARACTERS]
    try:
        failure = _first_failure(code, problem, params)
    except UnreadableTestsError as error:
        return Verdict(status="bad_gold", reward=params.wrong_reward, extracted=shown, detail=str(error))
    except SandboxError as error:
        return Verdict(status="crashed", reward=params.wrong_reward, extracted=shown, detail=str(error))
    if failure is None:
        return Verdict(status="correct", reward=params.correct_reward, extracted=shown)
    status: Literal["crashed", "wrong"] = "crashed" if failure.verifier else "wrong"
    return Verdict(status=status, reward=params.wrong_reward, extracted=shown, detail=failure.detail)


def gold_fault(problem: Problem, params: Params) -> str | None:
    """Tests that cannot be read or are not there; a `problem.info["solution"]` (source, or a completion with a code block)
    that does not pass them."""
    solution = problem.info.get("solution")
    try:
        if not isinstance(solution, str):
            read_tests(problem)
            return None
        failure = _first_failure(extract(solution) or solution, problem, params)
    except UnreadableTestsError as error:
        return str(error)
    if failure is None:
        return None
    if failure.verifier:
        raise SandboxError(failure.detail)
    return f"the problem's own solution fails: {failure.detail}"


def _first_failure(code: str, problem: Problem, params: Params) -> Failure | None:
    tests = read_tests(problem)
    own_cpu_s = problem.info.get("cpu_s")
    if own_cpu_s is not None:  # a problem's own limit may only lower the setting
        params = params.model_copy(update={"cpu_s": min(params.cpu_s, int(own_cpu_s))})
    judge = Judge.start(_box(params), params)
    if tests.asserts is not None:
        return assert_run.first_failure(judge, code, tests.asserts, tests.prompt)
    return judge.first_failure(code, tests)


def _no_answer(text: str, params: Params) -> Verdict | None:
    if extract(text, allow_unterminated=params.allow_unterminated) is not None:
        return None
    return Verdict(status="no_answer", reward=params.wrong_reward, detail="no complete code block")


def _box(params: Params) -> Box:
    return require_isolation(params.python, params.packages, unsafe=params.unsafe)
