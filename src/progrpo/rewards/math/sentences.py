"""Answers in a sentence: "The largest $n$ is 34." gives 34, and a sentence that leaves it open gives nothing."""

import re

_FORMULA = re.compile(r"(?<!\\)\$((?:\\.|[^$\\])+)\$|\\\((.{1,300}?)\\\)", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_TEXT = re.compile(r"\\text\w*\s*\{([^{}]*)\}")
_WORD = re.compile(r"(?<![A-Za-z_^\\])[A-Za-z]{2,}(?![A-Za-z(_^])")
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}")
_IS = re.compile(r"(?<![A-Za-z\\])(?:is|are|was|were|equals|equal|becomes)(?![A-Za-z])", re.IGNORECASE)
_OPEN = re.compile(
    r"(?i)(?<![A-Za-z\\])(?:not|no|nor|never|neither|none|nothing|cannot|\w+n['’]t|than|at (?:least|most)|about|around|"
    r"approximately|roughly|nearly|almost|maybe|perhaps|possibly|probably|might|may|could|would|guess|unsure|either|unless|"
    r"except|without|wrong|incorrect|false|impossible|unclear|unknown|between|if|whether|assuming|suppose|supposing|doubt|"
    r"when|where|otherwise|instead|rather|versus|vs|sometimes|up to|minus|but)(?![A-Za-z])"
)
# "the number of points that could be in it is 19" hedges nothing, "the number that could be right is 19" does.
_CLAUSE = re.compile(
    r"(?i)(?<![A-Za-z])(?P<noun>number|value|amount|sum|length|area|probability|[a-z]{3,40}s) (?:that|which|who) "
    r"(?:could|would|may|might) (?!be (?:right|correct|true|wrong|false|it|the|my|what)(?![a-z]))"
)
_OPERATION = re.compile(
    r"(?i)(?<![A-Za-z\\])(?:twice|thrice|half|double|triple|times|squared?|cubed?|root|plus|percent|negative|reciprocal|opposite|"
    r"inverse|log|power|factorial|sum|product|difference|quotient|remainder|first|last|next|every|other)(?![A-Za-z])|"
    r"\d[A-Za-z]"
)
_PREPOSITION = re.compile(
    r"(?i)(?<![A-Za-z])(?:of|by|to|from|with|in|on|before|after|every|each|per|over|under|below|above|until|since|past)$"
)
_FILLER = re.compile(
    r"(?i)^(?:[\s,:*_]|(?:therefore|thus|then|hence|so|exactly|equal to|equal|to|simply|just|given by|precisely|indeed|"
    r"clearly|now|still|"
    r"also|only|a total of|in fact|the number|the value)(?![A-Za-z]))+"
)
_VALUE = re.compile(
    r"(?<![A-Za-z_^.\d])(?:\\?\$\s?|[€£¥])?[+-]?(?:\d[\d,]*(?:(?:\{,\}|\\!|\\,)\d{3})*(?:\.\d+)?|\.\d+)(?:[/:]\d+)?"
)
_MANY = 3
"""So many words of prose make a sentence without "is", too."""


def value_in(text: str) -> str | None:
    """The value that a sentence gives; None where the text is no sentence, or where its value is open.

    With one "is" (are, equals, ...) the value is what follows it, or what goes before where that is plainly a value; with
    none, the only number of the sentence and what follows it. A word that denies, compares or hedges leaves it open.
    """
    if not _LETTERS.search(text):
        return None
    text = _TEXT.sub(r"\1", text).strip().strip("*_`").rstrip(".").strip("*_` ")
    # Formulas keep their place: their content is no prose.
    prose = _FORMULA.sub(lambda match: " " * len(match.group()), text)
    prose = _COMMAND.sub(lambda match: "0" * len(match.group()), prose)
    verbs = list(_IS.finditer(prose))
    plain = _CLAUSE.sub(r"\g<noun> ", prose) if verbs else prose
    if len(verbs) > 1 or (not verbs and len(_WORD.findall(prose)) < _MANY) or _OPEN.search(plain):
        return None
    if not verbs:
        return _only_value(text, prose)
    before, after = text[: verbs[0].start()].strip(), _FILLER.sub("", text[verbs[0].end() :]).strip(" *_`")
    if not before or not after:
        return None
    if _has_value(after):
        return after
    if _VALUE.match(before) or (_FORMULA.match(before) and _has_value(before)):
        return before if _starts_plainly(before) else None
    return None if re.search(r"\d", before) else after


def _only_value(text: str, prose: str) -> str | None:
    formulas = [match for match in _FORMULA.finditer(text) if re.search(r"\d", match.group())]
    places = [match.start() for match in formulas] + [match.start() for match in _VALUE.finditer(prose)]
    if len(places) != 1 or _OPERATION.search(prose) or _PREPOSITION.search(prose[: places[0]].rstrip(" *_")):
        return None
    return text[places[0] :]


def _has_value(text: str) -> bool:
    return re.search(r"[\d$\\]", text) is not None


def _starts_plainly(text: str) -> bool:
    """Whether nothing but words follows the value a text begins with."""
    match = _FORMULA.match(text) or _VALUE.match(text)
    return match is not None and not re.search(r"[\d$\\]", text[match.end() :])
