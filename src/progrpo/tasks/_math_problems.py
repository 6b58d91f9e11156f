"""What the mathematics data sets share: the columns of their mirrors, rows repeated per sample, the DAPO wrapper."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from progrpo.errors import DataError
from progrpo.rewards.dapo_math import last_box
from progrpo.tasks._published import (
    PublishedParams,
    Source,
    published_rows,
    require_count,
    require_test,
    text_column,
    with_ids,
)
from progrpo.tasks._rows import Row
from progrpo.types import Problem

logger = logging.getLogger(__name__)

PROBLEM = ("problem", "Problem", "question", "Question")
ANSWER = ("answer", "Answer")
SOLUTION = ("solution", "Solution")
ID = ("id", "ID", "unique_id", "problem_idx", "idx")

SAMPLES = {"paper": 32, "recommended": 64}
"""The paper reports Pass@32 (arXiv:2602.05281, Sec. 4.2). Of 32 samples, that says no more of a problem than whether one is
correct: with 2 % correct samples a standard deviation of 0.50, and of 0.32 with 64."""

PREFIX = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
SUFFIX = '\n\nRemember to put your answer on its own line after "Answer:".'
"""The wrapper that the prompts of BytedTsinghua-SIA/DAPO-Math-17k and AIME-2024 have around the problem."""

_PREFIX = re.compile(
    r"\s*Solve the following math problem step by step\. The last line of your response should be of the form "
    r"Answer: [^\n]{1,60} where \$Answer is the answer to the problem\.\s*"
)
_SUFFIX = re.compile(r'\s*Remember to put your answer on its own line after "Answer:"\.?\s*')
_SUFFIX_LENGTH = 200

Gold = Callable[[Row, str], str]


def load_benchmark(
    task: str,
    sources: Sequence[Source],
    split: str,
    params: PublishedParams,
    gold: Gold,
    facts: Callable[[Row], Mapping[str, Any]] = lambda row: {},
    *,
    context: Sequence[str] = (),
    repeated: bool = False,
) -> list[Problem]:
    """Read a benchmark's problems, in the order of its rows.

    Args:
        gold: gold(row, place) -> the gold answer as text.
        facts: facts(row) -> what evaluations keep of the row.
        context: columns of text that stands before the problem where a row has it.
        repeated: rows with the text of an earlier one are copies, made to sample a problem several times; they are left
            out. False keeps them: they are problems.
    Raises:
        DataError: see `published_rows`; another split than "test"; a row without problem or gold answer; copies that
            disagree about the answer; another number of problems than expected.
    """
    require_test(task, split)
    problems: dict[str | int, Problem] = {}
    identities = []
    rows = 0
    for place, row in published_rows(task, sources, split, params):
        before = [row[name].strip() for name in context if isinstance(row.get(name), str) and row[name].strip()]
        text, answer = "\n".join([*before, problem_text(row, place)]), gold(row, place)
        rows += 1
        key = text if repeated else rows
        if key in problems:
            if problems[key].answer != answer:
                raise DataError(
                    f"{place}: the same problem has the answer {problems[key].answer!r} in {problems[key].place} and "
                    f"{answer!r} here; which one is right?"
                )
            continue
        identities.append(identity(row))
        problems[key] = Problem(
            id="", prompt=params.messages(text), answer=answer, place=place, facts=_small(facts(row))
        )
    require_count(task, len(problems), params)
    if rows > len(problems):
        logger.info("task %s: %d rows are %d problems, the others are copies", task, rows, len(problems))
    return with_ids(list(problems.values()), identities)


def identity(row: Row) -> str | None:
    """The published id of a row; None where it has none."""
    extra = row.get("extra_info")
    candidates = [row.get(name) for name in ID] + [extra.get("index") if isinstance(extra, Mapping) else None]
    for value in candidates:
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def problem_text(row: Row, place: str) -> str:
    """The bare problem: a column of text, or what a prompt for training has inside its wrapper.

    Raises:
        DataError: there is no such column, or it is empty.
    """
    extra = row.get("extra_info")
    if isinstance(extra, Mapping) and isinstance(extra.get("raw_problem"), str) and extra["raw_problem"].strip():
        return bare(extra["raw_problem"])
    text = bare(prompt_text(row, place))
    if not text:
        raise DataError(f"{place}: the prompt has a wrapper but no problem in it")
    return text


def prompt_text(row: Row, place: str) -> str:
    """The problem as published, with its wrapper if it has one: text, or the user's message of a chat.

    Raises:
        DataError: see `problem_text`.
    """
    messages = row.get("prompt")
    if not isinstance(messages, list):
        return text_column(row, ("prompt", *PROBLEM) if isinstance(messages, str) else PROBLEM, place)
    users = [one for one in messages if isinstance(one, Mapping) and one.get("role") == "user"]
    if len(users) != 1:
        raise DataError(f"{place}: 'prompt' must hold one user message, got {len(users)}")
    return text_column(users[0], ("content",), f"{place}, 'prompt'")


def gold_text(row: Row, place: str) -> str:
    """The gold answer: a column of its own (what its box holds, if it is boxed), else the last box of the solution.

    Raises:
        DataError: there is neither.
    """
    model = row.get("reward_model")
    if isinstance(model, Mapping):
        return text_column(model, ("ground_truth",), f"{place}, 'reward_model'").strip()
    if any(name in row for name in ANSWER) or not any(name in row for name in SOLUTION):
        answer = text_column(row, ANSWER, place).strip()
        return last_box(answer) or answer
    solution = text_column(row, SOLUTION, place)
    answer = (last_box(solution) or "").strip()
    if not answer:
        raise DataError(
            f"{place}: there is no column 'answer', and 'solution' has no \\boxed{{...}}: {solution[-80:]!r}"
        )
    return answer


def aime_answer(row: Row, place: str) -> str:
    """The gold answer of an AIME problem, a number from 0 to 999 without leading zeros.

    Raises:
        DataError: it is none.
    """
    text = gold_text(row, place)
    number = whole_number(text)
    if number is None or not 0 <= int(number) <= 999:
        raise DataError(
            f"{place}: an AIME answer is a whole number from 0 to 999, got {text!r:.80}; are these the right columns?"
        )
    return number


def bare(text: str) -> str:
    """The problem without the DAPO wrapper, however often it was wrapped; other texts lose the blanks around them."""
    text = text.strip()
    while True:
        start = _PREFIX.match(text)
        inner = text[start.end() :] if start else text
        tail = max(len(inner) - _SUFFIX_LENGTH, 0)
        end = next((suffix for suffix in _SUFFIX.finditer(inner, tail) if suffix.end() == len(inner)), None)
        inner = inner[: end.start()].strip() if end else inner.strip()
        if inner == text:
            return text
        text = inner


def wrap(text: str) -> str:
    """The problem in the DAPO wrapper; a text that is wrapped stays as it is."""
    problem = bare(text)
    whole = text.strip()
    wrapped = _PREFIX.match(whole) and any(suffix.end() == len(whole) for suffix in _SUFFIX.finditer(whole))
    return text if wrapped else f"{PREFIX}{problem}{SUFFIX}"


def whole_number(text: str) -> str | None:
    """A whole number in plain digits, whatever its spelling (025, 27.0, 336^\\circ, $5$); None where it is none."""
    plain = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|°", "", text).replace("$", "").strip()
    match = re.fullmatch(r"([+-]?[0-9]{1,1000})(?:\.0*)?", plain)
    return str(int(match[1])) if match else None


def _small(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None and value != ""}
