"""Programs and their statuses, the comparators, the shapes of tests, and what the detail says."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from code_programs import CALL, DIVISOR, REFERENCE, ROWS, SUM, SUM_TACO

from progrpo import rewards
from progrpo.errors import SandboxError
from progrpo.rewards import code
from progrpo.rewards.code import Params, fast_verdict, gold_fault, limit_s, prepare, score
from progrpo.rewards.code import run as code_run
from progrpo.rewards.code import values as code_values
from progrpo.rewards.code.compare import TEXT_RULES, Tolerance, same_value
from progrpo.rewards.code.extract import extract
from progrpo.rewards.code.tests import CallTest, PipeTest, UnreadableTestsError, read_tests
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem, Verdict

SMALL = Params(cpu_s=2, memory_mib=256, disk_mib=1, total_s=30)
EXACT = Tolerance(1e-6, 1e-6)
RIGHT = "```python\nprint(sum(map(int, input().split())))\n```"


def judged(info: dict[str, Any], program: str, params: Params = SMALL) -> Verdict:
    text = program if "`" in program else f"Here it is.\n```python\n{program}\n```"
    return score(text, Problem(id="x", prompt="", info=info), params)


def detail(info: dict[str, Any], program: str, **changes: Any) -> str:
    return judged(info, program, SMALL.model_copy(update=changes)).detail


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(("info", "program", "status"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_table(info: dict[str, Any], program: str, status: str) -> None:
    verdict = judged(info, program)
    assert verdict.status == status, verdict.detail
    assert verdict.correct is (verdict.reward == 1.0)
    assert (verdict.detail == "") is verdict.correct


def test_table_is_large_and_names_are_unique() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.usefixtures("box")
def test_the_detail_names_the_test_and_the_reason() -> None:
    assert detail({"tests": SUM}, "print(3)") == (
        "test 2 of 2: wrong answer: input '10 -4\\n', expected '6\\n', got '3\\n'"
    )
    assert detail({"tests": SUM}, "1 / 0").startswith(
        "test 1 of 2: runtime error (exit code 1): ZeroDivisionError: division by zero: input"
    )
    assert detail({"tests": CALL}, "def add(a, b): return 3") == (
        "test 2 of 2: wrong answer: arguments [10, -4], expected 6, got 3"
    )
    assert detail({"tests": CALL}, "def add(a, b): return a // (b + 4)").startswith("test 1 of 2: wrong answer")
    assert detail({"tests": CALL}, "def add(a, b): return 12 // (b + 4) + 1") == (
        "test 2 of 2: runtime error: ZeroDivisionError: integer division or modulo by zero: arguments [10, -4]"
    )
    assert "memory" in detail({"tests": SUM}, "x = bytearray(2**30)")
    assert "output" in detail({"tests": SUM}, "while True: print('x' * 10**6)", output_mib=1)
    assert detail(DIVISOR, "print(5)").endswith("the checker: 0")
    assert "ValueError" in detail(DIVISOR, "print('two')")


@pytest.mark.usefixtures("box")
@pytest.mark.slow
def test_limits_of_time_are_told_apart() -> None:
    assert "more CPU time" in detail({"tests": SUM}, "while True: pass", cpu_s=1, wall_factor=20.0)
    sleep = "import time\ntime.sleep(60)"
    assert "more time than allowed" in detail({"tests": SUM}, sleep, cpu_s=1, wall_factor=1.0)
    assert "all tests together" in detail({"tests": SUM}, sleep, cpu_s=30, total_s=1.0)
    looping = "def add(a, b):\n    while a == 10: pass\n    return a + b"
    many = {**CALL, "inputs": CALL["inputs"] * 20, "outputs": CALL["outputs"] * 20}  # 41 s for all, 1 s for each
    assert detail({"tests": many}, looping, cpu_s=1, wall_factor=10.0).startswith("test 2 of 40: more CPU time")
    sleeping = "import time\ndef add(a, b):\n    if a == 10: time.sleep(60)\n    return a + b"
    assert detail({"tests": CALL}, sleeping, cpu_s=1, wall_factor=1.0).startswith("test 2 of 2: more time than")


@pytest.mark.usefixtures("box")
@pytest.mark.slow
def test_each_call_has_its_own_cpu_time() -> None:
    """Four calls of 0.7 s each under a limit of 1 s a call."""
    wait = "end = time.process_time() + 0.7\n    while time.process_time() < end: pass"
    program = f"import time\ndef f(n):\n    {wait}\n    return n"
    tests = {"fn_name": "f", "inputs": [[n] for n in range(4)], "outputs": list(range(4))}
    verdict = judged({"tests": tests}, program, SMALL.model_copy(update={"cpu_s": 1, "wall_factor": 20.0}))
    assert verdict.correct, verdict.detail


@pytest.mark.usefixtures("box")
def test_it_stops_at_the_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    complete = code_run.run

    def counting(*given: Any, **named: Any) -> Any:
        started.append(1)
        return complete(*given, **named)

    monkeypatch.setattr(code_run, "run", counting)
    judged({"tests": [*SUM, *SUM, *SUM]}, "print(3)")
    assert len(started) == 2


@pytest.mark.usefixtures("box")
def test_scripts_share_nothing_and_calls_share_a_process() -> None:
    script = "import os\nprint(os.path.exists('seen'))\nopen('seen', 'w').close()"
    assert judged({"tests": [{"input": "", "output": "False"}] * 2}, script).correct
    program = "seen = []\ndef f():\n    seen.append(1)\n    return len(seen)"
    assert judged({"tests": {"fn_name": "f", "inputs": [[], []], "outputs": [1, 2]}}, program).correct
    fresh = "class Solution:\n    def __init__(self): self.n = 0\n    def f(self):\n        self.n += 1\n        return self.n"
    assert judged({"tests": {"fn_name": "f", "inputs": [[], []], "outputs": [1, 1]}}, fresh).correct


@pytest.mark.usefixtures("box")
def test_expected_outputs_never_go_in(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "expectedsecret"
    given: list[bytes] = []
    complete = code_run.run

    def watching(box: Any, source: bytes, **named: Any) -> Any:
        given.extend((source, named["payload"], named.get("stdin", b"")))
        return complete(box, source, **named)

    monkeypatch.setattr(code_run, "run", watching)
    judged({"tests": [{"input": "1", "output": secret}]}, "print(1)")
    judged({"tests": {"fn_name": "f", "inputs": [[1]], "outputs": [secret]}}, "def f(x): return x")
    judged({"tests": {"entry_point": "f", "inputs": [[1]], "expected": [secret]}}, "def f(x): return x")
    published = f"def check(candidate):\n    inputs = [[1]]\n    results = ['{secret}']\n"
    judged({"tests": {"entry_point": "f", "test": published}}, "def f(x): return x")
    assert len(given) == 12
    assert not any(secret.encode() in data for data in given)


@pytest.mark.usefixtures("box")
def test_a_published_test_is_run_without_the_program_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    code_run._trusted.cache_clear()
    given = []
    complete = code_run.run

    def watching(box: Any, source: bytes, **named: Any) -> Any:
        given.append(named["payload"])
        return complete(box, source, **named)

    monkeypatch.setattr(code_run, "run", watching)
    for _ in range(2):
        assert judged({"tests": REFERENCE}, "def area(r): return 3.141592653589793 * r * r  # mine").correct
    assert [(b"ref_func" in payload, b"mine" in payload) for payload in given] == [
        (True, False),
        (False, True),
        (False, True),
    ]


@pytest.mark.usefixtures("box")
def test_the_checkers_own_failure_is_not_the_programs() -> None:
    tests = {"tests": SUM, "checker": "while True: pass"}
    verdict = judged(tests, "print(3)", SMALL.model_copy(update={"cpu_s": 1, "wall_factor": 15.0}))
    assert verdict.status == "crashed"
    # on a busy machine the wall-clock limit may come first
    assert re.search(r"the checker did not judge \((cpu|wall)\)", verdict.detail)


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("said", "status"),
    [
        *((said, "correct") for said in ("1", "0.5", "True", "ok\nyes")),
        *((said, "wrong") for said in ("0", "no", "", "nan")),
    ],
)
def test_what_a_checker_says(said: str, status: str) -> None:
    assert judged({"tests": SUM, "checker": f"print({said!r})"}, "print(3)").status == status


def test_a_sandbox_that_fails_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **named: Any) -> Any:
        raise SandboxError("no walls here")

    monkeypatch.setattr(code, "require_isolation", refuse)
    verdict = judged({"tests": SUM}, "print(3)")
    assert (verdict.status, verdict.detail) == ("crashed", "no walls here")
    with pytest.raises(SandboxError, match="no walls here"):
        prepare(SMALL)


@pytest.mark.usefixtures("box")
def test_a_program_that_did_not_start_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    box = code._box(SMALL)
    monkeypatch.setattr(code, "_box", lambda params: replace(box, bubblewrap="/no/bwrap"))
    for tests in (SUM, CALL):
        verdict = judged({"tests": tests}, "print(3)")
        assert verdict.status == "crashed"
        assert "the sandbox did not start" in verdict.detail


@pytest.mark.usefixtures("box")
def test_options() -> None:
    cut = "```python\nprint(sum(map(int, input().split())))\n"
    assert judged({"tests": SUM}, cut, SMALL.model_copy(update={"allow_unterminated": True})).correct
    bare = SMALL.model_copy(update={"preamble": False})
    assert "NameError" in judged({"tests": SUM}, "x: List[int] = []", bare).detail
    other = SMALL.model_copy(update={"wrong_reward": -1.0, "correct_reward": 2.0})
    assert [judged({"tests": SUM}, text, other).reward for text in (RIGHT, "print(3)", "`")] == [2.0, -1.0, -1.0]
    longest = SMALL.model_copy(update={"max_tests": 1})
    assert judged({"tests": SUM}, "print(6)", longest).correct  # "10 -4" is the longest input
    yes = {"tests": [{"input": "", "output": "NO"}]}
    assert not judged(yes, "print('YES')").correct
    assert judged(yes, "print('YES')", SMALL.model_copy(update={"compare": "compat"})).correct
    third = {"tests": {"fn_name": "f", "inputs": [[]], "outputs": [0.3333333]}}
    assert judged(third, "def f(): return 1 / 3").correct
    assert not judged(third, "def f(): return 1 / 3", SMALL.model_copy(update={"compare": "lcb"})).correct


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("info", "fault"),
    [
        ({"tests": SUM}, None),
        ({"tests": SUM, "solution": RIGHT}, None),
        ({"tests": SUM, "solution": "print(sum(map(int, input().split())))"}, None),
        ({"tests": CALL, "solution": "def add(a, b): return a + b"}, None),
        ({"tests": SUM, "solution": "print(3)"}, "own solution fails: test 2 of 2: wrong answer"),
        ({"tests": []}, "no tests"),
        ({"tests": "[", "solution": "print(3)"}, "cannot be read"),
    ],
)
def test_gold_faults(info: dict[str, Any], fault: str | None) -> None:
    found = gold_fault(Problem(id="x", prompt="", info=info), SMALL)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_the_contract() -> None:
    reward = rewards.load(Choice.model_validate({"name": "code", "total_s": 50}))
    assert reward.slow
    assert reward.limit_s == limit_s(reward.params) > 50
    problem = Problem(id="x", prompt="", info={"tests": SUM})
    verdict = fast_verdict("no code", problem, SMALL)
    assert verdict is not None
    assert verdict.status == "no_answer"
    assert fast_verdict(RIGHT, problem, SMALL) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\nx\n```", "x"),
        ("```python\nx\n\ny\n```", "x\n\ny"),
        ("1. So:\n\n   ```py\n   if x:\n\n     y\n   ```", "if x:\n\n  y"),  # in a list: loses the fence's indentation
        ("  ```py\n  # a\n  x = '''\nb\n  c'''\n  ```", "# a\nx = '''\nb\nc'''"),
        ("  ```py\ndef f():\n  x\n  ```", "def f():\n  x"),  # only the fence is indented
        ("  ```py\n  # a\ndef f():\n  x\n  ```", "  # a\ndef f():\n  x"),
        ("```python 3\nx\n```", "x"),  # the first word marks it
        ('```python title="a.py"\nx\n```', "x"),
        ("```python\nx\n```\n```bash -x\nls\n```", "x"),
        ("```python\nx\n``` y z\n```", "x\n``` y z"),  # code: what ends a block has no words
        ("```python\nx\n```text y z\n```", "x\n```text y z"),
        ("```python\nx\n```python 3\ny\n```", "y"),
        ("````python\n```\nx\n````", "```\nx"),  # a longer fence holds shorter ones
        ("```python\nx\n```\n```bash\nls\n```", "x"),
        ("```bash\nls", None),
        ("```python\nx\n```\n```bash\nls", "x"),  # a block that is not Python may be cut off
        ("```python\nx", None),
        ("no ```python\nx\n```", None),  # a fence stands on a line of its own
        ("<think>```\na\n```</think>\n```\nb\n```", "b"),
        ("", None),
    ],
)
def test_extraction(text: str, expected: str | None) -> None:
    assert extract(text) == expected


def test_extraction_is_linear() -> None:
    assert extract("```python\n" * 100_000) is None


@pytest.mark.parametrize(
    ("rule", "expected", "got", "same"),
    [
        ("tokens", "1 2\n3", b"1\n2 3\n", True),
        ("tokens", "1", b"2", False),
        ("tokens", "1.5", b"1.5000004", True),
        ("tokens", "1.5", b"1.51", False),
        ("tokens", "0.0", b"1e-7", True),
        ("tokens", "2.0", b"2", True),
        ("tokens", "2", b"2.0", False),
        ("tokens", "+5", b"5", False),
        ("tokens", "1000000.0", b"1000000.9", True),  # 0.9 of a million is within 1e-6
        ("tokens", "1000000", b"1000001", False),
        ("tokens", "1e5", b"100000", True),
        ("tokens", "abc", b"abd", False),
        ("tokens", "nan", b"nan", True),
        ("tokens", "1.0", b"nan", False),
        ("tokens", "1e999", b"2e999", False),  # both are infinite as floats
        ("tokens", "1e999", b"10e998", True),
        ("tokens", "1e999", b"inf", False),
        ("tokens", "0.5", b"1" * 200_000 + b"x", False),  # once quadratic
        ("tokens", "0.5", b"0.5" + b"0" * 500, False),  # no decimal that anyone writes
        ("tokens", "", b"", True),
        ("tokens", "", b"x", False),
        ("tokens", "ü", "ü".encode(), True),
        ("tokens", "ü", b"\xfc", False),
        ("tokens", "�", b"\xff", False),
        ("tokens", "a\u00a0b", b"a b", False),
        ("lcb", "1 2\n3", b" 1 2 \n3\n\n", True),
        ("lcb", "1 2\n3", b"1\n2 3", False),
        ("lcb", "1\n2", b"1\n\n2", False),
        ("lcb", "1.50", b"1.5", True),
        ("lcb", "1.5", b"1.5000001", False),
        ("lcb", "50000000000000000", b"50000000000000001", False),
        ("lcb", "YES", b"yes", False),
        ("lcb", "1  2", b"1 2", True),
        ("lcb", "a  b", b"a b", False),
        ("lcb", "\ufffd", b"\xff", False),
        ("compat", "NO", b"YES", True),  # the published fault
        ("compat", "foo bar", b"hello world", True),
        ("compat", "foo bar", b"hello", False),
        ("compat", "100000", b"100001", True),
        ("compat", "1\n2", b"2\n1", True),
        ("compat", "12\n34", b"34\n12", False),
        ("compat", "1 2", b"1 3", False),
        ("compat", "1\n2\n3", b"123", True),  # characters taken for lines
        ("compat", "5", b"7", False),
        ("compat", "", b"", True),
    ],
)  # fmt: skip
def test_text_rules(rule: str, expected: str, got: bytes, same: bool) -> None:
    assert TEXT_RULES[rule](expected, got, EXACT) is same


@pytest.mark.parametrize(
    ("expected", "got", "strict", "same"),
    [
        (1, 1, False, True),
        (1, 2, False, False),
        (1, 1.0, False, True),
        (1, 1.0000001, False, False),
        (1.0, 1.0000001, False, True),
        (1.0, 1, False, True),
        (1.0, 10**400, False, False),
        (True, 1, False, True),
        (True, "True", False, False),
        ([1, 2], (1, 2), False, True),
        ([1, 2], (1, 2), True, False),
        ([1, 2], [2, 1], False, False),
        ([1, 2], [1, 2, 3], False, False),
        ([1], {1}, False, False),
        ({1, 2}, {2, 1}, True, True),
        ({"1": 2}, {1: 2}, False, True),
        ({"1": 2}, {1: 2}, True, False),
        ({"true": 1}, {True: 1}, False, True),
        ({"a": 1.0}, {"a": 1.0 + 1e-9}, True, True),
        ({"a": 1}, {"b": 1}, False, False),
        ([[1.0]], [[1.0 + 1e-9]], False, True),
        ({"1": 2}, {1: 2, "x": 3}, False, False),
        ("a", "a", False, True),
        ("a", b"a", False, False),
        (None, None, False, True),
        (None, 0, False, False),
        (float("nan"), float("nan"), False, True),
        (float("inf"), float("-inf"), False, False),
    ],
)
def test_values(expected: Any, got: Any, strict: bool, same: bool) -> None:
    assert same_value(expected, got, EXACT, strict=strict) is same


@pytest.mark.usefixtures("box")
def test_values_cross_the_wall_unchanged() -> None:
    values = [
        None, True, 0, -5, 2**63, -(10**5000), 0.1, -0.0, 1e300, float("inf"), "", "a\n\"\\\0ü\ud800", b"\0\xff", 1 + 2j,
        [], (), {}, set(), [1, [2, (3, {4})]], {"a": {1: (2,)}}, frozenset({(1, 2)}), {(1, 2): [3]},
    ]  # fmt: skip
    judge = code_run.Judge.start(code._box(SMALL), SMALL)
    got, ended = judge._call("def same(x): return x", "same", [[value] for value in values if value != -(10**5000)])
    assert ended.ending == "ok"
    assert [repr(value) for value in got] == [repr(value) for value in values if value != -(10**5000)]
    assert judge._call("def f(): return -10**5000", "f", [[]])[0] == [-(10**5000)]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "nonsense",
            "{}",
            "[" * 100_000,
            "9" * 5000,
            '{"tuple":1}',
            '{"set":[[]]}',
            '{"int":"x"}',
            '{"float":"x"}',
        ),
        "[" * 150 + "]" * 150,
        '{"set":[' + ",".join(str(n * (2**61 - 1)) for n in range(20_000)) + "]}",  # one hash for all
        '{"dict":[' + ",".join(f"[{n * (2**61 - 1)},0]" for n in range(20_000)) + "]}",
        *('{"other":1}', '{"a":1,"b":2}', '{"dict":[[1]]}', '{"dict":[[[],1]]}'),
    ],
)
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(code_values.UnreadableValueError):
        code_values.value_of(text.encode())


def test_shapes_are_read_into_one() -> None:
    def tests(raw: Any, **info: Any) -> Any:
        return read_tests(Problem(id="x", prompt="", info={"tests": raw, **info}))

    pipes = (PipeTest("1 2\n", "3\n"), PipeTest("10 -4\n", "6\n"))
    for raw in (SUM, SUM_TACO, json.dumps(SUM), json.dumps(SUM_TACO), str(SUM), str(SUM_TACO)):
        assert tests(raw).pipes == pipes
    assert tests(CALL).calls == (CallTest([1, 2], (3,)), CallTest([10, -4], ([6], 6)))
    assert tests(CALL).function == "add"
    assert tests(json.dumps(CALL)).calls == tests(str(CALL)).calls == tests(CALL).calls
    functional = [{"input": "[1]\n2", "output": "3", "testtype": "functional"}]
    assert tests(functional, fn_name="f").calls == (CallTest([[1], 2], (3,)),)
    with pytest.raises(UnreadableTestsError, match="do not name it"):
        tests(functional)


def test_the_longest_inputs_are_kept_in_their_order() -> None:
    raw = [{"input": "x" * n, "output": str(n)} for n in (3, 1, 5, 4)]
    kept = code_run.longest(read_tests(Problem(id="x", prompt="", info={"tests": raw})), 2)
    assert [test.expected for test in kept.pipes] == ["5", "4"]


def test_settings_are_checked() -> None:
    for wrong in ({"cpu_s": 0}, {"compare": "exact"}, {"max_tests": 0}, {"unsafe_mode": True}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Params.model_validate(wrong)


@pytest.mark.usefixtures("box")
def test_in_the_pool_of_workers() -> None:
    """As training calls it: other processes, some completions decided before, gold checked."""
    choice = Choice.model_validate({"name": "code", "cpu_s": 1, "wall_factor": 2})
    good, bad, hanging = (f"```\n{program}\n```" for program in (RIGHT[10:-4], "print(3)", "while True: pass"))
    problems = [
        Problem(id=str(number), prompt="", info=info) for number, info in enumerate(({"tests": SUM}, {"tests": []}))
    ]
    with Verifier(choice, VerifySettings(workers=2)) as verifier:
        verdicts = verifier.judge([(text, problems[0]) for text in (good, hanging, bad, "none", good)])
        assert [verdict.status for verdict in verdicts] == ["correct", "wrong", "wrong", "no_answer", "correct"]
        assert verifier.gold_faults(problems) == [None, "the problem has no tests"]


@pytest.mark.usefixtures("box")
def test_installed_packages_can_be_allowed() -> None:
    import numpy

    folder = str(Path(numpy.__file__).parent.parent)
    program = "import numpy as np\ndef add(a, b): return np.array([a, b]).sum()"
    assert "ModuleNotFoundError" in judged({"tests": CALL}, program).detail
    try:
        prepare(named := SMALL.model_copy(update={"packages": (folder,), "memory_mib": 1024}))
    except SandboxError:
        pytest.skip("the folder of installed packages is not readable by every user")
    verdict = judged({"tests": CALL}, program, named)
    if "ImportError" in verdict.detail:
        pytest.skip("the packages were built for another Python")
    assert verdict.correct, verdict.detail


def test_many_members_that_are_cheap_are_read() -> None:
    text = '{"set":[' + ",".join(map(str, range(20_000))) + "]}"
    assert code_values.value_of(text.encode()) == set(range(20_000))


@pytest.mark.usefixtures("box")
def test_a_value_made_to_break_the_comparison_is_wrong() -> None:
    info = {"tests": [{"input": "1", "output": '{"1": 1}', "fn_name": "f"}]}
    verdict = score("```python\ndef f(n):\n    return {10**5000: 1}\n```", Problem(id="p", prompt="", info=info), SMALL)
    assert verdict.status == "wrong"


WRITES_ALL = """
import os, sys, time
for descriptor in range(3, 1000):
    try: os.write(descriptor, b'{{"value":3}}\\n{{"value":6}}\\n')
    except OSError: pass
{then}
"""


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("time.sleep(60)", "after the last test: more time than allowed"),
        ("while True: pass", "after the last test: more"),
        ("os.abort()", "after the last test: runtime error (exit code 134)"),
        ("1 / 0", "after the last test: runtime error (exit code 1): ZeroDivisionError: division by zero"),
        ("x = bytearray(2**30)", "after the last test: more memory than allowed"),
    ],
)
def test_all_values_written_and_then_no_good_end(then: str, reason: str) -> None:
    verdict = judged({"tests": CALL}, WRITES_ALL.format(then=then), SMALL.model_copy(update={"cpu_s": 1}))
    assert verdict.status == "wrong"
    assert verdict.detail.startswith(reason)


@pytest.mark.parametrize(
    ("expected", "got", "near"),
    [
        ("0.0000001", b"0", False),  # 1e-7 away: more than the floor of 1e-9, and all of the expected number
        ("0.0000001", b"0.00000010000005", True),
        ("0.0", b"0.0000000009", True),
        ("0.0", b"0.0000000011", False),
        ("1.5", b"1.5000014", True),  # 1e-6 of 1.5
        ("1.5", b"1.5000016", False),
        ("1e12", b"1000000900000", True),
    ],
)
def test_the_default_tolerance_is_relative_with_a_floor(expected: str, got: bytes, near: bool) -> None:
    default = Params()
    tolerance = Tolerance(default.absolute_tolerance, default.relative_tolerance)
    assert TEXT_RULES["tokens"](expected, got, tolerance) is near
    assert same_value(float(expected), float(got), tolerance, strict=False) is near
