r"""Gold answers as data sets write them: the final answer of a worked solution, and solutions that have none to be read."""

import re
from functools import lru_cache

from progrpo.rewards.math.find import extract

_MARK = re.compile(r"(?<!#)####(?!#)")
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])")
_NO_PROSE = re.compile(r"\\text\w*\s*\{[^{}]*\}|\\(?:begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+|\$[^$]*\$")
_WORD = re.compile(r"(?<![A-Za-z_^{\\])[A-Za-z]{2,}(?![A-Za-z({_^])")
# Part of an equation that is a sentence: "So the total is 5+6", not AB or \gcd.
_SENTENCE_WORD = re.compile(
    r"(?<![A-Za-z_^{\\])(?:(?=[A-Za-z]*[aeiou])[A-Za-z][a-z]{3,}|so|is|we|he|she|it)(?![A-Za-z({_^])"
)
_MANY = 3
"""So many words beside a box, or more in one of several lines, make a solution."""


def after_hashes(gold: str) -> str:
    """What stands behind the last "####" of a solution, as in GSM8K; the text itself where that is nothing or several lines."""
    last = _MARK.split(gold)[-1].strip() if "####" in gold else ""
    return last if last and "\n" not in last and not _CALCULATOR.search(last) else gold


@lru_cache(maxsize=4096)
def final_answer(gold: str) -> str:
    r"""The final answer of a worked solution: what follows its last "####" (GSM8K), else what its only box holds (MATH).

    A text that is no solution is its own final answer, and so is one whose final answer does not plainly stand in it.
    """
    last = after_hashes(gold)
    if last != gold or "####" in gold or len(_BOX.findall(gold)) != 1:
        return last
    box = extract(gold, ("boxed",))
    return box if box is not None and _words(gold.replace(box, "")) >= _MANY else gold


@lru_cache(maxsize=4096)
def solution_fault(gold: str) -> str | None:
    """Why a gold answer is a worked solution whose final answer cannot be read, and what to do; None where it is none."""
    gold = final_answer(gold)
    lines = [line for line in gold.splitlines() if line.strip()]
    if _MARK.search(gold):
        why = "no single line after its last '####'"
    elif _CALCULATOR.search(gold):
        why = "the calculator marks <<...>> of a worked solution and no '#### ANSWER' at its end"
    elif len(_BOX.findall(gold)) > 1 and _words(gold) >= _MANY:
        why = "several boxes"
    elif len(lines) > 1 and max(map(_words, lines)) > _MANY:
        why = f"{len(lines)} lines of prose"
    else:
        return None
    return f"the gold answer {' '.join(gold.split())[:60]!r} has {why}; {REMEDY}"


REMEDY = "name a column that holds the final answer alone, or end each solution with a line '#### ANSWER'"


def is_sentence(part: str) -> bool:
    """Whether the side of an equation has the words of a sentence in it."""
    return _SENTENCE_WORD.search(part) is not None


def _words(text: str) -> int:
    return len(_WORD.findall(_NO_PROSE.sub(" ", text)))
