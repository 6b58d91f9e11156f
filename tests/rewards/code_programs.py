"""Programs with tests and the status they must get: (name, info of the problem, program or whole completion, status).

A program without a fence of its own is put into one. Grouped by what is tried; in each group equal and unequal ones.
"""

import json
from typing import Any

Row = tuple[str, dict[str, Any], str, str]

SUM = [{"input": "1 2\n", "output": "3\n"}, {"input": "10 -4\n", "output": "6\n"}]
SUM_TEXT = json.dumps(SUM)
SUM_TACO = {"inputs": ["1 2\n", "10 -4\n"], "outputs": ["3\n", "6\n"]}
ECHO = [{"input": "Hello  World\n", "output": "Hello  World"}]
YES = [{"input": "4\n", "output": "YES\n"}, {"input": "5\n", "output": "NO\n"}]
HALF = [{"input": "1\n", "output": "0.3333333333\n"}, {"input": "2\n", "output": "0.6666666667\n"}]
BIG = [{"input": "100000\n", "output": "100000\n"}]
ADD = "print(sum(map(int, input().split())))"

SCALE = "def scale(self, xs: List[int], k: int) -> List[int]: return [x * k for x in xs]"
POINT = "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int"

CALL = {"fn_name": "add", "inputs": [[1, 2], [10, -4]], "outputs": [3, [6]]}
TWICE = {"fn_name": "twice", "inputs": [[[1, 2]], [[]]], "outputs": [[[1, 2, 1, 2]], [[]]]}
PRIME_INTELLECT = [{"fn_name": "add", "input": [1, 2], "output": 3}, {"fn_name": "add", "input": [0, 0], "output": 0}]
FUNCTIONAL = [
    {"input": "[1, 2, 3]\n2", "output": "[2, 4, 6]", "testtype": "functional", "metadata": {"func_name": "scale"}},
    {"input": "[]\n7", "output": "[]", "testtype": "functional", "metadata": {"func_name": "scale"}},
]
WORD = [{"input": '"ab"', "output": '"ba"', "testtype": "functional"}]
ROOT = {"fn_name": "root", "inputs": [[2.0], [9.0]], "outputs": [1.4142135623, 3.0]}
TRUTH = {"fn_name": "even", "inputs": [[2], [3]], "outputs": [True, False]}
COUNTS = {"fn_name": "counts", "inputs": [[[1, 1, 2]]], "outputs": [[{"1": 2, "2": 1}]]}
KEYS = {"fn_name": "total", "inputs": [[{"1": 5, "2": 6}]], "outputs": [17]}
NOTHING = {"fn_name": "nothing", "inputs": [[1]], "outputs": [None]}
HUGE = {"fn_name": "power", "inputs": [[20]], "outputs": [10**20]}

PLAIN = {"entry_point": "pair", "inputs": [[1], [2]], "expected": [[1, 1], [2, 4]]}
PROMPT = 'from typing import List\n\ndef below(xs: List[int], t: int) -> bool:\n    """All below t."""\n'
EVALPLUS = f"""
import numpy as np

def is_floats(x) -> bool:
    return isinstance(x, float)

def assertion(out, exp, atol):
    assert out == exp or np.allclose(out, exp, rtol=1e-07, atol=atol)

def check(candidate):
    inputs = [[[1, 2], 3], [[5], 5], [[], 0]]
    results = {[True, False, True]}
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 0)
"""
LITERAL = {"entry_point": "below", "prompt": PROMPT, "test": EVALPLUS}
REFERENCE = {
    "entry_point": "area",
    "test": "import numpy as np\nimport math\n\ndef assertion(out, exp, atol):\n    assert np.allclose(out, exp)\n\n"
    "def ref_func(r):\n    return math.pi * r * r\n\ndef check(candidate):\n    inputs = [[1.0], [float('2')], [10**3]]\n"
    "    for i, inp in enumerate(inputs):\n        assertion(candidate(*inp), ref_func(*inp), 0)\n",
}
TUPLES = {
    "entry_point": "ends",
    "test": "def check(candidate):\n    inputs = [[[3, 1, 2]]]\n    results = [(1, 3)]\n"
    "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0)\n",
}
LOOSE = {
    "entry_point": "third",
    "test": "def check(candidate):\n    inputs = [[1]]\n    results = [0.3333]\n"
    "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0.001)\n",
}
BROKEN = {**REFERENCE, "test": REFERENCE["test"].replace("math.pi", "no_such_name")}
NO_VALUES = {"entry_point": "f", "test": "def check(candidate):\n    assert candidate(1) == 2\n"}
DIVISOR = {
    "tests": [{"input": "12\n", "output": "2\n"}],
    "checker": "import sys\nn, _, d = (int(open(name).read()) for name in sys.argv[1:])\n"
    "print(1 if 1 < d < n and n % d == 0 else 0)",
}


def of(tests: Any, **more: Any) -> dict[str, Any]:
    return {"tests": tests, **more}


ROWS: list[Row] = [
    # standard input and output, in every shape
    ("a list of tests", of(SUM), ADD, "correct"),
    ("a list of tests, wrong", of(SUM), "print(3)", "wrong"),  # right on the first test only
    ("JSON text", of(SUM_TEXT), ADD, "correct"),
    ("JSON text, wrong", of(SUM_TEXT), ADD.replace("sum", "max"), "wrong"),
    ("Python-literal text", of(str(SUM)), ADD, "correct"),
    ("Python-literal text, wrong", of(str(SUM_TACO)), "print(6)", "wrong"),
    ("TACO", of(SUM_TACO), ADD, "correct"),
    ("TACO, wrong", of(SUM_TACO), "print(0)", "wrong"),
    ("TACO with lists of lines", of({"inputs": [["1", "2"]], "outputs": [["1", "2"]]}), "print(input(), input())", "correct"),
    ("a main guard", of(SUM), f"def main():\n    {ADD}\nif __name__ == '__main__':\n    main()", "correct"),
    ("reads standard input whole", of(SUM), "import sys\nprint(sum(map(int, sys.stdin.read().split())))", "correct"),
    ("reads bytes", of(SUM), "import sys\nprint(sum(map(int, sys.stdin.buffer.readline().split())))", "correct"),
    ("reads descriptor 0", of(SUM), "import os\nprint(sum(map(int, os.read(0, 1000).split())))", "correct"),
    ("opens 0", of(SUM), "print(sum(map(int, open(0).read().split())))", "correct"),
    ("opens /dev/stdin", of(SUM), "print(sum(map(int, open('/dev/stdin').read().split())))", "correct"),
    ("writes bytes", of(SUM), "import sys\nx = sum(map(int, input().split()))\nsys.stdout.buffer.write(b'%d' % x)", "correct"),
    ("in a thread", of(SUM), f"import threading\nt = threading.Thread(target=lambda: {ADD})\nt.start()\nt.join()", "correct"),
    ("deep recursion", of(BIG), "def f(n): return n and 1 + f(n - 1)\nprint(2 * f(int(input()) // 2))", "wrong"),
    (
        "deep recursion, asked for",
        of(BIG),
        "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(int(input())))",
        "correct",
    ),
    ("names from the preamble", of(SUM), "x: List[int] = list(map(int, input().split()))\nprint(reduce(add, x))", "correct"),
    ("modules from the preamble", of(SUM), "print(math.floor(sum(map(int, input().split()))))", "correct"),
    ("the three-argument pow", of(BIG), "n = int(input())\nprint(pow(n, 1, 10**9) if gcd(2, 4) else 0)", "correct"),
    ("its own gcd", of(SUM), "def gcd(a, b): return a + b\nprint(gcd(*map(int, input().split())))", "correct"),
    ("a number of 5,000 digits", of([{"input": "", "output": "1" + "0" * 5000}]), "print(10**5000)", "correct"),
    ("a set of strings", of([{"input": "", "output": "a b c"}]), "print(*sorted({'c', 'a', 'b'}))", "correct"),
    # how a program ends
    ("exit code 0 by exit()", of(SUM), f"{ADD}\nexit()", "correct"),
    ("right output, exit code 1", of(SUM), f"{ADD}\nraise SystemExit(1)", "wrong"),
    ("right output, then an exception", of(SUM), f"{ADD}\n1 / 0", "wrong"),
    ("an exception", of(SUM), "raise ValueError('no')", "wrong"),
    ("a syntax error", of(SUM), "print(", "wrong"),
    ("no output", of(SUM), "pass", "wrong"),
    ("an empty block", of(SUM), "", "wrong"),
    # comparison of text
    ("space at the end", of(SUM), "print(sum(map(int, input().split())), '')", "correct"),
    ("empty lines", of(SUM), f"print()\n{ADD}\nprint()", "correct"),
    ("space inside", of(ECHO), "print('Hello', 'World')", "correct"),
    ("letter case", of(ECHO), "print('hello world')", "wrong"),
    ("words joined", of(ECHO), "print('HelloWorld')", "wrong"),
    ("a word too many", of(ECHO), "print('Hello World !')", "wrong"),
    ("yes and no", of(YES), "print('NO' if int(input()) % 2 else 'YES')", "correct"),
    ("YES for NO", of(YES), "print('YES')", "wrong"),  # the published DeepCoder comparator passes it
    ("a decimal within the tolerance", of(HALF), "print(int(input()) / 3)", "correct"),
    ("a decimal outside of it", of(HALF), "print(round(int(input()) / 3, 3))", "wrong"),
    ("a decimal in e-notation", of(HALF), "print('%e' % (int(input()) / 3))", "correct"),
    ("an integer one off", of(BIG), "print(int(input()) + 1)", "wrong"),
    ("an integer as a decimal", of(BIG), "print(float(input()))", "wrong"),
    ("an integer with a leading zero", of(BIG), "print('0' + input())", "wrong"),
    ("nan for a number", of(HALF), "print('nan')", "wrong"),
    ("lines in another order", of([{"input": "", "output": "1\n2"}]), "print(2)\nprint(1)", "wrong"),
    # calls
    ("a call", of(CALL), "def add(a, b): return a + b", "correct"),
    ("a call, wrong", of(CALL), "def add(a, b): return 3", "wrong"),
    ("a call of a method", of(CALL), "class Solution:\n    def add(self, a, b): return a + b", "correct"),
    ("a list in a list", of(TWICE), "def twice(x): return x + x", "correct"),
    ("a list in a list, wrong", of(TWICE), "def twice(x): return x", "wrong"),
    ("PrimeIntellect", of(PRIME_INTELLECT), "def add(a, b): return a + b", "correct"),
    ("PrimeIntellect, wrong", of(PRIME_INTELLECT), "def add(a, b): return a - b + 4", "wrong"),
    ("the name beside the tests", of([{"input": "[1]", "output": "[1]"}], fn_name="f"), "def f(x): return x", "correct"),
    ("the name beside the tests, wrong", of([{"input": "[1]", "output": "1"}], fn_name="f"), "def f(x): return x", "wrong"),
    ("LiveCodeBench", of(FUNCTIONAL), f"class Solution:\n    {SCALE}", "correct"),
    ("LiveCodeBench, wrong", of(FUNCTIONAL), "class Solution:\n    def scale(self, xs, k): return xs", "wrong"),
    ("a tuple for a list", of(FUNCTIONAL), "def scale(xs, k): return tuple(x * k for x in xs)", "correct"),
    ("a generator for a list", of(FUNCTIONAL), "def scale(xs, k): return (x * k for x in xs)", "wrong"),
    ("text", of(WORD, metadata='{"func_name": "flip"}'), "def flip(s): return s[::-1]", "correct"),
    ("text, wrong", of(WORD, metadata='{"func_name": "flip"}'), "def flip(s): return s", "wrong"),
    ("a float within the tolerance", of(ROOT), "def root(x): return x ** 0.5", "correct"),
    ("a float outside of it", of(ROOT), "def root(x): return round(x ** 0.5, 2)", "wrong"),
    ("a truth value", of(TRUTH), "def even(n): return n % 2 == 0", "correct"),
    ("a truth value, wrong", of(TRUTH), "def even(n): return 'True' if n % 2 == 0 else False", "wrong"),
    ("a Counter", of(COUNTS), "from collections import Counter\ndef counts(xs): return Counter(xs)", "correct"),
    ("a dictionary, wrong", of(COUNTS), "def counts(xs): return {x: 1 for x in xs}", "wrong"),
    ("number keys come back", of(KEYS), "def total(d): return sum(k * v for k, v in d.items())", "correct"),
    ("None", of(NOTHING), "def nothing(x): pass", "correct"),
    ("None, wrong", of(NOTHING), "def nothing(x): return 0", "wrong"),
    ("an integer beyond 64 bits", of(HUGE), "def power(n): return 10 ** n", "correct"),
    ("an integer beyond 64 bits, wrong", of(HUGE), "def power(n): return 10 ** n + 1", "wrong"),
    ("a float for it", of(HUGE), "def power(n): return 10.0 ** n", "correct"),  # exactly equal, as Python says
    ("an object", of(CALL), "def add(a, b): return object()", "wrong"),
    ("a function that is not there", of(CALL), "def plus(a, b): return a + b", "wrong"),
    ("the wrong number of arguments", of(CALL), "def add(a): return a", "wrong"),
    ("an exception in a call", of(CALL), "def add(a, b): raise KeyError(a)", "wrong"),
    ("prints beside the call", of(CALL), "def add(a, b):\n    print('debug')\n    return a + b", "correct"),
    ("a main guard is not run", of(CALL), "def add(a, b): return a + b\nif __name__ == '__main__':\n    input()", "correct"),
    ("a data class of its own", of(CALL), f"{POINT}\ndef add(a, b): return P(a).x + P(b).x", "correct"),
    # HumanEval+
    ("entry point in plain form", of(PLAIN), "def pair(n): return [n, n * n]", "correct"),
    ("entry point in plain form, tuple", of(PLAIN), "def pair(n): return n, n * n", "correct"),
    ("entry point in plain form, wrong", of(PLAIN), "def pair(n): return [n, n]", "wrong"),
    ("HumanEval+", of(LITERAL), "def below(xs, t):\n    return all(x < t for x in xs)", "correct"),
    ("HumanEval+, wrong", of(LITERAL), "def below(xs, t):\n    return all(x <= t for x in xs)", "wrong"),
    ("HumanEval+, the body alone", of(LITERAL), "    return all(x < t for x in xs)", "correct"),
    ("HumanEval+, the row itself", LITERAL, "def below(xs, t):\n    return all(x < t for x in xs)", "correct"),
    ("HumanEval+, nothing defined", of(LITERAL), "x = 1", "wrong"),
    ("HumanEval+, a reference function", of(REFERENCE), "def area(r): return 3.141592653589793 * r ** 2", "correct"),
    ("HumanEval+, a reference function, wrong", of(REFERENCE), "def area(r): return 3.1416 * r * r", "wrong"),
    ("HumanEval+, a tuple", of(TUPLES), "def ends(xs): return min(xs), max(xs)", "correct"),
    ("HumanEval+, a list for a tuple", of(TUPLES), "def ends(xs): return [min(xs), max(xs)]", "wrong"),
    ("HumanEval+, its own tolerance", of(LOOSE), "def third(x): return x / 3", "correct"),
    ("HumanEval+, outside of it", of(LOOSE), "def third(x): return x / 3 + 0.01", "wrong"),
    # a checker
    ("another divisor", DIVISOR, "print(3)", "correct"),
    ("no divisor", DIVISOR, "print(5)", "wrong"),
    ("no number for the checker", DIVISOR, "print('two')", "wrong"),
    ("a checker of calls", {**DIVISOR, "tests": CALL}, "def add(a, b): return 0", "bad_gold"),
    # no program
    ("no block", of(SUM), "text without `code`.", "no_answer"),
    ("an empty completion", of(SUM), "``````", "no_answer"),
    ("a block cut off", of(SUM), f"```python\n{ADD}\n", "no_answer"),
    ("a block cut off after a whole one", of(SUM), f"```python\n{ADD}\n```\nBetter:\n```python\nprint(", "no_answer"),
    ("a block in another language", of(SUM), "```json\n{}\n```", "no_answer"),
    ("a block in the thinking only", of(SUM), f"<think>\n```python\n{ADD}\n```\n</think>\nDone.", "no_answer"),
    ("the last block", of(SUM), f"```python\nprint(0)\n```\nNo:\n```\n{ADD}\n```\nThat is it.", "correct"),
    ("the last block, wrong", of(SUM), f"```python\n{ADD}\n```\nor\n```python\nprint(0)\n```", "wrong"),
    ("a result shown after it", of(SUM), f"```python\n{ADD}\n```\nprints\n```text\n3\n```", "correct"),
    ("begun anew inside a block", of(SUM), f"```python\nprint(0)\n```python\n{ADD}\n```", "correct"),
    ("Windows line ends", of(SUM), f"```python\r\n{ADD}\r\n```\r\n", "correct"),
    # no tests
    ("no tests", of([]), ADD, "bad_gold"),
    ("no tests in a dictionary", of({"inputs": [], "outputs": []}), ADD, "bad_gold"),
    ("tests missing", {}, ADD, "bad_gold"),
    ("tests are not text of any kind", of("[{'input': "), ADD, "bad_gold"),
    ("tests are a number", of(5), ADD, "bad_gold"),
    ("tests are code", of("__import__('os').system('true')"), ADD, "bad_gold"),
    ("fewer outputs than inputs", of({"inputs": ["1", "2"], "outputs": ["1"]}), ADD, "bad_gold"),
    ("a test without output", of([{"input": "1"}]), ADD, "bad_gold"),
    ("two functions", of([{**PRIME_INTELLECT[0], "fn_name": "f"}, *PRIME_INTELLECT]), ADD, "bad_gold"),
    ("a function without a name", of(WORD), ADD, "bad_gold"),
    ("arguments that are no JSON", of([{**FUNCTIONAL[0], "input": "[1"}]), ADD, "bad_gold"),
    ("HumanEval itself", of(NO_VALUES), "def f(x): return 2", "correct"),
    ("a published test that does not run", of(BROKEN), "x = 1", "bad_gold"),
]  # fmt: skip
