"""Mathematical answers: the last \\boxed{...}, else the last "Answer:" line, compared exactly, then by Math-Verify 0.9.

Texts, plain numbers, and tuples, intervals, sets and matrices of them are decided at once by exact arithmetic
(`fast_verdict`); only the rest goes to symbolic algebra, in a worker process that is killed at the time limit. Nothing in an
answer is ever executed.

Where the answer stands (`find`, the first place that has one counts):
    boxed           the last complete \\boxed{...} or \\fbox{...}, \\boxed 5 and \\\\boxed{5} too
    answer_line     the rest of the last "Answer:" line
    gsm8k           the rest of the last "#### ..." line, else of the last "the answer is ..."
    last_number     the last number, or the formula it stands in; rewards numbers that answer nothing
    last_expression the last formula or number, likewise
The default is boxed, then answer_line. A sentence is read, too: "The largest $n$ is 34." is 34.

What counts, where published graders disagree (each with rows in tests/rewards/math_table.py or math_kinds.py):
    boxes           several are never joined, none is read before </think>
    numbers         exact: 4.4e7 = 4.4 \\times 10^7 = 44{,}000{,}000, 1/3 is not 0.333; see `rounded_places`. A comma
                    before three digits separates thousands, any other comma separates answers
    percent         50\\% is 1/2; see `percent`
    units           may be missing; known ones ("cm", "hours") must agree where both name one, nothing is converted;
                    counted things ("34 apples") are left aside, scale words multiply ("5 million", "5 dozen")
    other words     "5 squared", "5 is not the answer", "5\\text{ vs 6}": no number; equal to the same text only
    base            1011_2 needs its base; an answer in a base counts by its value where the gold answer names none
    unevaluated     \\sum k, 1+1 and \\binom{10}{3} are no answers; see `evaluated`
    equations       x = 5 stands for 5, and 200+4 = 204 for 204, but 35 = 34 for nothing; x = 5 is not y = 5. An equation
                    left open, 2x = 5, x+5 = -2 or x^2 = 4, stands for nothing unless a part without letters has its value
                    (2x = 10/2 = 5); nor does 2x > 4 for x > 2. Behind an arrow (\\implies) the last equation counts
    rounding        a gold answer \\sqrt{2} \\approx 1.414 asks for \\sqrt{2}, x \\approx 1.414 for 1.414
    quantities      |AB| = 1, f(2) = 3 or a+b = 7 stands for its value, in the gold answer and in an answer; 2x+z = 1 and
                    x^2 = 4 do not, and in an answer neither do |x-3| = 5, x(x+1) = 6 and a+b+c = 0
    solutions       of a gold answer that is a worked solution the rest of its last "####" counts, else its only box (see
                    `golds`); one whose final answer cannot be read is `bad_gold`
    systems         x = 1, y = 2 is (1,2), in the order of the names as written, and y = 2, x = 1
    order           (1,2) is a point or an open interval, never \\{1,2\\}; bare "1, 2" is a list in any order, and stands
                    for (1,2) in this order only; [1,2) is not [1,2]; x \\ge 0 is [0,\\infty)
    ratios, times   3:4 and 10:30 part by part; 3:4 also is 3/4
    words           equal as text, upper and lower case alike, with or without "the"
    too much        power towers, huge factorials and deep nesting are `wrong` unless they are the same text
    letters         x is not X; i is the imaginary unit where that makes two sides equal; \\log without a base is to base 10
Not covered: answers that need a domain ("for all integers n"), congruences, sets by a condition that is no inequality, unit
conversion, tuples for column vectors, a decimal comma, thousands separators between brackets, two answers in two boxes,
reasons given on the "Answer:" line.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from progrpo import rewards
from progrpo.rewards.math import exact
from progrpo.rewards.math import symbolic as symbolic
from progrpo.rewards.math.compare import Leaf, Rules, compare
from progrpo.rewards.math.find import Place, extract, percent_after_box, thinks_on, written
from progrpo.rewards.math.forms import Chain, Form, Scalar, read
from progrpo.rewards.math.golds import REMEDY, final_answer, is_sentence, solution_fault
from progrpo.rewards.math.sentences import value_in
from progrpo.rewards.math.text import clean, is_words, key, no_answer_words, too_much
from progrpo.types import Finish, Problem, Status, Verdict

SLOW = True


class Params(rewards.Params):
    find: tuple[Place, ...] = Field(("boxed", "answer_line"), min_length=1)
    """Where the answer stands: boxed, answer_line, gsm8k, last_number or last_expression (see the head of this file), one or
    several; of several the first that has an answer counts."""
    unfinished: Literal["judge", "no_answer"] = "judge"
    """What a completion gets that was cut at the limit, or whose <think> never closes. "judge" reads it as it stands, as the
    published graders do, and so do models that never learnt to stop; "no_answer" gives no credit for a box in the thoughts.
    Take "no_answer" for models that think in <think>...</think>."""
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

    @model_validator(mode="before")
    @classmethod
    def _former_names(cls, data: Any) -> Any:
        """`answer_line` and `last_expression`, which runs of earlier versions have in their config.yaml, say `find`."""
        if not isinstance(data, Mapping) or not {"answer_line", "last_expression"} & set(data):
            return data
        if "find" in data:
            raise ValueError("find: says where the answer stands; leave out answer_line and last_expression")
        rest = {name: value for name, value in data.items() if name not in ("answer_line", "last_expression")}
        line, last = data.get("answer_line", True), data.get("last_expression", False)
        if not (isinstance(line, bool) and isinstance(last, bool)):
            raise ValueError(
                f"answer_line and last_expression must be true or false, got {line!r} and {last!r}; see find"
            )
        return {**rest, "find": ("boxed", *(("answer_line",) if line else ()), *(("last_expression",) if last else ()))}

    @field_validator("find", mode="before")
    @classmethod
    def _one_place(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value in get_args(Place) else value


def fast_verdict(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict | None:
    """Decide what needs no algebra, in microseconds; None leaves it to `score`."""
    return _judge(text, problem, params, _plain(params), finish)


def score(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict:
    """Compare what the completion gives as its answer with `problem.answer`. May take arbitrarily long.

    Only the text after the last </think> counts, and of that the last 4,000 characters. `no_answer`: none in the places of
    `find`. `bad_gold`: the gold answer is missing or cannot be read as mathematics, and the answer is not the same text.

    Args:
        finish: "length" where the completion was cut at the limit, "stop" where it ended, None where nobody knows.
    """
    try:
        verdict = fast_verdict(text, problem, params, finish=finish) or _judge(
            text, problem, params, _algebra(params), finish
        )
    except symbolic.UnreadableGoldError as error:
        return _verdict("bad_gold", params, None, f"{problem.answer!r}: {error}")
    return verdict or _verdict("wrong", params, None, "undecided")


def gold_fault(problem: Problem, params: Params) -> str | None:
    """Why a gold answer cannot be used; None where it can. May be slow.

    It must be read as mathematics or be words that can be an answer, equal itself by algebra, be judged correct as a completion
    would write it (in a box, after "Answer:", ... as `find` says), and another value must be wrong. Of a worked solution all
    this is asked of its final answer; one whose final answer cannot be read is no gold.
    """
    final = final_answer(problem.answer or "")
    gold = clean(final)
    fault = solution_fault(final) or _unusable(gold, params) or no_answer_words(final)
    if fault:
        return fault
    problem = replace(problem, answer=final)
    unequal = None if is_words(gold) else _unequal_to_itself(gold, params) or _unmet_by_its_value(problem, params)
    return unequal or _unreadable_where_written(problem, params)


def _unequal_to_itself(gold: str, params: Params) -> str | None:
    form = read(gold)
    try:
        if isinstance(form, Scalar):
            same = symbolic.equal(form, form, params.rounded_places, params.relative_tolerance)
        else:
            same = compare(form, form, _algebra(params), _rules(params)) is True
        others = [compare(form, read(other), _algebra(params), _rules(params)) for other in _OTHERS]
    except symbolic.UnreadableGoldError as error:
        return f"{gold[:80]!r}: {error}"
    if not same:
        return f"the gold answer {gold[:80]!r} does not equal itself"
    return f"the gold answer {gold[:80]!r} equals any number" if all(others) else None


def _unmet_by_its_value(problem: Problem, params: Params) -> str | None:
    """The fault of a sentence with an equation, "So the total is 5+6 = 11.", that its own result does not meet."""
    form = read(clean(problem.answer or ""))
    if not isinstance(form, Chain) or not any(map(is_sentence, form.parts)):
        return None
    if score(written(form.parts[-1], "boxed"), problem, params.model_copy(update={"find": ("boxed",)})).correct:
        return None
    return f"the gold answer {problem.answer!r:.80} is a sentence, and its result alone is not judged correct; {REMEDY}"


def _unreadable_where_written(problem: Problem, params: Params) -> str | None:
    for place in params.find:
        if place != "last_number" and not score(written(problem.answer or "", place), problem, params).correct:
            return (
                f"the gold answer {problem.answer!r:.80} is not judged correct where a completion gives it as {place}"
            )
    return None


_OTHERS = ("7919", "-7907")
"""Two numbers of which no answer is both."""


def warm(params: Params) -> None:
    """Load the algebra: about a second, which is no verdict's time."""
    symbolic.equal(Scalar(r"\sqrt{8}"), Scalar(r"2\sqrt{2}"), params.rounded_places, params.relative_tolerance)


def _judge(text: str, problem: Problem, params: Params, leaf: Leaf, finish: Finish | None) -> Verdict | None:
    final = final_answer(problem.answer or "")
    gold = clean(final)
    if not gold:
        return _verdict("bad_gold", params, None, "the problem has no gold answer")
    if params.unfinished == "no_answer" and (finish == "length" or thinks_on(text)):
        why = "cut at the limit" if finish == "length" else "<think> is never closed"
        return _verdict("no_answer", params, None, f"unfinished: {why}")
    extracted = extract(text, params.find)
    if extracted is None:
        return _verdict("no_answer", params, None, f"no answer as {' or '.join(params.find)}")
    if len(extracted) > params.max_characters:
        return _verdict("wrong", params, extracted, f"{len(extracted)} characters, more than {params.max_characters}")
    answer = clean(extracted)
    if key(gold) == key(answer):
        return _verdict("correct", params, extracted)
    fault = solution_fault(final) or _unusable(gold, params)
    if fault:
        return _verdict("bad_gold", params, extracted, fault)
    said = value_in(extracted)
    if said is not None:
        answer = clean(said)
        if key(gold) == key(answer):
            return _verdict("correct", params, extracted)
    if r"\%" in gold and r"\%" not in answer and percent_after_box(text):
        answer += r"\%"
    large = too_much(answer)
    if large:
        return _verdict("wrong", params, extracted, f"not computed: {large}")
    equal = compare(_read(gold), _read(answer), leaf, _rules(params))
    if equal is None:
        return None
    return (
        _verdict("correct", params, extracted) if equal else _verdict("wrong", params, extracted, f"expected {final}")
    )


def _verdict(status: Status, params: Params, extracted: str | None, detail: str = "") -> Verdict:
    reward = params.correct_reward if status == "correct" else params.wrong_reward
    return Verdict(status=status, reward=reward, extracted=extracted[:200] if extracted else None, detail=detail)


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


def _plain(params: Params) -> Leaf:
    """What needs no algebra."""
    if params.relative_tolerance:
        return lambda gold, answer: None
    return lambda gold, answer: exact.equal(gold, answer, params.rounded_places)


def _algebra(params: Params) -> Leaf:
    plain = _plain(params)

    def decide(gold: Form, answer: Form) -> bool | None:
        known = plain(gold, answer)
        if known is not None:
            return known
        return symbolic.equal(gold, answer, params.rounded_places, params.relative_tolerance)

    return decide


def _rules(params: Params) -> Rules:
    return Rules(
        percent_optional=not params.percent,
        evaluated=params.evaluated,
        rounded_places=params.rounded_places,
        relative_tolerance=params.relative_tolerance,
    )
