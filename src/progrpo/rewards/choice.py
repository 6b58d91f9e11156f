"""Multiple-choice letters (GPQA, MMLU-Pro): the last letter the completion gives as its answer; never a random guess.

Published harnesses disagree on which mention counts; the modes are:
    last       the last of `Answer: X`, `**Answer: X**`, \\boxed{X} and "the answer is (X)" after the last </think>
    strict     the last line that is not empty must be `Answer: X` and nothing else
    mmlu_pro   as github.com/TIGER-AI-Lab/MMLU-Pro (arXiv:2406.01574): the first "answer is (X)" of the whole text, else
               "answer: X", else the last capital letter that stands alone; where it would guess, this says `no_answer`
"""

import re
from typing import Literal

from pydantic import Field

from progrpo import rewards
from progrpo.types import Problem, Verdict

# "A" and "I" are words too: "the answer is A because" names a letter, "the answer is a guess" and "is I think" do not.
_WORD = r"(?![\w'’*])(?!(?<=[AI])\s+(?!because\b|since\b|as\b|or\b|and\b)[a-z])"
_WRAP = r"(?:[\s*_$({\[]|\\text(?:bf|rm)?\{|\\mathrm\{|\\mathbf\{|\\boxed\{|\\\(|(?i:option|choice)\s){0,20}"
_LINE = rf"(?i:answer)(?:\s{{1,20}}is)?\*{{0,9}}\s{{0,20}}[:：]{_WRAP}(?P<line>[A-Z](?![\w'’])|[a-z](?=[\s).*$}}\]]*(?:\n|$)))"
_BOX = rf"\\boxed\{{{_WRAP}(?P<box>[A-Za-z])(?![\w'’])"
_PHRASE = rf"(?i:answer)\s{{1,20}}is:?\s{{1,20}}(?:\\?\(|{_WRAP})(?P<phrase>[A-Z](?=[)*$}}\]\\])|[A-Z]{_WORD})"
_FOUND = re.compile(rf"{_LINE}|{_BOX}|{_PHRASE}")
_HEDGE = re.compile(
    r"[\s).*$}\]]{0,20}(?:,|/|&|\bor\b|\band\b)[\s(*$]{0,20}(?:or\s|and\s)?[\s(*$]{0,20}[A-Z](?![\w'’])"
)
_STRICT = re.compile(r"(?i:\**answer\s*:\**)\s*\(?([A-Z])\)?\.?\**")


_TAIL = 4000
"""Characters that are read, from the end (mmlu_pro reads all). All repetitions above are bounded: this runs unwatched."""


class Params(rewards.Params):
    options: int = Field(4, ge=2, le=26)
    """Letters from A on that are options, where `problem.info["options"]` does not list them: 4 for GPQA, 10 for MMLU-Pro."""
    mode: Literal["last", "strict", "mmlu_pro"] = "last"
    """Which mention of a letter is the answer; see the head of this file."""


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Compare the letter that the completion gives with `problem.answer`.

    `no_answer`: no letter in the form the mode wants. `wrong`: another letter, one that is no option, or two letters.
    `bad_gold`: the gold answer is no letter among the options.
    """
    fault = gold_fault(problem, params)
    if fault:
        return Verdict(status="bad_gold", reward=params.wrong_reward, detail=fault)
    gold, letters = _letter(problem.answer), _letters(problem, params)
    found = {"last": _last, "strict": _strict, "mmlu_pro": _mmlu_pro}[params.mode](text)
    if not found:
        return Verdict(status="no_answer", reward=params.wrong_reward, detail="no letter is given as the answer")
    if found == gold:
        return Verdict(status="correct", reward=params.correct_reward, extracted=found)
    detail = "more than one letter" if len(found) > 1 else f"expected {gold}"
    if len(found) == 1 and found not in letters:
        detail = f"{found} is not among {letters[0]} to {letters[-1]}"
    return Verdict(status="wrong", reward=params.wrong_reward, extracted=found, detail=detail)


def gold_fault(problem: Problem, params: Params) -> str | None:
    """Why a gold answer cannot be used: None for one letter among the options."""
    letters = _letters(problem, params)
    if not 2 <= len(letters) <= 26:
        return f"problem.info['options'] lists {len(letters)} options, expected 2 to 26"
    if len(_letter(problem.answer)) != 1 or _letter(problem.answer) not in letters:
        return f"the gold answer is {problem.answer!r}, expected a letter from {letters[0]} to {letters[-1]}"
    return None


def _letters(problem: Problem, params: Params) -> str:
    options = problem.info.get("options")
    count = len(options) if isinstance(options, list | tuple) else params.options
    return "".join(chr(ord("A") + index) for index in range(count))


def _letter(gold: str | None) -> str:
    return (gold or "").strip().strip("().").strip().upper()


def _last(text: str) -> str:
    """The last letter given as the answer; "A or B" is returned whole."""
    text = text.rsplit("</think>", 1)[-1][-_TAIL:]
    matches = list(_FOUND.finditer(text))
    if not matches:
        return ""
    match = matches[-1]
    letter = (match["line"] or match["box"] or match["phrase"]).upper()
    hedge = _HEDGE.match(text, match.end())
    return f"{letter}{hedge.group()}".strip() if hedge else letter


def _strict(text: str) -> str:
    lines = text.rsplit("</think>", 1)[-1][-_TAIL:].strip().splitlines()
    match = _STRICT.fullmatch(lines[-1].strip()) if lines else None
    return match.group(1) if match else ""


def _mmlu_pro(text: str) -> str:
    match = re.search(r"answer is \(?([A-J])\)?", text)
    if match:
        return match.group(1)
    # The published `.*[aA]nswer:\s*([A-J])`: the last in the first line that has one; its `.*` takes quadratic time.
    found = list(re.finditer(r"[aA]nswer:\s*([A-J])", text))
    if found:
        end = text.find("\n", found[0].start())
        return [match for match in found if end < 0 or match.start() < end][-1].group(1)
    alone = re.findall(r"\b[A-J]\b", text)
    return alone[-1] if alone else ""
