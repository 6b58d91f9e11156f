r"""What may follow a value without making it another one: units, counted things, scale words ("5 million").

Anything else after a number ("5 squared", "5 is not the answer", "5\text{ vs 6}") makes it no number at all.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows a value.

    Attributes:
        scale: what the value is multiplied by: 10**6 for "million".
        unit: the short name of a known unit ("cm^2", "km/h"), "?" for counted things and other words, "" for none.
    """

    scale: int = 1
    unit: str = ""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _names(table: str) -> dict[str, str]:
    rows = [[name.strip() for name in row.split(",")] for row in table.replace("\n", " ").split("|")]
    return {name: names[0] for names in rows for name in names}


_SYMBOLS = _names(
    "mm|cm|dm|m|km|nm|in|ft|yd|mi|mg|g,gm|kg|lb,lbs|oz|ms|s,sec|min|h,hr,hrs|yr|rad|L,l|mL,ml|cL,cl|gal|J|kJ|cal|kcal|eV|"
    "kWh|N|kN|W|kW|MW|V|kV|A|mA|K|Hz|kHz|MHz|GHz|Pa,pa|kPa|MPa|atm|psi|mol|mmol|C|F|T|H|ha|t|dB|bit|B|kB,KB|MB|GB|TB|"
    "rev|rpm|mph,mi/h|kph,km/h,kmh,kmph|mps,m/s|deg,degree|USD,dollar,usd|EUR,euro|GBP|CNY,RMB,yuan|INR,Rs,rs,rupee|JPY,yen|"
    "\\Omega,ohm|cc,cm^3|AU,au|ly|lx|cd"
)
_WORDS = _names(
    "mm,millimeter,millimetre|cm,centimeter,centimetre|dm,decimeter,decimetre|m,meter,metre|km,kilometer,kilometre|"
    "nm,nanometer,nanometre|µm,micrometer,micron|in,inch,inche|ft,foot,feet|yd,yard|mi,mile|nautical mile|"
    "ly,light year,light-year|mg,milligram|g,gram,gramme|kg,kilogram,kilo|lb,pound|oz,ounce|ton|t,tonne|stone|carat|"
    "ms,millisecond|s,second,sec|min,minute,mins|h,hour,hr|day|week|fortnight|month|yr,year|decade|century,centurie|degree,deg|"
    "degree C,degree celsius,celsius,degree centigrade|degree F,degree fahrenheit,fahrenheit|rad,radian|"
    "dollar,buck,us dollar|cent|penny,pennie,pence|quarter coin|euro|GBP,pound sterling|yen|yuan|rupee|ruble,rouble|peso|franc|"
    "won|L,liter,litre|mL,milliliter,millilitre|cL,centiliter,centilitre|gal,gallon|quart|pint|fluid ounce|tablespoon,tbsp|"
    "teaspoon,tsp|"
    "J,joule|kJ,kilojoule|cal,calorie|kcal,kilocalorie|eV,electron volt,electronvolt|kWh,kilowatt-hour,kilowatt hour|"
    "N,newton|W,watt|kW,kilowatt|V,volt|A,ampere,amp|\\Omega,ohm|K,kelvin|Hz,hertz|Pa,pascal|atm,atmosphere|mol,mole|"
    "C,coulomb|F,farad|T,tesla|H,henry|acre|ha,hectare|rev,revolution|knot|bit|B,byte|kB,kilobyte|MB,megabyte|GB,gigabyte|"
    "TB,terabyte|person,people"
)
_EXPANDED = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "mps": {"m": 1, "s": -1}, "cc": {"cm": 3}}
_EXPANDED["rpm"] = {"rev": 1, "min": -1}
_ALGEBRA = frozenset({"mg", "ms", "nm", "ha", "cc", "au", "ly", "cl", "ml", "kn", "in"})
"""Short names that are products of letters unless they stand in \\text{} or apart from the number."""

_SCALES = {"ten": 10, "dozen": 12, "score": 20, "hundred": 100, "gross": 144, "thousand": 10**3, "lakh": 10**5}
_SCALES |= {"million": 10**6, "crore": 10**7, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}

_NUMERALS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety half halve halves third fourth quarter fifth "
    "sixth seventh eighth ninth tenth hundredth thousandth millionth couple twice thrice double triple quadruple"
)
_NO_THING = _words(
    "not no non nor or and but if unless except than to through thru till until upto versus vs is are was were be been am isnt "
    "arent wasnt has have had do does did can could may might must shall should will would maybe perhaps possibly probably "
    "approx approximately about around roughly nearly almost otherwise else instead rather when where while because since "
    "so then thus hence therefore wrong incorrect false i you it this that these those its his hers ours yours theirs us as "
    "by at from into out up down off with without for over under between plus minus times divided multiplied squared cubed "
    "factorial power modulo mod choose doubled tripled halved percent percentage pct permille basis log sqrt equals equal "
    "exceeds divides yields gives makes means remains works seems looks appears fails counts suffices happens occurs exists "
    "becomes contains includes less least most always sometimes never perhaps besides alas guess unsure any some other others "
    "another afterwards towards across plusminus yes thanks wait sorry whereas unlike despite say says i'm it's isn't "
    "aren't doesn't don't can't cannot won't actually correction oops"
)
"""Words that no counted thing is made of: they turn a number into something else, or leave it open."""
_THINGS = _words(
    "people men women children feet mice geese teeth fish sheep dice deer oxen data criteria formulae polyhedra way apple "
    "person student book ball card coin solution root pair triple point digit integer number value term element member "
    "factor divisor multiple edge face vertex side angle triangle square circle rectangle cube line segment cup piece slice "
    "page mark stamp ticket marble pencil pen candy cookie orange egg boy girl man woman child game match team player "
    "question problem day trip step move turn row column letter word unit box bag bottle car bus dog cat bird cake pizza "
    "arrangement permutation combination outcome case set subset function path tree flower plant house room table chair "
    "shirt sock share vote seat cell tile block worker hour minute gift prize song fruit banana pear grape lemon item"
)
_POINTING = _words("the a an each it them this so do be have")
_HARMLESS = re.compile(
    r"\s+(?:in (?:total|all|length|area|volume|height|width|perimeter|size|value)|altogether|total|overall|ago|old|long|wide|"
    r"tall|high|deep|away|apart|left|remaining|each|only|exactly|of age|from now|later|earlier|such)\s*$"
)

_TOKEN = re.compile(r"\\Omega|\^\s*\{?\s*-?\d\s*\}?|[/*]|[A-Za-zµ]+(?:['-][A-Za-z]+)*\.?|\S")
_POWER = re.compile(r"\^\s*\{?\s*(-?\d)\s*\}?")


def read_tail(words: str) -> Tail | None:
    """What words after a value say; None where they are no unit, thing or scale."""
    words = " " + words.strip().rstrip(".")
    while (match := _HARMLESS.search(words)) is not None:
        words = words[: match.start()]
    tokens = _TOKEN.findall(words)
    scale = 1
    while tokens and (factor := _SCALES.get(tokens[0].lower().removesuffix("s")) or _SCALES.get(tokens[0].lower())):
        scale *= factor
        tokens = tokens[2:] if len(tokens) > 2 and tokens[1].lower() == "of" else tokens[1:]
    if not tokens:
        return Tail(scale)
    if tokens[0].lower() in ("per", "each", "every", "a", "an") and len(tokens) == 2 and _is_noun(tokens[1].lower()):
        return Tail(scale, "?")
    if tokens[0].lower() == "of":  # 50% of the students, 3/4 of a mile
        whole = [token.lower() for token in tokens[1:] if token.lower() not in _POINTING]
        plain = 0 < len(whole) <= 4 and all(_is_word(word) for word in whole) and _is_noun(whole[-1])
        return Tail(scale, "?") if plain else None
    unit = _read_unit(tokens)
    if unit is not None:
        return Tail(scale, unit)
    return Tail(scale, "?") if _is_thing(tokens) else None


def _read_unit(tokens: list[str]) -> str | None:
    """The canonical name of a product of units ("kg*m/s^2"), "?" for "square units"; None where one is unknown."""
    exponents: dict[str, int] = {}
    position, sign, known = 0, 1, True
    while position < len(tokens):
        token = tokens[position].lower()
        if token in ("/", "per", "a", "an", "*") and 0 < position < len(tokens) - 1:
            # In a/b c the c is below too; a * stays on its side.
            sign = sign if token == "*" else -1
            position += 1
            continue
        power = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3, "cu.": 3}.get(token, 1)
        position += power > 1
        name, used = _unit_at(tokens, position)
        if name is None and sign < 0 and position == len(tokens) - 1 and _is_noun(tokens[position].lower()):
            name, used = tokens[position].lower().removesuffix("s"), 1
        if name is None:
            return None
        position += used
        if position < len(tokens) and (match := _POWER.fullmatch(tokens[position])):
            power, position = int(match.group(1)), position + 1
        elif position < len(tokens) and tokens[position].lower() in ("squared", "cubed"):
            power, position = 2 if tokens[position].lower() == "squared" else 3, position + 1
        known = known and name != "unit"
        for base, exponent in _EXPANDED.get(name, {name: 1}).items():
            exponents[base] = exponents.get(base, 0) + sign * power * exponent
    return _spelled(exponents) if known else "?"


def _unit_at(tokens: list[str], position: int) -> tuple[str | None, int]:
    """The short name of the unit at a position, of one or two words, and how many words it takes."""
    for used in (2, 1):
        words = [token.rstrip(".") for token in tokens[position : position + used]]
        if len(words) < used or words[-1].lower() in _NO_THING:  # "has" is no number of hectares
            continue
        last = words[-1].removesuffix("s") if len(words[-1]) > 2 else words[-1]
        first = words[0].removesuffix("s") if used == 2 and len(words[0]) > 3 else words[0]
        whole = last if used == 1 else f"{first} {last}"
        plain = words[0] if used == 1 else f"{first} {words[-1]}"
        if whole.lower() in ("unit", "degree c", "degree f"):
            return {"unit": "unit", "degree c": "degree C", "degree f": "degree F"}[whole.lower()], used
        if (short_name := _SYMBOLS.get(plain)) is not None:
            return short_name, used
        if len(plain) > 1 and (short_name := _WORDS.get(plain.lower()) or _WORDS.get(whole.lower())) is not None:
            return short_name, used
        if (short_name := _SYMBOLS.get(whole) or _SYMBOLS.get(plain.lower())) is not None and len(plain) > 1:
            return short_name, used
    return None, 0


def _spelled(exponents: dict[str, int]) -> str:
    parts = [name if power == 1 else f"{name}^{power}" for name, power in sorted(exponents.items()) if power]
    return "*".join(parts) or "?"


def _is_thing(tokens: list[str]) -> bool:
    """Whether words name counted things: "red apples", "ordered pairs", "cups of flour", "people per room"."""
    words = [token.lower().rstrip(".") for token in tokens]
    if words == ["times"]:
        return True
    joint = next((index for index, word in enumerate(words) if word in ("of", "per", "in", "to")), len(words))
    head, rest = words[:joint], [word for word in words[joint + 1 :] if word not in _POINTING]
    if len(words) > 8 or not all(_is_word(word) for word in head + rest) or ("to" in words and head[-1:] != ["ways"]):
        return False
    return bool(head) and _is_noun(head[-1]) and joint != len(words) - 1 and "the" not in head


def _is_word(word: str) -> bool:
    bare = word.removesuffix("s")
    numeral = word in _NUMERALS or bare in _NUMERALS or bare in _SCALES or word in _SCALES
    return word.replace("-", "").replace("'", "").isalpha() and word not in _NO_THING and not numeral


def _is_noun(word: str) -> bool:
    if not _is_word(word):
        return False
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return plural or word in _THINGS or (len(word) > 2 and word in _WORDS)


_DEGREE = re.compile(r"\s*\^\{\\circ\}\s*(?:([CF])|\\text\{\s*([CF])\s*\})?$")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_EXPONENT = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_UNIT_FRACTION = re.compile(
    rf"\\frac\s*\{{\s*\\text\{{([^{{}}]*)\}}({_EXPONENT})\s*\}}\s*\{{\s*\\text\{{([^{{}}]*)\}}({_EXPONENT})\s*\}}\s*$"
)
_PIECE = re.compile(
    r"\s*(?:(?:[/*]|\\cdot(?![a-z]))\s*)?"
    rf"(?:\\text\{{[^{{}}]*\}}|\\Omega(?![a-z])|(?<![\\A-Za-z])[A-Za-zµ](?:[A-Za-z'-]|\.(?!\d))*){_EXPONENT}"
)
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_MATHEMATICAL = re.compile(r"(?<![A-Za-z])(?:sqrt|pi|theta|alpha|beta|sin|cos|tan|log|exp|infty|mod|base)(?![A-Za-z])")
_MAX_WORDS = 120


def split_tail(text: str) -> tuple[str, Tail]:
    """Split a cleaned answer into what stands before its unit, thing or scale and the `Tail`; all of it and an empty one where
    there is none."""
    match = _DEGREE.search(text)
    if match and not _FUNCTION.search(text):
        letter = match.group(1) or match.group(2)
        return text[: match.start()], Tail(unit=f"degree {letter}" if letter else "degree")
    text = _UNIT_FRACTION.sub(r"\\text{\1}\2/\\text{\3}\4", text)
    for start in _starts(text):
        words = text[start:]
        if len(words) > _MAX_WORDS or (bare := _bare_words(words)) is None:
            continue
        tail = read_tail(bare)
        if tail is not None:
            return text[:start].rstrip(), tail
    return text, Tail()


def _starts(text: str) -> list[int]:
    """Where a tail may begin, the longest first: in the row of words that ends the text, after what is no word, or at a
    \\text{}."""
    starts: list[int] = []
    end = 0
    for piece in _PIECE.finditer(text):
        if piece.start() != end:
            starts.clear()
        end = piece.end()
        if piece.start() > 0 and (not starts or piece.group().lstrip().startswith(r"\text{")):
            starts.append(piece.start())
    return starts if end == len(text.rstrip()) else []


def _bare_words(words: str) -> str | None:
    """The words without \\text{}; None where what stands outside is algebra: "5m", "2xy"."""
    outside = _TEXT.sub(" ", words)
    if _MATHEMATICAL.search(outside):
        return None
    letters = re.sub(r"\\cdot|\\Omega|[^A-Za-z]", "", outside)
    stands_apart = words[:1].isspace()
    if r"\text{" not in words and (len(letters) == 1 or (letters.lower() in _ALGEBRA and not stands_apart)):
        return None
    if r"\text{" not in words and letters in ("mg", "ms") and len(words.strip()) == 2:
        return None
    return re.sub(r"\\cdot(?![a-z])", " * ", _TEXT.sub(lambda match: f" {match.group(1)} ", words)).replace("~", " ")


def agree(one: str, other: str) -> bool:
    """Whether two units may stand for the same: one is not known, or they are alike (degrees also with Celsius)."""
    if "" in (one, other) or "?" in (one, other) or one == other:
        return True
    return {one.partition(" ")[0], other.partition(" ")[0]} == {"degree"} and "degree" in (one, other)
