"""Mathematical answers: the last \\boxed{...}, else the last "Answer:" line, compared exactly, then by Math-Verify 0.9.

Texts, plain numbers, and tuples, intervals, sets and matrices of them are decided at once by exact arithmetic
(`fast_verdict`); only the rest goes to symbolic algebra, in a worker process that is killed at the time limit. Nothing in an
answer is ever executed.

What counts, where published graders disagree (each with rows in tests/rewards/math_table.py):
    boxes           the last complete one, \\boxed or \\fbox; several are never joined, none is read before </think>
    numbers         exact: 4.4e7 = 4.4 \\times 10^7 = 44{,}000{,}000, 1/3 is not 0.333; see `rounded_places`. A comma
                    before three digits separates thousands, any other comma separates answers
    percent         50\\% is 1/2; see `percent`
    units           may be missing; known ones ("cm", "hours") must agree where both name one, nothing is converted;
                    other words after a number are ignored, but for those that give another answer ("5 or 6")
    base            1011_2 needs its base; an answer in a base counts by its value where the gold answer names none
    unevaluated     \\sum k, 1+1 and \\binom{10}{3} are no answers; see `evaluated`
    equations       x = 5 stands for 5, and 200+4 = 204 for 204, but 35 = 34 for nothing; x = 5 is not y = 5
    order           (1,2) is a point or an open interval, never \\{1,2\\}; bare "1, 2" is a list in any order, and stands
                    for (1,2) in this order only; [1,2) is not [1,2]; x \\ge 0 is [0,\\infty)
    ratios, times   3:4 and 10:30 part by part; 3:4 also is 3/4
    words           equal as text, upper and lower case alike
    too much        power towers, huge factorials and deep nesting are `wrong` unless they are the same text
    letters         x is not X; i is the imaginary unit where that makes two sides equal; \\log without a base is to base 10
Not covered: answers that need a domain ("for all integers n"), congruences, sets by a condition, unit conversion, tuples
for column vectors, a decimal comma, thousands separators between brackets, two answers in two boxes, reasons given on the
"Answer:" line.
"""

from functools import lru_cache

from pydantic import Field

from progrpo import rewards
from progrpo.rewards.math import symbolic as symbolic
from progrpo.rewards.math.compare import Leaf, Rules, compare
from progrpo.rewards.math.forms import Scalar, read
from progrpo.rewards.math.text import clean, extract, hedged, is_words, key, too_much
from progrpo.types import Problem, Status, Verdict

SLOW = True


class Params(rewards.Params):
    answer_line: bool = True
    """Take the last "Answer: ..." line where there is no box."""
    last_expression: bool = False
    """Take the last formula or number where there is neither box nor line; rewards numbers that answer nothing."""
    max_characters: int = Field(500, gt=0, le=4000)
    """A longer answer is wrong unseen."""
    percent: bool = True
    """The percent sign counts: 50\\% is 0.5 and not 50. False lets it be missing or added: 50\\% is 50 too."""
    evaluated: bool = True
    """Sums, products, integrals, binomials, ... that the gold answer does not have are wrong, and where it is a whole number
    or a fraction, everything that is no plain number is: else repeating the question is a solution."""
    rounded_places: int | None = Field(6, ge=1)
    """A decimal with at least this many significant digits after the point stands for every value that rounds or cuts off
    to it: 0.333333 is 1/3, 0.3333 and 0.333334 are not, 2.0000001 is not 2. None compares exactly."""
    relative_tolerance: float = Field(0.0, ge=0, lt=1)
    """Relative difference from a gold answer that is no whole number which still counts as equal; 0 for none."""


def fast_verdict(text: str, problem: Problem, params: Params) -> Verdict | None:
    """Decide what needs no algebra, in microseconds; None leaves it to `score`."""
    return _judge(text, problem, params, lambda gold, answer: None)


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Compare what the completion gives as its answer with `problem.answer`. May take arbitrarily long.

    Only the text after the last </think> counts, and of that the last 4,000 characters. `no_answer`: neither box nor
    line. `bad_gold`: the gold answer is missing or cannot be read as mathematics, and the answer is not the same text.
    """
    try:
        verdict = fast_verdict(text, problem, params) or _judge(text, problem, params, _algebra(params))
    except symbolic.UnreadableGoldError as error:
        return _verdict("bad_gold", params, None, f"{problem.answer!r}: {error}")
    return verdict or _verdict("wrong", params, None, "undecided")


def gold_fault(problem: Problem, params: Params) -> str | None:
    """Why a gold answer cannot be used: None if it verifies against itself, by algebra where it is not plain. May be slow."""
    gold = clean(problem.answer or "")
    fault = _unusable(gold, params)
    if fault or is_words(gold):
        return fault
    form = read(gold)
    try:
        if isinstance(form, Scalar):
            same = symbolic.equal(form, form, params.rounded_places, params.relative_tolerance)
        else:
            same = compare(form, form, _algebra(params), _rules(params)) is True
    except symbolic.UnreadableGoldError as error:
        return f"{gold[:80]!r}: {error}"
    return None if same else f"the gold answer {gold[:80]!r} does not equal itself"


def warm(params: Params) -> None:
    """Load the algebra: about a second, which is no verdict's time."""
    symbolic.equal(Scalar(r"\sqrt{8}"), Scalar(r"2\sqrt{2}"), params.rounded_places, params.relative_tolerance)


def _judge(text: str, problem: Problem, params: Params, leaf: Leaf) -> Verdict | None:
    gold = clean(problem.answer or "")
    found = extract(text, answer_line=params.answer_line, last_expression=params.last_expression)
    if not gold:
        return _verdict("bad_gold", params, None, "the problem has no gold answer")
    if found is None:
        return _verdict("no_answer", params, None, "no \\boxed{...} and no answer line")
    if len(found) > params.max_characters:
        return _verdict("wrong", params, found, f"{len(found)} characters, more than {params.max_characters}")
    answer = clean(found)
    if key(gold) == key(answer):
        return _verdict("correct", params, found)
    fault = _unusable(gold, params)
    if fault:
        return _verdict("bad_gold", params, found, fault)
    large = too_much(answer)
    if large:
        return _verdict("wrong", params, found, f"not computed: {large}")
    if hedged(found) and not hedged(problem.answer or ""):
        return _verdict("wrong", params, found, "more than one answer")
    equal = compare(_read(gold), _read(answer), leaf, _rules(params))
    if equal is None:
        return None
    return (
        _verdict("correct", params, found) if equal else _verdict("wrong", params, found, f"expected {problem.answer}")
    )


def _verdict(status: Status, params: Params, found: str | None, detail: str = "") -> Verdict:
    reward = params.correct_reward if status == "correct" else params.wrong_reward
    return Verdict(status=status, reward=reward, extracted=found[:200] if found else None, detail=detail)


@lru_cache(maxsize=4096)
def _unusable(gold: str, params: Params) -> str | None:
    """Why a cleaned gold answer cannot even be read; None where it can."""
    if not gold:
        return "the problem has no gold answer"
    if len(gold) > params.max_characters:
        return f"the gold answer has {len(gold)} characters, more than max_characters={params.max_characters}"
    large = too_much(gold)
    return large and f"the gold answer {gold[:80]!r} is not computed ({large}): only the same text could be correct"


_read = lru_cache(maxsize=4096)(read)


def _algebra(params: Params) -> Leaf:
    return lambda gold, answer: symbolic.equal(gold, answer, params.rounded_places, params.relative_tolerance)


def _rules(params: Params) -> Rules:
    return Rules(
        percent_optional=not params.percent,
        evaluated=params.evaluated,
        rounded_places=params.rounded_places,
        relative_tolerance=params.relative_tolerance,
    )
