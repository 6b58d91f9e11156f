"""The text side of mathematical answers: find the answer in a completion, give it one spelling, refuse what is too much.

Nothing here computes anything: every function is linear in a text that the caller has cut to size.
"""

import re
import unicodedata
from functools import lru_cache

TAIL = 4000
"""Characters at the end of a completion that are looked at."""
MAX_DEPTH = 40
"""Nested brackets; 500 of them keep a LaTeX parser busy for seconds."""
MAX_EXPONENT = 9999
"""The largest exponent, factorial or binomial of plain numbers that is ever computed."""

_BRACE = re.compile(r"\\\\|\\[{}]|\\(?:boxed|fbox)\s*\{|[{}]")
_BOX = re.compile(r"\\+(?:boxed|fbox)\s*\{")
_ANSWER_LINE = re.compile(r"(?i)answer(?:\s+is)?\s*[:：][\s*_]*([^\n]+)")
_SENTENCE_END = re.compile(r"(?<=[\w}$)\]])\.\s+(?=[A-Z]).*")
_EXPRESSION = re.compile(
    r"\$([^$]+)\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]|([+-]?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\\?%)?)", re.DOTALL
)


def extract(text: str, *, answer_line: bool = True, last_expression: bool = False) -> str | None:
    """Return the content of the last complete \\boxed{...} or \\fbox{...}, else the rest of the last "Answer:" line, else
    (on demand) the last formula or number, else None. Only the text after the last </think> counts, and of that the tail.
    """
    tail = text.rsplit("</think>", 1)[-1][-TAIL:]
    found = _last_box(tail)
    if found is None and answer_line:
        lines = _ANSWER_LINE.findall(tail)
        found = _SENTENCE_END.sub("", lines[-1].strip()).strip("*_ ") if lines else None
    if not found and last_expression:
        matches = list(_EXPRESSION.finditer(tail))
        found = next(group for group in matches[-1].groups() if group is not None).rstrip(",") if matches else None
    # A lone surrogate cannot be written to a file later.
    return found.strip().encode("utf-8", "replace").decode() or None if found else None


def _last_box(text: str) -> str | None:
    """The outermost complete box that ends last; boxes without an end and empty ones are passed over."""
    opened: list[int | None] = []
    found = None
    first = _BOX.search(text)
    if first is None:
        return None
    for match in _BRACE.finditer(text, first.start()):
        token = match.group()
        if token == "}":
            start = opened.pop() if opened else None
            if start is not None and text[start : match.start()].strip():
                found = text[start : match.start()]
        elif token not in ("\\\\", "\\{", "\\}"):
            opened.append(match.end() if len(token) > 1 else None)
    return found


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
    **{"。": ".", "、": ",", "【": "[", "】": "]", "ϕ": r"\phi ", "€": r"\text{euros}", "£": r"\text{pounds}"},
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


_FUNCTIONS = r"arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|ln|log|exp|sqrt|pi|theta"
# Thousands separators that can be nothing else.
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\!|,?\\,)(?=\d{3}(?!\d))")
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
    (r"\\(?:boxed|fbox)\s*(?=\{)", ""),
    (r"\\operatorname\*?\s*\{\s*(\w+)\s*\}", r"\\\1 "),
    (r"\\math(?:rm|it)\s*\{\s*([ei])\s*\}", r"\1"),
    (r"\\(?:math(?:rm|bf|it|sf)|text(?:bf|rm|it|sf|normal)|mbox)(?![a-zA-Z])\s*", r"\\text"),
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
    (r"\\text\{\s*([+-]?)\s*infinity\s*\}", r"\1\\infty "),
    (r"\\text\{([0-9 ./,:+-]*)\}", r"\1"),
    (r"\\text\{\s*(?:percent|\\?%)\s*\}", r"\\%"),
    # words before the answer: "\text{The answer is } 204"
    (r"^\\text\{[^{}]*\s[^{}]*\}\s*(?=[^\s^_}])", ""),
]
_PLAIN = [
    (r"(?i)^(?:so\s+)?(?:the\s+)?(?:final\s+)?answer\s*(?:is\b)?\s*:?\s*(?=\S)", ""),
    (r",?\s*(?:\\text\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\{])(?:and|or)(?![A-Za-z}]))\s*", ", "),
    (r"(?i)(?<![a-z\\])(?:infinity|inf)(?![a-z])", r"\\infty "),
    (r"(?<=[\d\s}])\s*(?:\\?%|percent(?![a-z]))", r"\\%"),
    (r"(?<!\w)np\.(?=[a-z])", ""),
    (r"\*\*", "^"),
    (r"<=|=<", r"\\le "),
    (r">=", r"\\ge "),
    (r"!=", r"\\ne "),
    (rf"(?<![A-Za-z\\])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
    (r"\\(sqrt)\s*\(([^()]*)\)", r"\\\1{\2}"),
    (r"\^\s*\(([^()]*)\)", r"^{\1}"),
    (r"(?<!\.)[.,;]\s*$", ""),
    (r"\s+", " "),
]
_LATEX_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _LATEX]
_PLAIN_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _PLAIN]
_INTEGER = re.compile(r"[+-]?[0-9]+")
_MONEY = re.compile(r"(?:\\\$|(?P<word>\\text\{(?:euros|pounds)\}))\s*([+-]?[\d.,]*\d)")


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
    text = _MONEY.sub(lambda match: match.group(2) + (match.group("word") or r"\text{dollars}"), text)
    text = _THOUSANDS.sub("", text)
    text = text.replace("\\$", "").replace("$", "").strip("*` ")
    if "\\" in text:
        for pattern, replacement in _LATEX_RULES:
            text = pattern.sub(replacement, text)
    for pattern, replacement in _PLAIN_RULES:
        text = pattern.sub(replacement, text)
    return text.strip()


_SPACE = re.compile(r"(?<!\d) | (?!\d)")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_SHORT_GROUP = re.compile(r"(?<!\\)\{(\w)\}")


@lru_cache(maxsize=4096)
def key(cleaned: str) -> str:
    """What two cleaned answers share if they are the same text up to spaces, \\text{} and needless braces.

    Upper and lower case are one in words only: x is not X.
    """
    text = _SHORT_GROUP.sub(r"\1", _SPACE.sub("", _TEXT.sub(r"\1", cleaned)))
    return text.casefold() if is_words(cleaned) else text


_WORDS = re.compile(r"[A-Za-z][A-Za-z .,'-]*")
_LONG_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{4,}")
_SHORT_WORDS = frozenset({"yes", "no", "odd", "all", "one", "two", "six", "ten"})
_HEDGE = re.compile(r"\\text\{\s*(?:or|and|not|maybe|perhaps|possibly)\b\s*[^{}\s]")


def hedged(answer: str) -> bool:
    """Whether words after an answer give another one: 5\\text{ or 6}. (5 \\text{ or } 6 is a list.)"""
    return _HEDGE.search(answer) is not None


def is_words(cleaned: str) -> bool:
    """Whether an answer is language, to be compared as text: as a product of letters "listen" would equal "silent"."""
    bare = _TEXT.sub(r"\1", cleaned)
    if not bare.isascii() and any(character.isalpha() for character in bare if character > "\x7f"):
        return True
    if len(bare.strip()) == 1 or not _WORDS.fullmatch(bare.strip()):
        return False
    return bare != cleaned or bare.strip().lower() in _SHORT_WORDS or _LONG_WORD.search(bare) is not None


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
