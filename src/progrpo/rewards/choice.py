"""Multiple-choice letters (GPQA, MMLU-Pro): the last letter the completion gives as its answer; never a random guess.

Published harnesses disagree on which mention counts; the modes are:
    last       the last of `Answer: X`, `**Answer: X**`, \\boxed{X} and "the answer is (X)" after the last </think>; without
               one, the last of "the correct option is (X)", "X is correct" and "I choose X"; without one of these, too,
               the letter that is the whole text or stands alone on its last line
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
_GIVEN = rf"[A-Z](?=[)*$}}\]\\])|[A-Z]{_WORD}|(?<=\()[a-z](?=\))"
_LINE = rf"(?i:answer)(?:\s{{1,20}}is)?\*{{0,9}}\s{{0,20}}[:：]{_WRAP}(?P<line>[A-Z](?![\w'’])|[a-z](?=[\s).*$}}\]]*(?:\n|$)))"
_BOX = rf"\\boxed\{{{_WRAP}(?P<box>[A-Za-z])(?![\w'’])"
_SURELY = r"(?i:(?:for\s(?:sure|certain)|definitely|certainly|clearly|surely|obviously|indeed|therefore|thus|then)\s{1,9}){0,3}"
_PHRASE = rf"(?i:answer)\s{{1,20}}is:?\s{{1,20}}{_SURELY}(?:\\?\(|{_WRAP})(?P<phrase>{_GIVEN})"
_FOUND = re.compile(rf"{_LINE}|{_BOX}|{_PHRASE}")
_HEDGE = re.compile(
    r"[\s).*$}\]]{0,20}(?:,|/|&|\bor\b|\band\b)[\s(*$]{0,20}(?:or\s|and\s)?[\s(*$]{0,20}[A-Z](?![\w'’])"
)
_LETTER = r"[A-Z](?![\w'’])"
_CLOSED = r"[\s).*_$}\]]{0,12}"
_NAMED = re.compile(
    rf"(?:(?i:option|choice|letter|selection)\s{{1,9}}(?i:is|(?:would|must|should)\s+be)\b|(?i:answer)\s{{1,9}}(?i:would|must|should)"
    rf"\s{{1,9}}be\b|(?i:correct|right|best|final)\s(?i:option|choice|letter)\*{{0,2}}\s?[:：])[\s:]{{0,9}}{_WRAP}(?P<option>{_GIVEN})|"
    rf"(?<![\w'’])(?P<right>{_LETTER}|(?<=\()[a-z](?=\))){_CLOSED}\s(?i:is|(?:would|must|should)\s+be)\s{{1,9}}"
    r"(?:(?i:the|therefore|thus|clearly|indeed|definitely|hence|also)\s{1,9}){0,3}(?i:correct|right|best|answer|true)"
    r"(?![\w'’])(?!\s{0,9}(?:\?|(?i:if|only|when|unless|but|or)\b))|"
    rf"\bI(?i:'d|’d|\s+would|\s+will)?\s{{1,9}}(?i:choose|pick|select)\s{{1,9}}{_WRAP}(?P<chosen>{_GIVEN})"
)
"""Weaker than the forms above: such sentences also stand in the reasons for an answer."""
_OPEN = re.compile(
    r"(?i)\b(?:if|whether|doubt|not|never|neither|nor|\w+n['’]t|assum\w+|suppos\w+|unless|either|why|claims?|both|would|might|"
    r"could|seems?|maybe|perhaps)\b"
)
_BARE = re.compile(r"[\s*_$({\[]{0,12}(?:\\text(?:bf)?\{)?(?i:option\s|choice\s)?\(?([A-Za-z])[\s).*_$}\]]{0,12}")
_LISTED = re.compile(
    r"\*{0,2}\(?([A-Z])(?:\)|[.:](?=[\s*]))\*{0,2}\s?(?!\s?(?i:is|are|was|or|and|not|vs)\b)[^\n]{1,500}"
)
_OTHER_OPTION = re.compile(r"(?<![\w'’])\(?[A-Z](?:\)|\.\s)")
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
    answer = {"last": _last, "strict": _strict, "mmlu_pro": _mmlu_pro}[params.mode](text)
    if not answer:
        return Verdict(status="no_answer", reward=params.wrong_reward, detail="no letter is given as the answer")
    if answer == gold:
        return Verdict(status="correct", reward=params.correct_reward, extracted=answer)
    detail = "more than one letter" if len(answer) > 1 else f"expected {gold}"
    if len(answer) == 1 and answer not in letters:
        detail = f"{answer} is not among {letters[0]} to {letters[-1]}"
    return Verdict(status="wrong", reward=params.wrong_reward, extracted=answer, detail=detail)


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
        return _named(text) or _bare(text)
    match = matches[-1]
    letter = (match["line"] or match["box"] or match["phrase"]).upper()
    return letter + _hedge(text, match.end())


def _hedge(text: str, end: int) -> str:
    """What follows a letter and gives another one: " or B"; "" where nothing does."""
    hedge = _HEDGE.match(text, end)
    return hedge.group().rstrip() if hedge else ""


def _named(text: str) -> str:
    """The letter that a sentence names; all of them where one line names several, "" where none is named for certain."""
    letters: dict[str, None] = {}
    line = ""
    for match in _NAMED.finditer(text):
        sentence = max(text.rfind(mark, 0, match.start()) for mark in ".!?\n") + 1
        if _OPEN.search(text, sentence, match.start()):
            continue
        letter = (match["option"] or match["right"] or match["chosen"]).upper()
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        letters = {**(letters if before.startswith(line) and line else {}), letter + _hedge(text, match.end()): None}
        line = before + match.group()
    return " and ".join(letters)


def _bare(text: str) -> str:
    """The letter that is the whole text, with what the option says or without, or the last line after lines of prose."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    match = _BARE.fullmatch(lines[-1])
    alone = len(lines) == 1 or not _BARE.fullmatch(lines[-2])
    if match and alone:
        return match.group(1).upper()
    listed = _LISTED.fullmatch(lines[0].strip()) if len(lines) == 1 else None
    return listed.group(1) if listed and len(_OTHER_OPTION.findall(lines[0])) <= 1 else ""


def _strict(text: str) -> str:
    lines = text.rsplit("</think>", 1)[-1][-_TAIL:].strip().splitlines()
    match = _STRICT.fullmatch(lines[-1].strip()) if lines else None
    return match.group(1) if match else ""


def _mmlu_pro(text: str) -> str:
    match = re.search(r"answer is \(?([A-J])\)?", text)
    if match:
        return match.group(1)
    # The published `.*[aA]nswer:\s*([A-J])`: the last in the first line that has one; its `.*` takes quadratic time.
    matches = list(re.finditer(r"[aA]nswer:\s*([A-J])", text))
    if matches:
        end = text.find("\n", matches[0].start())
        return [match for match in matches if end < 0 or match.start() < end][-1].group(1)
    alone = re.findall(r"\b[A-J]\b", text)
    return alone[-1] if alone else ""
