"""What kind of thing an answer is: number, tuple, interval, set, list, matrix, relation, ... Reading computes nothing."""

import re
from dataclasses import dataclass, field
from fractions import Fraction

from progrpo.rewards.math.numbers import Number, read_number
from progrpo.rewards.math.text import clean, key
from progrpo.rewards.math.units import split_tail


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
_MATRIX = re.compile(r"([\[(]?) ?\\begin\{([pbB]?matrix|smallmatrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\2\} ?([\])]?)")
_CASES = re.compile(r"(?:\\\{ ?)?\\begin\{(cases|aligned|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}")
_ROW_END = re.compile(r"\\\\(?:\[[^\]]*\])?")
_MEMBER = re.compile(r"^(?:[A-Za-z]|\([A-Za-z](?:, ?[A-Za-z])+\)) ?\\in(?![a-zA-Z]) ?")
_CONDITION = re.compile(r" ?([A-Za-z])(?: ?\\in ?\\mathbb ?\{?R\}?)? ?(?:\\mid|\||:) ?(.+)")
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
    rows = _read_rows(text)
    if rows is not None:
        return rows
    parts = split_top(text, _BARE_SEPARATOR)[0]
    if len(parts) > 1:
        return Compound("list", tuple(read(part) for part in parts if part.strip()), text)
    parts, signs = split_top(text, _SIGN)
    if len(parts) > 1 and {sign.strip() for sign in signs} == {"="}:
        return Chain(tuple(part.strip() for part in parts), tuple("=" for _ in signs), text)
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
    bare, tail = split_tail(text)
    if tail.scale != 1:
        bare = rf"({bare}) \cdot {tail.scale}"
    return Scalar(bare.strip(), "" if tail.unit == "?" else tail.unit) if bare.strip() else Scalar(text)


def _read_rows(text: str) -> Form | None:
    """A matrix in any brackets but bars, or the equations of a system; None for anything else."""
    match = _MATRIX.fullmatch(text)
    if match and r"\begin" not in match.group(3) and bool(match.group(1)) == bool(match.group(4)):
        rows = [row for row in _ROW_END.split(match.group(3)) if row.strip()]
        cells = [Compound("row", tuple(read(cell) for cell in row.split("&")), row) for row in rows]
        relations = not match.group(1) and all(isinstance(row.items[0], Chain) for row in cells)
        if not (match.group(2) == "array" and relations):
            return Compound("matrix", tuple(cells), text)
    match = _CASES.fullmatch(text)
    if match is None or r"\begin" in match.group(2) or re.search(r"&(?! ?=)", match.group(2)):
        return None
    rows = [row.replace("&", "").strip(" ,;") for row in _ROW_END.split(match.group(2)) if row.strip()]
    return Compound("list", tuple(read(row) for row in rows), ", ".join(rows))


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
        # A set by its condition is what the condition says, or left to algebra.
        condition = _CONDITION.fullmatch(inner)
        if condition and isinstance(said := read(condition.group(2)), Chain):
            return said
        if (r"\}" in inner and r"\{" not in inner) or re.search(r"\\mid|[|:]", inner):
            return None
        return Compound("set", tuple(read(part) for part in parts), text)
    if len(text) < 2 or text[0] not in "([{" or text[-1] not in ")]}" or _closing(text) != len(text) - 1:
        return None
    parts = split_top(text[1:-1], _SEPARATOR)[0]
    if text[0] == "{" or (len(parts) == 1 and text[0] == "("):
        return read(text[1:-1])
    items = tuple(read(part) for part in parts)
    rows = [item for item in items if isinstance(item, Compound) and item.kind == "[]"]
    if text[0] == "[" and len(rows) == len(items) and len({len(row.items) for row in rows}) == 1:
        return Compound("matrix", tuple(Compound("row", row.items, row.text) for row in rows), text)
    return Compound(text[0] + text[-1], items, text)


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
    parts, separators, depth, start = [], [], 0, 0
    position = 0
    while position < len(text):
        character = text[position]
        match = separator.match(text, position) if depth == 0 else None
        if match:
            parts.append(text[start:position])
            separators.append(match.group())
            start = position = match.end()
            continue
        depth = max(0, depth + (character in _OPEN) - (character in _CLOSE))
        position += 1
    return [*parts, text[start:]], separators


def _choose(text: str, upper: bool) -> str:
    """The text with the upper or the lower of all its double signs."""
    return _EITHER_SIGN.sub(lambda match: "+" if (match.group(1) == "pm") == upper else "-", text).lstrip("+")
