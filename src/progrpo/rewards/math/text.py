"""The text side of mathematical answers: give an answer one spelling, tell words from mathematics, refuse what is too much.

Nothing here computes anything: every function is linear in a text that the caller has cut to size.
"""

import re
import unicodedata
from functools import lru_cache

MAX_DEPTH = 40
"""Nested brackets; 500 of them keep a LaTeX parser busy for seconds."""
MAX_EXPONENT = 9999
"""The largest exponent, factorial or binomial of plain numbers that is ever computed."""

_SIGNS = {
    **dict.fromkeys("−–﹣‐‑", "-"),
    **dict.fromkeys("·⋅∙", r"\cdot "),
    **dict.fromkeys("≤⩽≦", r"\le "),
    **dict.fromkeys("≥⩾≧", r"\ge "),
    **dict.fromkeys("∅⌀", r"\emptyset "),
    **dict.fromkeys("‘’′", "'"),
    **{
        "×": r"\times ",
        "÷": "/",
        "⁄": "/",
        "∞": r"\infty ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "±": r"\pm ",
        "∓": r"\mp ",
    },
    **{"∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "ℝ": r"\mathbb{R}", "°": r"^{\circ}", "²": "^{2}", "³": "^{3}"},
    **{"½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}"},
    **{"₹": r"\text{rupees}", "µ": "µ", "Ω": r"\Omega "},
    **{
        "。": ".",
        "、": ",",
        "【": "[",
        "】": "]",
        "ϕ": r"\phi ",
        "€": r"\text{euros}",
        "£": r"\text{pounds}",
        "¥": r"\text{yen}",
        "¢": r"\text{cents}",
    },
}
_ROOT = re.compile(r"√\s*(\d+|[A-Za-z]|\([^()]*\))")


def _ascii_spelling(text: str) -> str:
    """Full-width and other scripts' digits, minus signs, Greek letters and the common signs, as LaTeX would have them."""
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match.group(1).strip('()')}}}", text)
    return "".join(character if character < "\x80" else _ascii_character(character) for character in text)


@lru_cache(maxsize=4096)
def _ascii_character(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if "！" <= character <= "～":
        return chr(ord(character) - 0xFEE0)
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if character.isspace():
        return " "
    words = unicodedata.name(character, "").split()
    if words[:3] == ["GREEK", "SMALL", "LETTER"] and len(words) == 4:
        return f"\\{words[3].lower().replace('lamda', 'lambda')} "
    return character


FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|coth|sin|cos|tan|cot|sec|csc|ln|log"
_NAMES = rf"{FUNCTIONS}|exp|sqrt|pi|theta"
# Thousands separators that can be nothing else.
_THOUSANDS = re.compile(
    r"(?<=\d)(?:\s?\{,?\s?(?:\\,)?\}(?:\\!)?|\\text\{,\}|,?\s?\\!\s?|,?\\,|\\[;: ]\s?|~|\\thinspace\s|')(?=\d{3}(?!\d))"
)
_LATEX = [
    (r"\\(?:left|right)\s*\.", ""),
    (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|rm|bf)(?![a-zA-Z])", ""),
    (r"(?<!\\)\\[!()\[\]]", ""),
    (r"(?<!\\)\\[,;:> ]|~|\\q?quad(?![a-zA-Z])", " "),
    (r"\\lbrace(?![a-zA-Z])", r"\\{"),
    (r"\\rbrace(?![a-zA-Z])", r"\\}"),
    (r"\\lbrack(?![a-zA-Z])", "["),
    (r"\\rbrack(?![a-zA-Z])", "]"),
    (r"\\langle(?![a-zA-Z])", "("),
    (r"\\rangle(?![a-zA-Z])", ")"),
    (r"\\[lr]?vert(?![a-zA-Z])", "|"),
    (r"\\(?:boxed|fbox|framebox)(?![a-z])\s*", ""),
    (r"\\not\s*=", r"\\ne "),
    (rf"\\(?:math(?:rm|it)|text)\s*\{{\s*({FUNCTIONS}|exp|gcd|lcm)\s*\}}", r"\\\1 "),
    (r"\\operatorname\*?\s*\{\s*(\w+)\s*\}", r"\\\1 "),
    (r"\\(?:math(?:rm|it)|text)\s*\{\s*([ei])\s*\}", r"\1"),
    (r"\\(?:underline|bm|boldsymbol|emph|ensuremath|mathstrut|hbox)\s*(?=\{)", ""),
    (r"\\(?:text)?color\s*\{[^{}]*\}\s*", ""),
    (
        r"\{\s*([^{}\\]*(?:\\[a-z]+\{[^{}]*\})*[^{}\\]*)\\over(?![a-z])\s*([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}",
        r"\\frac{\1}{\2}",
    ),
    (r"\\(?:math(?:rm|bf|it|sf)|text(?:bf|rm|it|sf|tt|up|normal)|mbox)(?![a-zA-Z])\s*", r"\\text"),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
    (r"\\frac\s*([0-9a-zA-Z]|\\pi(?![a-z]))", r"\\frac{\1}"),
    (r"\\frac\s*(\{[^{}]*\})\s*([0-9a-zA-Z]|\\pi(?![a-z]))", r"\\frac\1{\2}"),
    (r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}"),
    (r"\\(?:geq|geqslant|ge)(?![a-zA-Z])", r"\\ge "),
    (r"\\(?:leq|leqslant|le)(?![a-zA-Z])", r"\\le "),
    (r"\\neq?(?![a-zA-Z])", r"\\ne "),
    (r"\\lt(?![a-zA-Z])", "<"),
    (r"\\gt(?![a-zA-Z])", ">"),
    (r"\\colon(?![a-zA-Z])", ":"),
    (r"\\varnothing(?![a-zA-Z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?|\\degree(?![a-zA-Z])", r"^{\\circ}"),
    (r"^\\text\{\s*([+-]?\d[^{}]*)\}$", r"\1"),
    (r"\\text\{\s*([+-]?)\s*infinity\s*\}", r"\1\\infty "),
    (r"\\text\{([0-9 ./,;:+-]*)\}", r"\1"),
    (r"\\text\{\s*(?:percent(?:age)?|per cent|pct|\\?%)\s*\}", r"\\%"),
]
_PLAIN = [
    (r"(?i)^(?:so\s+)?(?:the\s+)?(?:final\s+)?answer\s*(?:is\b)?\s*:?\s*(?=\S)", ""),
    (r",?\s*(?:\\text\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\{])(?:and|or)(?![A-Za-z}]))\s*", ", "),
    (r"(?i)(?<![a-z\\])(?:infinity|inf)(?![a-z])", r"\\infty "),
    (r"(?<=[\d\s}])\s*(?:\\?%|per ?cent(?:age(?! point))?(?![a-z])|pct(?![a-z]))", r"\\%"),
    (r"(?<!\w)np\.(?=[a-z])", ""),
    (r"\*\*", "^"),
    (r"<=|=<", r"\\le "),
    (r">=", r"\\ge "),
    (r"!=", r"\\ne "),
    (rf"(?<![A-Za-z\\])({_NAMES})(?![A-Za-z])", r"\\\1 "),
    (rf"(?<![A-Za-z\\])({FUNCTIONS})([xyznt])(?![A-Za-z])", r"\\\1 \2"),
    (r"(?<![\\A-Za-z_^}\]\d])\{(\d+)\}(?=\s*/)|(?<=/)\{(\d+)\}", r"\1\2"),
    (r"\\(sqrt)\s*\(([^()]*)\)", r"\\\1{\2}"),
    (r"\^\s*\(([^()]*)\)", r"^{\1}"),
    (r"^(?:=|\\approx(?![a-z]))\s*(?=\S)", ""),
    (r"(?<!\.)[.,;]\s*$", ""),
    (r"(?<!\\)\\+\s*$", ""),
    (r"\s+", " "),
]
_LATEX_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _LATEX]
_PLAIN_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _PLAIN]
_LEADING = re.compile(r"^\\text\{([^{}]*)\}\s*(?=[^\s^_}=<>])")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_SCALE = r"(?:\s*(?:\\text\{\s*)?(?:hundred|thousand|million|billion|trillion)s?(?![a-z])(?:\s*\})?)?"
_CURRENCY = re.compile(
    r"(?:(?:\\text\{)?(?:US|CA|AU)\}?)?\\\$\s*(?:\\,)?|\\text\{\s*(?:US|CA|AU)?\\\$\s*\}|\\(?:(?:text|math)dollar|pounds|euro|yen)(?![a-z])|(?:US|CA|AU)\$|"
    r"(?:\\text\{\s*(?:USD|Rs\.?|EUR|GBP)\s*\}|(?<![A-Za-z])(?:USD|Rs\.?|EUR|GBP))(?=\s*[+-]?[\d.])"
)
# \\text{\\$5}, \\$\\text{5}
_IN_TEXT = re.compile(
    r"\\(?:text(?:bf|rm|it)?|mathrm|mathbf)\{\s*((?:\\\$)?\s*[\d.,]+|\\text\{(?:pounds|euros|yen|rupees)\})\s*\}"
)
_CURRENCIES = {"EUR": "euros", "GBP": "pounds", "Rs": "rupees", "pounds": "pounds", "euro": "euros", "yen": "yen"}
_MONEY = re.compile(
    rf"\\text\{{(dollars|euros|pounds|yen|rupees)\}}\s*"
    rf"([+-]?(?:\d{{1,3}}(?: \d{{3}})+(?!\d)|\d[\d,]*)?(?:\.\d+)?)(?<=\d)({_SCALE})"
)


@lru_cache(maxsize=4096)
def clean(answer: str) -> str:
    """Give an answer one spelling: plain ASCII signs, no delimiters, spacing, fonts or words around it.

    The meaning stays; digits that stand apart stay apart ("1 1/2").
    """
    text = answer.strip()
    if _INTEGER.fullmatch(text):
        return text
    if not text.isascii():
        text = _ascii_spelling(text)
    text = _IN_TEXT.sub(r"\1", _once_escaped(text)) if "\\" in text else text
    text = _THOUSANDS.sub("", text)
    if any(name in text for name in ("$", "dollar", "pounds", "euro", "yen", "USD", "EUR", "GBP", "Rs")):
        text = _CURRENCY.sub(_currency, text)
    text = _MONEY.sub(r"\2\3\\text{\1}", text)
    text = text.replace("\\$", "").replace("$", "").strip("*` ")
    if "\\" in text:
        for pattern, replacement in _LATEX_RULES:
            text = pattern.sub(replacement, text)
        text = _LEADING.sub(_introduction, text)
    for pattern, replacement in _PLAIN_RULES:
        text = pattern.sub(replacement, text)
    return text.strip()


def _currency(match: re.Match[str]) -> str:
    name = re.sub(r"\\text|[^A-Za-z]", "", match.group())
    return rf"\text{{{_CURRENCIES.get(name, 'dollars')}}}"


_TWICE = re.compile(r"(?<!\\)\\\\(?=[A-Za-z])")
_ROWS = re.compile(r"\\begin\{")


def _once_escaped(text: str) -> str:
    r"""Text that was escaped twice, as if once: \\frac{1}{2}. In a matrix \\ ends a row."""
    if r"\\begin{" in text:
        return text.replace("\\\\", "\\")
    return text if _ROWS.search(text) else _TWICE.sub(lambda match: "\\", text)


_OPENING = re.compile(
    r"(?i)(?:^|.*[\s，：:])(?:is|are|equals|be|was|answer|answers|total|sum|value|result|=|:)\s*:?\s*$|.*[是为：:]\s*$"
)
_DENIES = re.compile(
    r"(?i)\b(?:not|no|never|\w+n't|least|most|than|about|around|if|between|or|minus|negative|twice|but|doubt)\b"
)


def _introduction(match: re.Match[str]) -> str:
    r"""Nothing for words that lead to an answer (\text{The answer is }), which say nothing of it; all others stay."""
    words = match.group(1)
    return "" if _OPENING.fullmatch(words) and not _DENIES.search(words) else match.group()


_SPACE = re.compile(r"(?<!\d) | (?!\d)")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_ARTICLE = re.compile(r"(?:the|an?)\s+")
_SHORT_GROUP = re.compile(r"(?<!\\)\{(\w)\}")


@lru_cache(maxsize=4096)
def key(cleaned: str) -> str:
    """What two cleaned answers share if they are the same text up to spaces, \\text{} and needless braces.

    Upper and lower case are one in words only: x is not X.
    """
    text = _SHORT_GROUP.sub(r"\1", _SPACE.sub("", _TEXT.sub(r"\1", cleaned)))
    if not is_words(cleaned):
        return text
    return _ARTICLE.sub("", _TEXT.sub(r"\1", cleaned).strip().rstrip(".").casefold()).replace(" ", "")


_WORDS = re.compile(r"[A-Za-z][A-Za-z .,'-]*")
_LONG_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{4,}")
_SYLLABLE = re.compile(r"(?i)[b-df-hj-np-tv-z][aeiou][b-df-hj-np-tv-z]")  # dog, not abc
_SHORT_WORDS = frozenset({"yes", "no", "odd", "all", "one", "two", "six", "ten"})
_PROSE = re.compile(
    r"(?<![A-Za-z\\_{])(?:(?=[A-Za-z]?[a-z]*[aeiou])[A-Za-z][a-z]{3,}|[b-df-hj-np-tv-z][aeiou][b-df-hj-np-tv-z])(?![A-Za-z({_])|(?<![A-Za-z\\])(?:or|vs|not|if|is|and|but|to)(?![A-Za-z])"
)
_TEXT_PROSE = re.compile(
    r"(?<![_^{])\\text\s*\{(?!\s*\(?[A-Za-z]{1,3}\)?\s*\})[^{}]*[^\W\d][^{}]*\}|(?<![_^{])\\text\s*\{\s*(?:or|vs|not|if|is|and|but|to)\s*\}"
)


def has_prose(cleaned: str) -> bool:
    r"""Whether words stand in an expression ("5 squared", 5\text{ vs 6}): what they say of it no algebra can tell."""
    if re.search(r"\\(?:not|[bx]?cancel|sout|st)(?![a-z])", cleaned):
        return True
    return _TEXT_PROSE.search(cleaned) is not None or _PROSE.search(_TEXT.sub("", cleaned)) is not None


def is_words(cleaned: str) -> bool:
    """Whether an answer is language, to be compared as text: as a product of letters "listen" would equal "silent"."""
    bare = _TEXT.sub(r"\1", cleaned)
    if not bare.isascii() and any(character.isalpha() for character in bare if character > "\x7f"):
        return True
    if len(bare.strip()) == 1 or not _WORDS.fullmatch(bare.strip()):
        return False
    if bare != cleaned or bare.strip().lower() in _SHORT_WORDS:
        return True
    return _LONG_WORD.search(bare) is not None or _SYLLABLE.fullmatch(bare.strip()) is not None


_PLACEHOLDER = re.compile(
    r"(?i)(?:unknown|n/?a|nan|null|tbd|todo|missing|not (?:available|given|provided|known|applicable)|see (?:the )?(?:"
    r"solution|above|below|explanation|proof)|(?:i|we) (?:do not|don['’]t) know|(?:(?:i|we) (?:am|are) )?not sure|"
    r"(?:this is )?(?:an )?open (?:question|problem)|no answer|(?:the )?proof|\?+|\.{2,}|-+)\.?"
)


def no_answer_words(gold: str) -> str | None:
    """Why a gold answer says that there is none ("unknown", "n/a", "the answer is unknown"); None where it does not."""
    words = _TEXT.sub(r"\1", clean(gold)).strip()
    return f"the gold answer {gold.strip()[:80]!r} is no answer" if _PLACEHOLDER.fullmatch(words) else None


_EXPONENT = re.compile(r"\^\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\([^()]*\)|-?\d+)(\s*(?:\^|!))?")
_FACTORIAL = re.compile(r"(?<!\d)(\d+)\s*!|([)}!])\s*!")
_BINOMIAL = re.compile(r"\\binom\s*\{\s*(\d+)\s*\}|(?<!\d)(\d+)\s*\\choose|\{\s*(\d+)\s*\\choose")
_SHIFT = re.compile(r"\d[eE][+-]?(?:\d{5}|\d+\s*!)")
_E_TOWER = re.compile(r"(?:e ?\^ ?\{? ?){4}")
_SMALL_TOWER = re.compile(r"(\d)\^\{?(\d)\}?")
_OPEN_CLOSE = re.compile(r"[({\[]|[)}\]]")


def too_much(cleaned: str) -> str | None:
    """Say why an answer must not be computed: power towers, large powers, factorials, binomials, deep nesting; else None."""
    depth = deepest = 0
    for bracket in _OPEN_CLOSE.findall(cleaned):
        depth += 1 if bracket in "({[" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"nested {deepest} deep, more than {MAX_DEPTH}"
    if _SHIFT.search(cleaned):
        return f"a power above {MAX_EXPONENT}"
    if _E_TOWER.search(cleaned):
        return "a tower of powers"
    powers = 1
    for exponent, follows in _EXPONENT.findall(cleaned):
        plain = re.sub(r"[\s{}()+-]", "", exponent)
        size = _exponent_size(plain)
        if follows.strip() and size > 1 and not plain.isalpha():
            return "a tower of powers"
        if size > MAX_EXPONENT:
            return f"a power above {MAX_EXPONENT}"
        powers *= max(size, 1) if exponent.strip("{}()").strip().lstrip("-").isdigit() else 1
    if powers > 10**6 and re.search(r"[)}]\s*\^", cleaned):
        return "powers of powers"
    for number, closing in _FACTORIAL.findall(cleaned):
        if closing == "!" or (closing and not re.search("[a-zA-Z]", cleaned)):
            return "a factorial of a computed number"
        if number and (len(number) > 4 or int(number) > MAX_EXPONENT):
            return f"a factorial above {MAX_EXPONENT}"
    if any(len(number) > 4 for groups in _BINOMIAL.findall(cleaned) for number in groups):
        return f"a binomial above {MAX_EXPONENT}"
    return None


def _exponent_size(plain: str) -> int:
    """An upper bound of a numeric exponent; 1 for one with letters, which stays symbolic; huge for a tower."""
    if plain.isdigit():
        return int(plain) if len(plain) < 6 else 10**6
    small = _SMALL_TOWER.fullmatch(plain)
    if small:
        size: int = int(small.group(1)) ** int(small.group(2))
        return size
    towering = re.search(r"\d.*[\^!]", plain) and not re.search("[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", plain))
    return 10**6 if towering or re.search(r"\d\^\d+\^|\d{6}", plain) else 1
