"""Tests that assert count only what was executed: a row in which no assertion ran is never a pass, whatever the program."""

from typing import Any

import pytest

from progrpo.rewards.code import Params, score
from progrpo.rewards.code.assert_marks import NAMES, compiled, count
from progrpo.rewards.code.tests import UnreadableTestsError, read_tests
from progrpo.types import Problem, Verdict

SMALL = Params(cpu_s=2, memory_mib=256, disk_mib=1, total_s=30, wall_factor=1.5)
RIGHT = "def add(a, b):\n    if a < 0: raise ValueError\n    return a + b"
WRONG = "def add(a, b): return 0"
HEAD = "import asyncio, unittest\nimport pytest\nfrom solution import add\n"
ADDS = "assert add(1, 2) == 3"


def judged(tests: Any, program: str) -> Verdict:
    tests = tests if isinstance(tests, list) else HEAD + tests
    return score(f"```python\n{program}\n```", Problem(id="x", prompt="", info={"tests": tests}), SMALL)


JUDGED: list[tuple[str, Any]] = [
    # A coroutine that is made and not run asserts nothing.
    ("a coroutine", f"async def test_a():\n    await asyncio.sleep(0)\n    {ADDS}"),
    ("a coroutine in a class", f"class TestA:\n    async def test_a(self):\n        {ADDS}"),
    ("a coroutine of a TestCase", f"class T(unittest.TestCase):\n    async def test_a(self):\n        {ADDS}"),
    ("IsolatedAsyncioTestCase", "class T(unittest.IsolatedAsyncioTestCase):\n    async def asyncSetUp(self): self.x = 1\n"
        "    async def test_a(self):\n        self.assertEqual(add(self.x, 2), 3)"),
    ("a coroutine sets up", "class TestA:\n    async def setup_method(self): self.x = 1\n    def test_a(self):\n"
        "        assert add(self.x, 2) == 3"),
    ("a coroutine with rows and a fixture", "@pytest.fixture\nasync def x():\n    return 1\n"
        "@pytest.mark.parametrize('y', [2, 3])\nasync def test_a(x, y):\n    assert add(x, y) == 1 + y"),
    # The first test of a name says nothing of the second.
    ("one name in two parts", ["def test_add():\n    assert add(0, 0) == 0", f"def test_add():\n    {ADDS}"]),
    # pytest runs what a class inherits, and the classes in it.
    ("inherited", f"class Base:\n    def test_a(self):\n        {ADDS}\nclass TestX(Base): pass\ndef test_b(): assert True"),
    ("inherited, with the parts it needs", "class Base:\n    def test_a(self):\n        assert add(self.x, 2) == 3\n"
        "class TestX(Base):\n    x = 1\ndef test_b(): assert True"),
    ("a class in a class", f"class TestX:\n    class TestY:\n        def test_a(self):\n            {ADDS}\n"
        "    def test_b(self): assert True"),
    ("a base that says it is no test", "class TestBase:\n    __test__ = False\n    def test_a(self):\n"
        "        assert add(self.x, 2) == 3\nclass TestX(TestBase):\n    __test__, x = True, 1"),
    ("a fixture nobody names", "class TestX:\n    @pytest.fixture(autouse=True)\n    def made(self): self.x = 1\n"
        "    def test_a(self): assert add(self.x, 2) == 3"),
    # An assertion in a function counts where the function is called.
    ("called in the same part", f"def check():\n    {ADDS}\ncheck()"),
    ("called in another part", ["def check(f):\n    assert f(1, 2) == 3", "check(add)"]),
    # What is not to be reached is checked where its block is begun.
    ("assert False after a call", "try:\n    add(-1, 2)\n    assert False\nexcept ValueError:\n    pass"),
    ("assert False in an else", "try:\n    add(-1, 2)\nexcept ValueError:\n    pass\nelse:\n    assert False"),
    ("assert False after a loop", "for i in range(4):\n    if add(i, 1) == 3: break\nelse:\n    assert False"),
    ("if and raise", f"if {ADDS[7:]}:\n    pass\nelif add(1, 1):\n    raise AssertionError\nelse:\n    raise AssertionError\n"
        "def test_a():\n    if add(1, 2) != 3: pytest.fail('x')"),
    # A failure that is swallowed did not hold; a right program still passes.
    ("swallowed", f"try:\n    {ADDS}\n    print('passed')\nexcept AssertionError:\n    print('failed')"),
    ("swallowed at the call", f"def check():\n    {ADDS}\ndef test_a():\n    try: check()\n    except Exception: print(1)"),
    ("swallowed, assert False", "try:\n    add(-1, 2)\n    assert False\nexcept Exception:\n    pass"),
    ("lost in a task", f"async def test_a():\n    async def check():\n        {ADDS}\n    asyncio.create_task(check())"),
    # A test that holds no assertion asks whether the program raises.
    ("no assertion", "def test_a():\n    try: add(-1, 2)\n    except ValueError: return\n    raise KeyError"),
]  # fmt: skip


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("tests", [row[1] for row in JUDGED], ids=[row[0] for row in JUDGED])
def test_what_is_executed_is_judged(tests: Any) -> None:
    right, wrong = judged(tests, RIGHT), judged(tests, WRONG)
    assert (right.status, wrong.status) == ("correct", "wrong"), (right.detail, wrong.detail)


NEVER: list[tuple[str, Any, str]] = [
    ("under if False", f"add(1, 2)\nif False:\n    {ADDS}", "no test that runs"),
    ("under if False in a test", f"def test_a():\n    add(1, 2)\n    if False:\n        {ADDS}", "no test that runs"),
    ("a loop over nothing", f"for _ in []:\n    {ADDS}", "no test that runs"),
    ("a loop over nothing in a test", f"def test_a():\n    r = add(1, 2)\n    for _ in []: {ADDS}", "no test that runs"),
    ("a loop over nothing in a case",
        "class T(unittest.TestCase):\n    def test_a(self):\n        r = add(1, 2)\n        for x in []: self.assertTrue(r)",
        "no test that runs"),
    ("a function nobody calls", f"def check():\n    {ADDS}", "no test that runs"),
    ("a function nobody calls, beside a test", f"def check():\n    {ADDS}\ndef test_a(): add(1, 2)", "no test that runs"),
    ("called as a script only", f"def check():\n    {ADDS}\nif __name__ == '__main__':\n    check()", "no test that runs"),
    ("as a script only", f"if __name__ == '__main__':\n    {ADDS}", "runs when it is imported"),
    ("no rows", f"@pytest.mark.parametrize('x', [])\ndef test_a(x):\n    {ADDS}", "no test that runs"),
    ("skipped midway", f"def test_a():\n    assert True\n    pytest.skip('x')\n    {ADDS}", "no test that runs"),
    ("nothing in it", "def test_a(): pass", "no test that runs"),
    ("a generator", f"def test_a():\n    yield\n    {ADDS}\ndef test_b():\n    {ADDS}", "a generator"),
    ("an asynchronous generator", f"async def test_a():\n    yield\n    {ADDS}", "a generator"),
    ("a generator of a case", f"class T(unittest.TestCase):\n    def test_a(self):\n        yield\n        {ADDS}", "a gen"),
    ("a fixture of pytest's in a fixture",
        f"@pytest.fixture(params=[1])\ndef x(request): return request.param\ndef test_a(x):\n    {ADDS}", "'request'"),
]  # fmt: skip


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(("tests", "reason"), [row[1:] for row in NEVER], ids=[row[0] for row in NEVER])
def test_what_is_never_executed_is_no_pass(tests: Any, reason: str) -> None:
    for program in (RIGHT, WRONG):
        verdict = judged(tests, program)
        assert verdict.status == "bad_gold", verdict.detail
        assert reason in verdict.detail


@pytest.mark.usefixtures("box")
def test_a_coroutine_of_the_program_is_not_awaited() -> None:
    """It would have to run in the program's loop, between what the tests do in theirs."""
    verdict = judged("async def test_a():\n    assert await add(1, 2) == 3", "async def add(a, b): return a + b")
    assert (verdict.status, "await what the program returns" in verdict.detail) == ("bad_gold", True)


CHEATS: list[tuple[str, str, str]] = [
    ("the marks' names", f"def test_a():\n    {ADDS}",
        "__all__ = ['add', '__held__', '__reached__']\ndef __held__(*a): pass\n__reached__ = __held__\n" + WRONG),
    ("the same, forged", "from solution import *\n" + ADDS,
        "import os\nfor d in range(3, 64):\n    try: os.write(d, b'[\"value\",[\"add\",\"__held__\"],[]]\\n' * 3)\n"
        "    except OSError: pass\n" + WRONG),
    ("a pytest of its own", "from solution import *\ndef test_a():\n    pytest.raises(ValueError, add, -1, 2)",
        "class pytest:\n    raises = staticmethod(lambda *a: None)\n" + WRONG),
    ("a loop of its own", f"async def test_a():\n    {ADDS}",
        "import asyncio\nasyncio.run = asyncio.Runner = lambda *a: None\nasyncio.set_event_loop_policy(None)\n" + WRONG),
    ("ends the loop of a coroutine", "class Each:\n    def __aiter__(self): return self\n    async def __anext__(self):\n"
        "        return add(1, 2)\nasync def test_a():\n    assert True\n    async for one in Each():\n        assert one\n"
        "        break", "def add(a, b): raise StopAsyncIteration"),
    ("cancels", f"async def test_a():\n    {ADDS}", "import asyncio\ndef add(a, b): raise asyncio.CancelledError"),
    ("ends before the assertion of a test that forgives",
        "def test_a():\n    try:\n        r = add(1, 2)\n        assert r == 3\n    except: pass",
        "import os\ndef add(a, b): os._exit(0)"),
    ("ends in a coroutine that forgives",
        "async def test_a():\n    await asyncio.gather(one(), return_exceptions=True)\n    assert True\n"
        f"async def one():\n    {ADDS}", "import os\ndef add(a, b): os._exit(0)"),
]  # fmt: skip


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(("tests", "program"), [row[1:] for row in CHEATS], ids=[row[0] for row in CHEATS])
def test_no_program_counts_as_tests(tests: str, program: str) -> None:
    verdict = judged(tests, program)
    assert verdict.status == "wrong", verdict.detail


@pytest.mark.parametrize(
    ("source", "held"),
    [
        ("assert 1", 1),
        ('"""Text."""\nfrom __future__ import annotations\nif 0: raise AssertionError', 1),  # __future__ stays first
        ("for _ in range(3):\n    assert 1", 3),
        ("try: assert 0\nexcept AssertionError: pass", 0),
        ("try:\n    assert not 1\nexcept AssertionError:\n    assert 2", 1),
        ("def f():\n    assert 1", 0),
        ("if 1: pass\nelif 2: assert False\nelse: assert False", 1),
        ("match 1:\n    case 2: assert False", 1),
        ("while 0:\n    assert False", 0),
    ],
)
def test_what_counts(source: str, held: int) -> None:
    before = count["held"]
    exec(compiled(source, "x.py"), dict(NAMES))
    assert count["held"] - before == held


def test_a_row_that_runs_as_a_script_only_is_seen_without_a_program() -> None:
    for test in ("__name__ == '__main__'", '"__main__" == __name__'):
        with pytest.raises(UnreadableTestsError, match="imported"):
            read_tests(Problem(id="x", prompt="", info={"tests": f"if {test}:\n    {ADDS}"}))


@pytest.mark.usefixtures("box")
def test_what_python_brings_is_no_programs_to_replace() -> None:
    """Tests with `from solution import *` would compare by a program's own `abs`; what is asked for by name is its own."""
    tests = "from solution import *\nassert abs(add(-2, -1)) == 3\nassert all(add(n, 1) == n + 1 for n in range(3))"
    lies = f"{WRONG}\ndef abs(x): return 3\ndef all(values): return True"
    assert judged([tests], lies).status == "wrong"
    honest = "sum = 0\ndef add(a, b): return a + b\ndef all(values): return False"
    assert judged([tests], honest).status == "correct"
    assert judged(["from solution import abs\nassert abs(-2) == 5"], "def abs(x): return 5").status == "correct"
