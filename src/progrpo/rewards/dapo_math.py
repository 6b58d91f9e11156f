"""The DAPO grader: the last "Answer:" line, normalised as text, must be the gold answer; +1 or -1.

For training runs that are to be compared with DAPO (arXiv:2503.14476) and ProGRPO (arXiv:2602.05281): it judges as
`verl/utils/reward_score/math_dapo.py` of github.com/volcengine/verl does, whose normalisation goes back to Minerva
(arXiv:2206.14858, appendix D.1). It knows no mathematics.

False positives, for the gold answer 34: "Answer: x = 34", "35 = 34", "34 degrees", "$34$ and $35$", "3 4", "3a 4".
False negatives: "**Answer:** 34", "**Answer: 34**", "34.", "034", "34.0", "\\(34\\)", "34 apples", "34%", a box without
an "Answer:", more than 300 characters after it, an end-of-turn token left in the text. Names are mangled ("tan x"
becomes "tx"), in the gold answer too. Prefer rewards/math.py where the comparison with those papers does not matter.
"""

import re
from typing import Literal

from progrpo import rewards
from progrpo.types import Problem, Verdict

__all__ = ["last_box", "normalise"]

_TAIL = 300
_LONGEST_GOLD = 5_000
"""Normalising takes quadratic time: 100,000 characters take a minute."""
_BOX_TAIL = 100
_LINE = re.compile(r"(?i)answer\s*:\s*([^\n]+)")

_REWRITES = {
    "an ": "",
    "a ": "",
    ".$": "$",
    r"\$": "",
    "\\ ": "",
    " ": "",
    "mbox": "text",
    r",\text{and}": ",",
    r"\text{and}": ",",
    r"\text{m}": r"\text{}",
}
"""Applied in this order, before the deletions."""

_DELETED_WORDS = (
    *(
        "square",
        "ways",
        "integers",
        "dollars",
        "mph",
        "inches",
        "hours",
        "km",
        "units",
        r"\ldots",
        "sue",
        "points",
        "feet",
    ),
    *("minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students"),
    *("childrentickets", "multiples"),
)
_DELETED_LATEX = (
    *(r"\text{s}", r"\text{.}", "\\text{\ns}", r"\text{}^2", r"\text{}^3", "\\text{\n}", r"\text{}", r"\mathrm{th}"),
    *(r"^\circ", r"^{\circ}", r"\;", r",\!", "{,}", '"', r"\dots"),
)
"""Deleted in this order; the order is part of the result."""

_REPLACED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r".*?\$(.*?)\$.*", r"$\1$"),  # the first formula only
        (r"\\text\{(.*?)\}", r"\1"),
        (r"\\textbf\{(.*?)\}", r"\1"),
        (r"\\overline\{(.*?)\}", r"\1"),
        (r"\\boxed\{(.*)\}", r"\1"),
        (r"frac([^{])(.)", r"frac{\1}{\2}"),
        (r"sqrt([^{])", r"sqrt{\1}"),
    ]
]


class Params(rewards.Params):
    wrong_reward: float = -1.0
    """Reward of every other completion; 0 gives the 0/1 scale."""
    strict_box: Literal["never", "fallback", "only"] = "never"
    """Whether the last 100 characters may ("fallback": where there is no "Answer:" line) or must ("only") give the answer as a
    box instead, whose content is compared unchanged."""


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Compare the last "Answer:" line (or box) in the last 300 characters with `problem.answer`.

    `no_answer`: there is none. The line may go on below: "Answer:" and the number under it is one.
    """
    if not (problem.answer or "").strip():
        return Verdict(status="bad_gold", reward=params.wrong_reward, detail="the problem has no gold answer")
    gold = problem.answer or ""
    if len(gold) > _LONGEST_GOLD:
        words = f"the gold answer has {len(gold)} characters; the last {_TAIL} of a completion are read"
        return Verdict(status="bad_gold", reward=params.wrong_reward, detail=words)
    lines = _LINE.findall(text[-_TAIL:]) if params.strict_box != "only" else []
    answer = normalise(lines[-1]) if lines else None
    expected = normalise(gold)
    if answer is None and params.strict_box != "never":
        answer, expected = last_box(text[-_BOX_TAIL:]), gold
    if answer is None:
        wanted = {"never": '"Answer:" line', "fallback": '"Answer:" line and no box', "only": "box"}[params.strict_box]
        return Verdict(status="no_answer", reward=params.wrong_reward, detail=f"no {wanted} at the end of the text")
    shown = answer.encode("utf-8", "replace").decode()
    if answer == expected:
        return Verdict(status="correct", reward=params.correct_reward, extracted=shown)
    return Verdict(status="wrong", reward=params.wrong_reward, extracted=shown, detail=f"expected {expected}")


def gold_fault(problem: Problem, params: Params) -> str | None:
    """Why no completion could match the gold answer, or one without meaning would; None where it can be used."""
    gold = problem.answer or ""
    if not gold.strip():
        return "the problem has no gold answer"
    if len(gold) > _TAIL - len("Answer: "):
        return f"the gold answer has {len(gold)} characters; the last {_TAIL} are read"
    if params.strict_box == "only":
        return None if last_box(f"\\boxed{{{gold}}}"[-_BOX_TAIL:]) == gold else f"{gold[:80]!r} does not fit in a box"
    if not normalise(gold):
        return f"{gold[:80]!r} is empty after normalisation"
    if score(f"Answer: {gold}", problem, params).correct:
        return None
    return f"{gold[:80]!r} is not matched by its own text"


def normalise(answer: str) -> str:
    """Bring an answer to the form that is compared: what follows the last "=", without units, blanks and delimiters."""
    answer = answer.split("=")[-1]
    for before, after in _REWRITES.items():
        answer = answer.replace(before, after)
    for deleted in (*_DELETED_WORDS, *_DELETED_LATEX):
        answer = answer.replace(deleted, "")
    for pattern, replacement in _REPLACED:
        answer = pattern.sub(replacement, answer)
    answer = answer.replace("$", "")
    digits = answer.replace(",", "")
    return (digits if digits.isdigit() else answer).strip()


def last_box(text: str) -> str | None:
    """The content of the box that begins last, braces counted; None where there is none or it does not end."""
    start = text.rfind("\\boxed{")
    depth = 0
    for position in range(start, len(text)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if text[position] == "}" and depth == 0:
            return text[start + len("\\boxed{") : position]
    return None
