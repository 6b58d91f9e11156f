"""Plain numbers, read exactly and without computing anything large."""

import re
from dataclasses import dataclass
from fractions import Fraction

from progrpo.rewards.math.units import agree, split_tail

MAX_DIGITS = 1000
MAX_POWER_DIGITS = 2000


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written.

    Attributes:
        value: exact; of 50\\% it is 1/2.
        step: one unit of the last written place of a decimal; None for integers and fractions, which are exact.
        places: significant digits after the decimal point, trailing zeros included ("0.050" has 2); 0 where `step` is None.
        percent: written with a percent sign.
        unit: a known unit in its short form ("cm^2"), else "".
    """

    value: Fraction
    step: Fraction | None = None
    places: int = 0
    percent: bool = False
    unit: str = ""


_WHOLE = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d+)"
_DECIMAL = re.compile(
    rf"([+-]?) ?({_WHOLE})?(?:(\.)(\d*)(?:\\overline\{{(\d+)\}})?)?"
    r"(?:[eE]([+-]?\d{1,3})| ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?(?:\{ ?([+-]? ?\d{1,3}) ?\}|(\d)))?"
)
_FRACTION = re.compile(r"([+-]?) ?(?:(\d+) ?)??(?:\\frac ?\{([^{}]*)\} ?\{([^{}]*)\}|(\d[\d,.]*) ?/ ?([+-]?\d[\d,.]*))")
_POWER = re.compile(r"([+-]?) ?(?:(\d+)|\(? ?([^()^]+?) ?\)) ?\^ ?(?:\{ ?([+-]? ?\d{1,4}) ?\}|(\d))")
_FIRST = frozenset("+-.(\\{0123456789")


def read_number(text: str) -> Number | None:
    """Read a cleaned answer as a number: integer, decimal, thousands separators, e-notation, m x 10^k, (mixed) fraction,
    repeating decimal, power of a number, percent; with or without a unit or a scale word. None for anything
    else, or anything large.
    """
    if not text or text[0] not in _FIRST:
        return None
    if text.isdigit() and len(text) <= MAX_DIGITS:
        return Number(Fraction(int(text)))
    bare, tail = split_tail(text)
    percent = bare.endswith("\\%")
    number = _read_bare(_unwrap(bare.removesuffix("\\%").strip()))
    if number is None:
        return None
    scale = Fraction(tail.scale, 100 if percent else 1)
    step = number.step * scale if number.step is not None else None
    return Number(number.value * scale, step, number.places, percent, "" if tail.unit == "?" else tail.unit)


def _unwrap(text: str) -> str:
    """Without brackets around the whole; a comma between them would separate two coordinates."""
    while (
        "," not in text
        and len(text) > 2
        and ((text[0] == "(" and text[-1] == ")") or (text[0] == "{" and text[-1] == "}"))
    ):
        if any(bracket in text[1:-1] for bracket in "(){}") and "frac" not in text:
            break
        if text[0] == "{" and "}{" in text.replace(" ", ""):
            break
        text = text[1:-1].strip()
    return text


def _read_bare(text: str) -> Number | None:
    return _read_decimal(text) or _read_fraction(text) or _read_power(text)


def _read_decimal(text: str) -> Number | None:
    match = _DECIMAL.fullmatch(text)
    if match is None or len(text) > MAX_DIGITS:
        return None
    sign, whole, point, places, repeating, *exponents = match.groups()
    whole, places = re.sub("[ ,]", "", whole or ""), places or ""
    if not (whole or places or repeating):
        return None
    exponent = int(next((exponent_text for exponent_text in exponents if exponent_text), "0").replace(" ", ""))
    scale = Fraction(10) ** (exponent - len(places))
    value = Fraction(int(whole + places or "0"))
    if repeating:
        value += Fraction(int(repeating), 10 ** len(repeating) - 1)
    exact = not point or repeating or not places
    significant = 0 if exact else min(len(places), len((whole + places).lstrip("0")))
    return Number(-value * scale if sign == "-" else value * scale, None if exact else scale, significant)


def _read_fraction(text: str) -> Number | None:
    match = _FRACTION.fullmatch(text)
    if match is None or len(text) > MAX_DIGITS:
        return None
    sign, whole, top, bottom, left, right = match.groups()
    over = _read_decimal((top if top is not None else left).strip())
    under = _read_decimal((bottom if bottom is not None else right).strip())
    if over is None or under is None or under.value == 0:
        return None
    value = over.value / under.value
    if whole:
        # "1 1/2" is mixed, "4 0/9" is 4; "3 7/2" is nothing anyone writes.
        if not 0 <= value < 1 or (left is not None and not re.match(r"[+-]? ?\d+ ", text)):
            return None
        value += int(whole)
    return Number(-value if sign == "-" else value)


def _read_power(text: str) -> Number | None:
    match = _POWER.fullmatch(text)
    if match is None:
        return None
    sign, whole, group, long, short = match.groups()
    exponent = int((long or short).replace(" ", ""))
    base = _read_decimal(whole or group) or _read_fraction(whole or group)
    if base is None or base.step is not None or (base.value == 0 and exponent <= 0):
        return None
    length = len(str(base.value.numerator)) + len(str(base.value.denominator))
    if length * abs(exponent) > MAX_POWER_DIGITS:
        return None
    value = base.value**exponent
    return Number(-value if sign == "-" else value)


def numbers_equal(
    gold: Number, answer: Number, *, percent_optional: bool, rounded_places: int | None, relative_tolerance: float
) -> bool:
    """Compare exactly; a long enough decimal also stands for what rounds or truncates to it.

    Known units must agree where both sides name one. See rewards/math.py for the three settings.
    """
    if not agree(gold.unit, answer.unit):
        return False
    if percent_optional and gold.percent != answer.percent:
        bare, signed = (gold, answer) if answer.percent else (answer, gold)
        if bare.value == signed.value * 100:
            return True
    if gold.value == answer.value:
        return True
    if relative_tolerance and gold.value.denominator != 1:
        return abs(gold.value - answer.value) <= Fraction(relative_tolerance) * abs(gold.value)
    return stands_for(gold, answer.value, rounded_places) or stands_for(answer, gold.value, rounded_places)


def stands_for(decimal: Number, value: Fraction, rounded_places: int | None) -> bool:
    """Whether a decimal with enough places is a value rounded or cut off at its last place."""
    if rounded_places is None or decimal.step is None or decimal.places < rounded_places:
        return False
    excess = abs(value) - abs(decimal.value)
    if value * decimal.value < 0:
        return False
    return 0 <= excess < decimal.step or abs(excess) <= decimal.step / 2
