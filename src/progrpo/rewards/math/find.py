r"""Where the answer of a completion stands: in a box, on an "Answer:" line, after "####", or the last number.

Nothing here computes anything: every function is linear in a text that it has cut to size.
"""

import re
from collections.abc import Sequence
from typing import Literal

Place = Literal["boxed", "answer_line", "gsm8k", "last_number", "last_expression"]

TAIL = 4000
"""Characters at the end of a completion that are looked at."""

_BOX = r"\\{1,8}(?:boxed|fbox|framebox)(?![a-zA-Z])"
_TOKEN = re.compile(rf"(?P<box>{_BOX}\s{{0,9}}\{{)|\\\\|\\[{{}}]|[{{}}]")
_COMMANDS = (r"\boxed", r"\fbox", r"\framebox")
# \boxed 5, \boxed\frac12: up to the end of the formula, the sentence or the line; a word after it is prose.
_BARE_BOX = re.compile(
    rf"{_BOX}\s{{0,9}}(?=[-+.\d(\[\\|$]|[A-Za-z](?![A-Za-z]))(?P<bare>[^\n$]{{1,500}}?)(?=\$|\\\)|\\\]|\n|[.,;:]?\s*$|[.,;:]\s)"
)
_ANSWER_LINE = re.compile(r"(?i)answer(?:\s+is)?\s*[:：][\s*_]*([^\n]+)")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_ANSWER_IS = re.compile(r"(?i)\banswer\s+is\b[:\s*_]{0,9}([^\n]+)")
_SENTENCE_END = re.compile(r"(?<=[\w}$)\]*])\.\s+(?=[A-Z]).*")
_FORMULA = r"(?<!\\)\$((?:\\.|[^$\\])+)\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]"
# What follows a number and makes it another one stays with it: 28 percent, 5 million.
_SCALED = r"(?:\s?\\?%|\s(?:percent|per cent|pct|hundred|thousand|million|billion|trillion|dozen)(?![a-z]))*"
_DIGITS = r"(?:(?:\d{1,3}(?: \d{3})+(?![\d,])|\d[\d,]*)(?:\.\d+)?|\.\d+)"
_FRACTION = r"\\[dt]?frac\{[^{}]{1,50}\}\{[^{}]{1,50}\}"
# Part of a word ("A2") is no number; Chinese, Japanese, Korean and Thai put no space before one.
_NO_WORD = r"(?<![^\W\u0e00-\u0e4f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])(?<!\.)"
_EXPRESSION = re.compile(rf"(?:{_FORMULA}|({_NO_WORD}[+-]?(?:{_DIGITS}(?:/\d+)?|{_FRACTION})))({_SCALED})", re.DOTALL)
_PERCENT = re.compile(r"\s{0,3}[$}]{0,2}\s{0,3}(?:\\?%|\\text\{\s?percent\s?\}|per ?cent(?!age point)|pct(?![a-z]))")


def extract(text: str, places: Sequence[Place]) -> str | None:
    """The answer as written, from the first of the places that has one; None where none has.

    Only the text after the last </think> counts, and of that the tail.
    """
    tail = text.rsplit("</think>", 1)[-1][-TAIL:]
    for place in places:
        answer = _READERS[place](tail)
        # A lone surrogate cannot be written to a file later.
        answer = answer.strip().encode("utf-8", "replace").decode() if answer else ""
        if answer:
            return answer
    return None


def thinks_on(text: str) -> bool:
    """Whether a <think> is never closed, so that the text has thoughts and no answer."""
    return text.rfind("<think>") > text.rfind("</think>")


def written(gold: str, place: Place) -> str:
    """A gold answer as a completion would give it in this place."""
    line = " ".join(gold.split("\n"))
    forms = {"boxed": rf"\boxed{{{gold}}}", "answer_line": f"Answer: {line}", "gsm8k": f"#### {line}"}
    return forms.get(place, f"${gold}$")


def percent_after_box(text: str) -> bool:
    """Whether a percent sign follows the box that counts: \\boxed{28}\\%."""
    tail = text.rsplit("</think>", 1)[-1][-TAIL:]
    return _PERCENT.match(tail, max(_last_box(tail)[1], 0)) is not None


def _boxed(text: str) -> str | None:
    return _last_box(text)[0]


def _last_box(text: str) -> tuple[str | None, int]:
    """What the last box holds and where it ends; (None, -1) without one.

    It is the outermost complete box that ends last, or what follows a \\boxed without braces; boxes without an end and empty
    ones are passed over. Text that was escaped twice (\\\\boxed) is read as if once.
    """
    opened: list[tuple[int, bool] | None] = []
    content: str | None = None
    end = -1
    starts = [start for start in map(text.find, _COMMANDS) if start >= 0]
    if not starts:
        return None, -1
    start = max(min(starts) - 7, 0)  # all its backslashes
    for match in _TOKEN.finditer(text, start):
        token = match.group()
        if token == "}":
            box = opened.pop() if opened else None
            if box is not None and text[box[0] : match.start()].strip():
                content, end = text[box[0] : match.start()], match.end()
                content = content.replace("\\\\", "\\") if box[1] else content
        elif match["box"]:
            twice = len(token) - len(token.lstrip("\\")) == 2
            opened.append((match.end(), twice))
        elif token == "{":
            opened.append(None)
    for match in _BARE_BOX.finditer(text, start):
        if match.end() > end and match["bare"].strip():
            content, end = match["bare"], match.end()
    return content, end


def _line(text: str) -> str | None:
    return _last_line(_ANSWER_LINE, text)


def _gsm8k(text: str) -> str | None:
    after_hashes = _last_line(_HASHES, text)
    return after_hashes if after_hashes else _last_line(_ANSWER_IS, text)


def _last_line(pattern: re.Pattern[str], text: str) -> str | None:
    lines = pattern.findall(text)
    if not lines:
        return None
    # A turn that goes on in the text of its special tokens ends the answer.
    return _SENTENCE_END.sub("", lines[-1].partition("<|")[0].strip()).strip("*_ ")


def _expressions(text: str) -> list[str]:
    expressions = []
    for match in _EXPRESSION.finditer(text):
        *groups, scale = match.groups()
        expressions.append(next(group for group in groups if group is not None).rstrip(",") + (scale or ""))
    return expressions


def _last_expression(text: str) -> str | None:
    return next(reversed(_expressions(text)), None)


def _last_number(text: str) -> str | None:
    """The last number, or the whole formula it stands in: of $\frac{1}{2}$ the 2 is no answer."""
    return next((one for one in reversed(_expressions(text)) if re.search(r"\d", one)), None)


_READERS = {
    "boxed": _boxed,
    "answer_line": _line,
    "gsm8k": _gsm8k,
    "last_number": _last_number,
    "last_expression": _last_expression,
}
