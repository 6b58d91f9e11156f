"""What judges in the asking process is watched by nobody: no text may make it slow.

Not a measure of speed: where all is well a text of 100,000 characters takes milliseconds, a quadratic step over it takes
minutes and an exponential one never comes back. The bound between them is wide enough for a busy machine.
"""

import time
from collections.abc import Callable

import pytest

from progrpo import rewards
from progrpo.settings import Choice
from progrpo.types import Problem

CHARACTERS = 100_000
LIMIT_S = 3.0

FILLERS = {
    "spaces": lambda n: " " * n,
    "answer is, spaces": lambda n: "answer is" + " " * n + "!",
    "answer, comma, spaces": lambda n: "Answer: A," + " " * n + "!",
    "answer lines": lambda n: "Answer: " * (n // 8),
    "answers in a line": lambda n: "answer" * (n // 6) + ":",
    "boxes opened": lambda n: "\\boxed{" * (n // 7),
    "boxes closed": lambda n: "\\boxed{" * (n // 8) + "}" * (n // 8),
    "backslashes": lambda n: "\\" * n,
    "braces": lambda n: "{" * (n // 2) + "}" * (n // 2),
    "tags opened": lambda n: "<answer>" * (n // 8),
    "fence, spaces": lambda n: "```" + " " * n + "!",
    "fences": lambda n: "```\n" * (n // 4),
    "digits": lambda n: "\\boxed{" + "1" * n + "}",
    "dollars": lambda n: "$" * n,
    "thoughts": lambda n: "</think>" * (n // 8),
    "units": lambda n: "\\boxed{1" + r"\text{a} / " * 40 + "x}",
    "units with powers": lambda n: "\\boxed{1" + r"\text{a}^2 " * 40 + "x}",
    "units with dots": lambda n: "Answer: 1" + r" \cdot \text{a}" * 40 + " x",
    "fractions": lambda n: "\\boxed{" + "\\frac{1" * 70 + "}",
    "commas": lambda n: "\\boxed{(" + "1," * 240 + ")}",
    "signs": lambda n: "\\boxed{" + "+-" * 240 + "1}",
    "words": lambda n: "\\boxed{1" + " apples" * 60 + "}",
    "words that end badly": lambda n: "\\boxed{1" + " apples of" * 45 + " !}",
    "prose": lambda n: "Answer: " + "the value of x is " * 25,
    "no boxes": lambda n: "\\boxed " * (n // 8),
    "hashes": lambda n: "#### " * (n // 5),
    "formulas": lambda n: "$1$ \\(2\\) " * (n // 10),
    "brackets": lambda n: "\\(" * (n // 2),
    "sums": lambda n: "\\boxed{" + "(x+" * 38 + "1" + ")" * 38 + "}",
    "functions": lambda n: "\\boxed{" + "\\sin^2(" * 38 + "x" + ")" * 38 + "}",
    "quantities": lambda n: "\\boxed{" + "AB+" * 150 + "|x=1}",
    "systems": lambda n: "\\boxed{" + "x=1,y=2;" * 60 + "}",
    "options": lambda n: "A is " * (n // 5) + "B is correct",
    "equals": lambda n: "\\boxed{" + "1=" * 240 + "1}",
}

CHOICES = {
    "math": Choice(name="math", last_expression=True),
    "math, everywhere": Choice(
        name="math", find=["gsm8k", "answer_line", "last_number", "boxed", "last_expression"], unfinished="no_answer"
    ),
    "dapo_math": Choice(name="dapo_math", strict_box="fallback"),
    "choice": Choice(name="choice"),
    "choice, strict": Choice(name="choice", mode="strict"),
    "choice, mmlu_pro": Choice(name="choice", mode="mmlu_pro"),
    "expression": Choice(name="expression"),
    "expression, tag": Choice(name="expression", tag="answer"),
    "code": Choice(name="code"),
}


@pytest.mark.parametrize("reward", CHOICES)
@pytest.mark.parametrize("filler", FILLERS)
def test_no_text_makes_it_slow(reward: str, filler: str) -> None:
    make: Callable[[int], str] = FILLERS[filler]
    answer = "A" if "choice" in reward else "6"
    problem = Problem(
        id="p", prompt="", answer=answer, info={"numbers": [2, 4], "tests": [{"input": "", "output": ""}]}
    )
    chosen = rewards.load(CHOICES[reward])
    started = time.process_time()  # of this process, however busy the machine
    chosen.fast_verdict(make(CHARACTERS), problem)
    assert time.process_time() - started < LIMIT_S
