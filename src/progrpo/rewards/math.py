"""Mathematical answers, compared by Math-Verify: the last \\boxed{...}, else the last "Answer:" line.

A text equal to the gold answer, or the same decimal number, is decided at once; only the rest goes to symbolic
algebra, in a worker process that is killed at the time limit (Math-Verify's own limits are signals, which work in the
main thread only and cannot stop every computation).
"""

import re
from decimal import Decimal, InvalidOperation

from pydantic import Field

from progrpo import rewards
from progrpo.types import Problem, Verdict

SLOW = True
_ANSWER_LINE = re.compile(r"(?i)answer\s*:\s*([^\n]+)")
_SCIENTIFIC = re.compile(r"(?<![\w.])([+-]?\d+(?:\.\d+)?)[eE]([+-]?\d+)(?!\w)")
_TAIL = 4000


class Params(rewards.Params):
    answer_line: bool = True
    """Take the last "Answer: ..." line where there is no box."""
    max_characters: int = Field(500, gt=0)
    """A longer answer is wrong unseen."""


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Compare what the completion gives as its answer with `problem.answer`.

    Only the text after the last </think> counts, and of that the last 4,000 characters. `no_answer`: neither box nor
    line. `bad_gold`: Math-Verify cannot read the gold answer.
    """
    gold = (problem.answer or "").strip()
    if not gold:
        return Verdict(status="bad_gold", reward=params.wrong_reward, detail="the problem has no gold answer")
    extracted = extract(text, answer_line=params.answer_line)
    if extracted is None:
        return Verdict(status="no_answer", reward=params.wrong_reward, detail="no \\boxed{...} and no answer line")
    if len(extracted) > params.max_characters:
        detail = f"the answer has {len(extracted)} characters, more than {params.max_characters}"
        return Verdict(status="wrong", reward=params.wrong_reward, extracted=extracted[:80], detail=detail)
    if same_at_sight(gold, extracted):
        return Verdict(status="correct", reward=params.correct_reward, extracted=extracted)
    equal = symbolically_equal(gold, extracted)
    if equal is None:
        detail = f"the gold answer {gold!r} cannot be read as mathematics"
        return Verdict(status="bad_gold", reward=params.wrong_reward, extracted=extracted, detail=detail)
    if equal:
        return Verdict(status="correct", reward=params.correct_reward, extracted=extracted)
    return Verdict(status="wrong", reward=params.wrong_reward, extracted=extracted, detail=f"expected {gold}")


def extract(text: str, *, answer_line: bool = True) -> str | None:
    """The content of the last complete \\boxed{...}, else the rest of the last "Answer:" line, else None."""
    tail = text.rsplit("</think>", 1)[-1][-_TAIL:]
    boxed = _last_box(tail)
    if boxed is not None:
        return boxed.strip()
    lines = _ANSWER_LINE.findall(tail) if answer_line else []
    return lines[-1].strip().strip("*$").strip().rstrip(".") if lines else None


def same_at_sight(gold: str, answer: str) -> bool:
    """Whether two answers are the same text up to spaces and dollar signs, or the same decimal number."""
    one, other = (re.sub(r"[\s$]", "", text) for text in (gold, answer))
    if one == other:
        return True
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False


def symbolically_equal(gold: str, answer: str) -> bool | None:
    """Math-Verify's judgement; None if it cannot read the gold answer. May take arbitrarily long."""
    from math_verify import parse, verify

    # 4.4e7 would be read as 4.4 * e * 7.
    one, other = (parse(f"\\boxed{{{_plain(text)}}}", parsing_timeout=None) for text in (gold, answer))
    if not one:
        return None
    return bool(verify(one, other, timeout_seconds=None))


def _plain(text: str) -> str:
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text.strip().strip("$"))


def _last_box(text: str) -> str | None:
    """The content of the last box whose braces balance; boxes without an end are passed over."""
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))):
        depth = 1
        for position in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[match.end() : position]
    return None
