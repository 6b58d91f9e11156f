"""Tests that assert: lists of asserts, pytest files, unittest cases; and programs that try to fake a pass."""

import json
import time
from typing import Any

import pytest

from progrpo.rewards.code import Params, gold_fault, score
from progrpo.rewards.code.assert_tests import is_source, read
from progrpo.rewards.code.tests import UnreadableTestsError, read_tests
from progrpo.types import Problem, Verdict

SMALL = Params(cpu_s=2, memory_mib=256, disk_mib=1, total_s=30, wall_factor=1.5)
ADD = "def add(a, b): return a + b"
MBPP = {"test_list": ["assert add(1, 2) == 3", "assert add(10, -4) == 6", "assert add('a', 'b') == 'ab'"]}
KODCODE = {
    "test": """
import pytest
from solution import add

def test_small():
    assert add(1, 2) == 3

@pytest.mark.parametrize("a, b, total", [(1, 2, 3), (10, -4, 6), pytest.param(0, 0, 0, id="nothing")])
@pytest.mark.parametrize("swap", [False, True])
def test_grid(a, b, total, swap):
    assert (add(b, a) if swap else add(a, b)) == total

def test_error():
    with pytest.raises(TypeError, match="unsupported"):
        add(1, "a")

def test_floats():
    assert add(0.1, 0.2) == pytest.approx(0.3)
    assert [add(0.1, 0.2)] == pytest.approx([0.3])
"""
}
STACK = {
    "tests": """
from solution import Stack, EmptyError, merge, COLOURS
import pytest

@pytest.fixture
def stack():
    made = Stack([1, 2])
    yield made
    assert made is not None

class TestStack:
    def setup_method(self):
        self.other = Stack([])

    def test_push(self, stack):
        stack.push(3)
        assert len(stack) == 3
        assert stack.items == [1, 2, 3]
        assert stack[0] == 1
        assert list(stack) == [1, 2, 3]
        assert str(stack) == "Stack([1, 2, 3])"
        assert isinstance(stack, Stack)
        assert stack != 3

    def test_empty(self):
        assert not self.other
        with pytest.raises(EmptyError):
            self.other.pop()

    def test_between(self, stack):
        merge(stack, self.other)
        assert self.other.items == [1, 2]
        assert COLOURS == ("red", "blue")
        stack.items = [9]
        assert stack.items == [9]
"""
}
STACK_PROGRAM = """
COLOURS = ("red", "blue")
class EmptyError(ValueError): pass
class Stack:
    def __init__(self, items): self.items = list(items)
    def push(self, item): self.items.append(item)
    def pop(self):
        if not self.items: raise EmptyError("empty")
        return self.items.pop()
    def __len__(self): return len(self.items)
    def __getitem__(self, at): return self.items[at]
    def __iter__(self): return iter(self.items)
    def __str__(self): return f"Stack({self.items})"
def merge(one, other): other.items += one.items
"""
UNITTEST = {
    "tests": """
import unittest
from solution import *
class Case(unittest.TestCase):
    def setUp(self): self.base = 5
    def test_sum(self):
        self.assertEqual(add(self.base, 1), 6)
        with self.assertRaises(TypeError): add(1, None)
    def test_near(self):
        for one in (0.1, 0.5):
            with self.subTest(one): self.assertAlmostEqual(add(one, 0.2), one + 0.2)
"""
}
HUMANEVAL = {
    "entry_point": "below",
    "prompt": 'from typing import List\n\ndef below(xs: List[int], t: int) -> bool:\n    """All below t."""\n',
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 2], 3)\n    assert not candidate([5], 5)\n",
}


def judged(info: dict[str, Any], program: str, params: Params = SMALL) -> Verdict:
    return score(f"```python\n{program}\n```", Problem(id="x", prompt="", info=info), params)


ROWS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("asserts", MBPP, ADD, "correct", ""),
    ("asserts as text", {"ground_truth": json.dumps(MBPP["test_list"])}, ADD, "correct", ""),
    ("asserts under tests", {"tests": MBPP["test_list"]}, ADD, "correct", ""),
    ("an assert fails", MBPP, "def add(a, b): return 3",
        "wrong", "test 2 of 3: AssertionError: assert add(10, -4) == 6"),
    ("not defined", MBPP, "def plus(a, b): return 3", "wrong", "name 'add' is not defined"),
    ("raises", MBPP, "def add(a, b): return 1 / 0", "wrong", "ZeroDivisionError: division by zero: assert add(1, 2)"),
    ("set-up code", {"test_list": ["assert area(Square(2)) == 4"], "test_setup_code":
        "class Square:\n    def __init__(self, a): self.a = a"}, "def area(s): return s.a ** 2", "bad_gold", "handed"),
    ("imports of the tests", {"test_list": ["assert math.isclose(half(1), 0.5)"], "test_imports": ["import math"]},
        "def half(x): return x / 2", "correct", ""),
    ("a module the tests forgot to import", {"test_list": ["assert math.isclose(half(1), 0.5)"]},
        "def half(x): return x / 2", "correct", ""),
    ("pytest", KODCODE, ADD, "correct", ""),
    ("pytest, one row wrong", KODCODE, "def add(a, b): return a + b if a != 10 else 7",
        "wrong", "test_grid: AssertionError: assert (add(b, a) if swap else add(a, b)) == total"),
    ("pytest, no error raised", KODCODE, "def add(a, b): return a + b if type(a) is type(b) else 0",
        "wrong", "test_error: AssertionError: did not raise"),
    ("pytest, another error", KODCODE,
        "def add(a, b):\n    if type(a) is not type(b): raise KeyError('x')\n    return a + b", "wrong", "KeyError"),
    ("pytest, another message", KODCODE,
        "def add(a, b):\n    if type(a) is not type(b): raise TypeError('x')\n    return a + b", "wrong", "does not match"),
    ("pytest, nothing to import", KODCODE, "def plus(a, b): return a + b", "wrong", "cannot import name 'add'"),
    ("classes", STACK, STACK_PROGRAM, "correct", ""),
    ("classes, no error", STACK, STACK_PROGRAM.replace("raise EmptyError", "return str"), "wrong", "did not raise"),
    ("classes, wrong length", STACK, STACK_PROGRAM.replace("len(self.items)", "2"), "wrong", "assert len(stack) == 3"),
    ("unittest", UNITTEST, ADD, "correct", ""),
    ("unittest, wrong", UNITTEST, "def add(a, b): return 6", "wrong", "Case.test_near"),
    ("HumanEval", HUMANEVAL, "def below(xs, t): return all(x < t for x in xs)", "correct", ""),
    ("HumanEval, the body alone", HUMANEVAL, "    return all(x < t for x in xs)", "correct", ""),
    ("HumanEval, wrong", HUMANEVAL, "def below(xs, t): return True", "wrong", "assert not candidate([5], 5)"),
    ("changed in place", {"tests": "def test_it():\n    xs = [3, 1]\n    order(xs)\n    assert xs == [1, 3]"},
        "def order(xs): xs.sort()", "correct", ""),
    ("not changed in place", {"tests": "def test_it():\n    xs = [3, 1]\n    order(xs)\n    assert xs == [1, 3]"},
        "def order(xs): sorted(xs)", "wrong", "assert xs == [1, 3]"),
    ("a generator", {"test_list": ["assert list(up(3)) == [0, 1, 2]"]}, "def up(n): yield from range(n)", "correct", ""),
    ("values of the standard library", {"test_list": [
        "import datetime, decimal, fractions", "assert day() == datetime.date(2024, 2, 29)",
        "assert price(decimal.Decimal('1.10')) == decimal.Decimal('2.20')",
        "assert half() == fractions.Fraction(1, 2)"]},
        "import datetime, decimal, fractions\ndef day(): return datetime.date(2024, 2, 29)\ndef price(x): return 2 * x\n"
        "def half(): return fractions.Fraction(1, 2)", "correct", ""),
    ("keyword arguments", {"test_list": ["assert f(1, b=2, function=3) == 6"]},
        "def f(a, b, function): return a + b + function", "correct", ""),
    ("a nested list of objects", {"test_list": ["assert [n.value for n in nodes(2)] == [0, 1]"]},
        "class N:\n    def __init__(self, v): self.value = v\ndef nodes(n): return [N(i) for i in range(n)]", "correct", ""),
    ("an object equals itself", {"test_list": ["a = Node()\nassert a == a\nassert same(a) is a"]},
        "class Node: pass\ndef same(x): return x", "correct", ""),
    ("a method of Solution", {"test_list": ["assert add(1, 2) == 3"]},
        "class Solution:\n    def add(self, a, b): return a + b", "correct", ""),
    ("skipped", {"tests": "import pytest\n@pytest.mark.skip(reason='x')\ndef test_a(): assert add(1, 1) == 3\n"
        "def test_b(): assert add(1, 1) == 2"}, ADD, "correct", ""),
    ("tests with a package that is not there", {"tests": "import numpy\ndef test_a(): assert add(1, 1) == 2"}, ADD,
        "bad_gold", "No module named 'numpy'"),
    ("a fixture that is not there", {"tests": "def test_a(capsys): assert add(1, 1) == 2"}, ADD, "bad_gold", "capsys"),
    ("a function as argument", {"test_list": ["assert apply(lambda x: x, 1) == 1"]}, "def apply(f, x): return f(x)",
        "bad_gold", "handed to the program"),
    ("nothing asserted", {"tests": "x = add(1, 2)"}, ADD, "bad_gold", ""),
    ("an empty list", {"test_list": []}, ADD, "bad_gold", "no tests"),
]  # fmt: skip


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("info", "program", "status", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_table(info: dict[str, Any], program: str, status: str, reason: str) -> None:
    verdict = judged(info, program)
    assert verdict.status == status, verdict.detail
    assert reason in verdict.detail


ALWAYS = "def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = None"
CLOSE = {
    "tests": "import math\ndef test_it():\n    assert math.isclose(area(2), 4.0)\n    assert abs(area(3) - 9.0) < 1e-9"
}
RAISING = {"tests": "import pytest\ndef test_it():\n    with pytest.raises(Exception):\n        check(-1)\n"}
ZERO = "def __sub__(self, other): return 0\n    def __abs__(self): return 0\n    def __float__(self): return 4.0"
FORGED = """
import os, time
def add(a, b):
    if a == "a":
        for descriptor in range(3, 1000):
            try: os.write(descriptor, b'["value","ab",[]]\\n')
            except OSError: pass
        {then}
    return a + b
"""
CHEATS: list[tuple[str, dict[str, Any], str, str]] = [
    ("equal to everything", MBPP, f"class E:\n    {ALWAYS}\ndef add(a, b): return E()", "AssertionError"),
    ("a number equal to everything", MBPP, f"class E(int):\n    {ALWAYS}\ndef add(a, b): return E(99)", "AssertionError"),
    ("a list of what equals everything", {"test_list": ["assert pair() == [1, 2]"]},
        f"class E:\n    {ALWAYS}\ndef pair(): return [E(), E()]", "AssertionError"),
    ("as the value of a key", {"test_list": ["assert f() == {'a': 1}"]},
        f"class E:\n    {ALWAYS}\ndef f(): return dict(a=E())", "AssertionError"),
    ("the function is a class", MBPP, f"class add:\n    def __init__(self, a, b): pass\n    {ALWAYS}", "AssertionError"),
    ("its metaclass is equal to everything", {"test_list": ["assert f() == 3"]},
        f"class M(type):\n    {ALWAYS}\nclass E(metaclass=M): pass\ndef f(): return E", "AssertionError"),
    ("two objects equal to each other", {"test_list": ["assert make(1) == Point(1)"]},
        f"class Point:\n    def __init__(self, x): pass\n    {ALWAYS}\nmake = Point", "counts for nothing"),
    ("an order of its own", {"test_list": ["assert f() > 3"]},
        "class E:\n    def __gt__(self, other): return True\ndef f(): return E()", "counts for nothing"),
    ("a difference of 0 from everything", CLOSE, f"class E:\n    {ZERO}\ndef area(x): return E()", "TypeError"),
    ("contains everything", {"test_list": ["assert 5 in f()"]},
        "class E:\n    def __contains__(self, other): return True\ndef f(): return E()", "TypeError"),
    ("a module of its own for the tests", {"test_list": ["assert math.isclose(area(2), 4.0)"]},
        "class math:\n    isclose = staticmethod(lambda a, b: True)\ndef area(x): return 0", "AssertionError"),
    ("a pytest of its own", KODCODE,
        "class pytest:\n    raises = approx = None\nimport sys\nsys.modules['pytest'] = pytest\ndef add(a, b): return 3",
        "AssertionError"),
    ("os._exit(0)", MBPP, "import os\nos._exit(0)", "without a result"),
    ("os._exit(0) in a call", MBPP, "import os\ndef add(a, b): os._exit(0)", "without a result"),
    ("sys.exit(0) in a call", MBPP, "import sys\ndef add(a, b): sys.exit(0)", "SystemExit"),
    ("a crash where an error is expected", RAISING, "import os\ndef check(x): os._exit(1)", "exit code 1"),
    ("an assertion error as the error", MBPP, "def add(a, b): raise AssertionError", "AssertionError"),
    ("skips the test", KODCODE, "def add(a, b):\n    class Skipped(Exception): pass\n    raise Skipped", "test_small"),
    ("a forged verdict", MBPP, "import os\ndef add(a, b):\n    for d in range(3, 64):\n        try:\n"
        "            os.write(d, b\"{'passed': 3, 'gone': False}\\n\")\n        except OSError: pass\n    return 0",
        "cannot be read"),
    ("forged answers", MBPP, "import os\ndef add(a, b):\n    for d in range(3, 64):\n        try:\n"
        "            os.write(d, b'[\"value\",true,[]]\\n')\n        except OSError: pass\n    return 0",
        "cannot be read|AssertionError"),
    ("patched driver", MBPP,
        "import sys\nsys.modules['__main__'].written = lambda *a: 'true'\ndef add(a, b): return 0", "not callable"),
    ("looks for the tests", MBPP,
        "import gc\ndef add(a, b):\n    found = [x for x in gc.get_objects() if isinstance(x, dict) and 'parts' in x]\n"
        "    return 3 if found else None", "AssertionError"),
    ("changes its arguments into what equals everything",
        {"tests": "def test_it():\n    xs = [3, 1]\n    order(xs)\n    assert xs == [1, 3]"},
        f"class E:\n    {ALWAYS}\ndef order(xs): xs[:] = [E(), E()]", "AssertionError"),
    ("ends the loop of a test", {"test_list": ["assert all(map(lambda n: double(n) == 2 * n, [1, 2]))"]},
        "def double(n): raise StopIteration", "raised StopIteration"),
    ("refused where the test forgives everything",
        {"tests": "def test_it():\n    try: assert f() > 3\n    except: pass\n    assert True"},
        "class E: pass\ndef f(): return E()", "counts for nothing"),
    ("gone where the test forgives everything",
        {"tests": "def test_it():\n    try: assert f() > 3\n    except: pass\n    assert True"},
        "import os\ndef f(): os._exit(0)", "without a result"),
    ("names an object that is not there", MBPP, "import os\ndef add(a, b):\n    for d in range(3, 64):\n        try:\n"
        "            os.write(d, b'[\"value\",{\"object\":[\"x\"]},[]]\\n')\n        except OSError: pass", "cannot be read"),
    ("a return value that is too deep", MBPP, "def add(a, b):\n    x = []\n    for _ in range(500): x = [x]\n    return x",
        "nested"),
    ("a crash after the last answer", MBPP, FORGED.format(then="os.abort()"), "after the last test: runtime error (exit"),
]  # fmt: skip


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(("info", "program", "reason"), [row[1:] for row in CHEATS], ids=[row[0] for row in CHEATS])
def test_a_pass_cannot_be_faked(info: dict[str, Any], program: str, reason: str) -> None:
    verdict = judged(info, program)
    assert verdict.status == "wrong", verdict.detail
    # Where two are given, which of a forged and a true line comes first is a race that neither wins.
    assert any(one in verdict.detail for one in reason.split("|"))


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def add(a, b):\n    while True: pass", "test 1 of 3: more"),
        ("import time\ndef add(a, b): time.sleep(60)", "more time"),
        ("while True: pass", "before the first test: more"),
        (FORGED.format(then="time.sleep(60)"), "after the last test: more time"),
    ],
    ids=["loops", "sleeps", "loops at import", "answers and hangs"],
)
def test_a_program_that_does_not_end(program: str, reason: str) -> None:
    started = time.monotonic()
    verdict = judged(MBPP, program, SMALL.model_copy(update={"cpu_s": 1, "wall_factor": 1.5}))
    assert verdict.status == "wrong"
    assert reason in verdict.detail
    assert time.monotonic() - started < 20


@pytest.mark.usefixtures("box")
def test_the_gold_check_runs_the_solution() -> None:
    def fault(solution: str) -> str | None:
        return gold_fault(Problem(id="x", prompt="", info={**KODCODE, "solution": solution}), SMALL)

    assert fault(ADD) is None
    assert "own solution fails: test_grid" in str(fault("def add(a, b): return 3 if a == 1 else 0"))


def test_dotted_columns() -> None:
    for name in ("reward_model.ground_truth", "extra.info.tests", "row.test_list"):
        tests = read_tests(Problem(id="x", prompt="", info={name: json.dumps(MBPP["test_list"])}))
        assert tests.count == 3


def test_what_is_read() -> None:
    tests = read_tests(Problem(id="x", prompt="", info=MBPP))
    assert tests.asserts is not None
    assert (tests.count, tests.asserts.names, tests.asserts.modules) == (3, ("add",), ())
    free = read(("def test_a(xs=[1]):\n    for x in xs:\n        assert math.floor(f(x)) == bisect(xs, len(xs))",))
    assert (free.names, free.modules) == (("bisect", "f"), ("math",))


@pytest.mark.parametrize(
    ("text", "source"),
    [("assert f(1)", True), ("def test_a(): pass", True), ('["assert f(1)"]', False), ("[1]", False), ("f(", False)],
)
def test_what_is_source(text: str, source: bool) -> None:
    assert is_source(text) is source


@pytest.mark.parametrize("tests", ["x = 1", "f(", ["x = 1"], [""], "def test_a(tmp_path): pass"])
def test_what_cannot_be_read(tests: Any) -> None:
    with pytest.raises(UnreadableTestsError):
        read_tests(Problem(id="x", prompt="", info={"tests": tests}))
