"""What kind of thing an answer is: number, tuple, interval, set, list, matrix, relation, ... Reading computes nothing."""

import re
from dataclasses import dataclass, field
from fractions import Fraction

from progrpo.rewards.math.numbers import Number, read_number, split_unit
from progrpo.rewards.math.text import clean, key


@dataclass(frozen=True, slots=True)
class Based:
    """Digits with the base they are written in."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Compound:
    """Several parts: "()", "[)" and the like are ordered, so are "matrix" and its "row"s; "set", "list" and "union" not."""

    kind: str
    items: "tuple[Form, ...]"
    text: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """a = b = c or a < x <= b: the parts as text and the signs between them."""

    parts: tuple[str, ...]
    signs: tuple[str, ...]
    text: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Scalar:
    """Anything else: an expression, a word. `text` is without its unit."""

    text: str
    unit: str = ""


Form = Number | Based | Compound | Chain | Scalar

_BASED = re.compile(r"(\d[0-9A-F]*)_\{? ?(?:\\text\{)?(\d{1,2}|two|three|eight|ten|sixteen)\}? ?\}?")
_BASE_WORDS = re.compile(
    r"(\d[0-9A-F]*) ?(?:\\text\{)? ?(?:in )?base[ -]?(?:\})? ?\{?(\d{1,2}|two|three|eight|ten|sixteen)\}?\}?"
)
_BASES = {"two": 2, "three": 3, "eight": 8, "ten": 10, "sixteen": 16}
_RATIO = re.compile(r"(\d+):(\d+)(?::(\d+))?(?: ?(?:\\text\{ ?)?([aApP])\.? ?[mM]\.? ?\}?)?")
_MATRIX = re.compile(r"\\begin\{([pbB]?matrix|smallmatrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}")
_MEMBER = re.compile(r"^[A-Za-z] ?\\in(?![a-zA-Z]) ?")
_SIGN = re.compile(r"\\le(?![a-z]) ?|\\ge(?![a-z]) ?|\\ne(?![a-z]) ?|\\approx(?![a-z]) ?|[<>=]")
_SEPARATOR = re.compile(r"[,;]")
_BARE_SEPARATOR = re.compile(r"(?<!\d),|,(?!\d{3}(?!\d))|;")
_UNION = re.compile(r"\\cup(?![a-z]) ?")
_REALS = (r"\mathbb{R}", r"\mathbbR", "allrealnumbers", "allreals")
_EITHER_SIGN = re.compile(r"\\(pm|mp)(?![a-zA-Z]) ?")
_OPEN, _CLOSE = {"(": ")", "[": "]", "{": "}"}, frozenset(")]}")


def read(text: str) -> Form:
    """Read a cleaned answer; every text has a form."""
    text = text.strip()
    number = read_number(text)
    if number is not None:
        return number
    for pattern in (_BASED, _BASE_WORDS):
        match = pattern.fullmatch(text)
        based = _based(*match.groups()) if match else None
        if based is not None:
            return based
    match = _RATIO.fullmatch(text)
    if match:
        items = [Scalar(part.lower()) if part.isalpha() else _whole(part) for part in match.groups() if part]
        return Compound("ratio", tuple(items), text)
    return _read_structure(_MEMBER.sub("", text))


def _read_structure(text: str) -> Form:
    if key(text) in _REALS:
        return Compound("()", (Scalar(r"-\infty"), Scalar(r"\infty")), text)
    if text == r"\emptyset":
        return Compound("set", (), text)
    match = _MATRIX.fullmatch(text)
    if match and r"\begin" not in match.group(2):
        rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match.group(2)) if row.strip()]
        read_rows = [Compound("row", tuple(read(cell) for cell in row.split("&")), row) for row in rows]
        return Compound("matrix", tuple(read_rows), text)
    parts = split_top(text, _BARE_SEPARATOR)[0]
    if len(parts) > 1:
        return Compound("list", tuple(read(part) for part in parts if part.strip()), text)
    parts = split_top(text, _UNION)[0]
    if len(parts) > 1:
        return Compound("union", tuple(read(part) for part in parts), text)
    enclosed = _read_brackets(text)
    if enclosed is not None:
        return enclosed
    parts, signs = split_top(text, _SIGN)
    if len(parts) > 1:
        return Chain(tuple(part.strip() for part in parts), tuple(sign.strip() for sign in signs), text)
    if _EITHER_SIGN.search(text):
        return Compound("list", tuple(read(clean(_choose(text, upper))) for upper in (True, False)), text)
    bare, unit = split_unit(text)
    return Scalar(bare.strip(), "" if unit == "?" else unit) if unit and bare.strip() else Scalar(text)


def _based(digits: str, base_name: str) -> Form | None:
    base = _BASES.get(base_name) or int(base_name)
    if not 2 <= base <= 16 or any(int(digit, 16) >= base for digit in digits) or len(digits) > 200:
        return None
    return _whole(digits) if base == 10 else Based(digits.lstrip("0") or "0", base)


def _whole(digits: str) -> Form:
    return Number(Fraction(int(digits)))


def _read_brackets(text: str) -> Form | None:
    r"""The form of (...), [...], (...] and \{...\}; None where one pair does not enclose the whole."""
    if text.startswith(r"\{") and text.endswith(r"\}"):
        inner = text[2:-2]
        parts = split_top(inner, _SEPARATOR)[0]
        # A set by its condition is left to algebra.
        if (r"\}" in inner and r"\{" not in inner) or re.search(r"\\mid|[|:]", inner):
            return None
        return Compound("set", tuple(read(part) for part in parts), text)
    if len(text) < 2 or text[0] not in "([{" or text[-1] not in ")]}" or _closing(text) != len(text) - 1:
        return None
    parts = split_top(text[1:-1], _SEPARATOR)[0]
    if text[0] == "{" or (len(parts) == 1 and text[0] == "("):
        return read(text[1:-1])
    return Compound(text[0] + text[-1], tuple(read(part) for part in parts), text)


def _closing(text: str) -> int:
    """Where the bracket that opens the text is closed, ( and [ taken for one another; -1 if never."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0:
            return position
    return -1


def split_top(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Split at separators outside all brackets: the parts and the separators."""
    parts, found, depth, start = [], [], 0, 0
    position = 0
    while position < len(text):
        character = text[position]
        match = separator.match(text, position) if depth == 0 else None
        if match:
            parts.append(text[start:position])
            found.append(match.group())
            start = position = match.end()
            continue
        depth = max(0, depth + (character in _OPEN) - (character in _CLOSE))
        position += 1
    return [*parts, text[start:]], found


def _choose(text: str, upper: bool) -> str:
    """The text with the upper or the lower of all its double signs."""
    return _EITHER_SIGN.sub(lambda match: "+" if (match.group(1) == "pm") == upper else "-", text).lstrip("+")
