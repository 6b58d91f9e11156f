r"""What equations and inequalities give: x = 5 and |AB| = 5 a value, x < 3 an interval, "x = 1, y = 2" a tuple."""

import re

from progrpo.rewards.math.forms import Chain, Compound, Form, Scalar, read, split_top
from progrpo.rewards.math.numbers import Number
from progrpo.rewards.math.text import FUNCTIONS, key

VARIABLE = re.compile(
    r"[A-Za-z](?:_\{?\w+\}?)?(?:\^\{-1\})?'*(?:\([A-Za-z](?:, ?[A-Za-z])*\))?|\\[a-z]+|\\text\{[^{}]*\}|[A-Za-z ]+"
)
_EXACT = re.compile(
    r"\\(?:frac|sqrt|pi|cdot|times|infty|[lg]e|ne|approx|pm|mp|ln|log|exp|sin|cos|tan|text|circ)(?![a-z])"
)

_INDEX = r"(?:_ ?(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\w|\\[a-z]+(?: ?[A-Z]+)?))?"
PARENTHESIS = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_POINTS = r"[A-Z]{2,5}'*"
_MARKED = r"\\(?:overline|vec|overrightarrow|mathbf|mathbb|hat|widehat|widetilde|bar|boldsymbol|text) ?(?:\{[^{}]*\}|[A-Za-z])"
_MEASURED = "|".join(
    (
        rf"\|(?![xyt]\|)[^|]+\|{_INDEX}",
        rf"\\\|[^|]+\\\|{_INDEX}",
        r"(?:m ?)?\\(?:angle|triangle|measuredangle) ?\{?[A-Za-z\\]+\}?'*",
        rf"(?:[A-Za-z]|{_MARKED}){_INDEX}'*(?:\^ ?\{{?(?:-1|\\prime|\(\d\))\}}?)?{PARENTHESIS}",
        r"(?:[A-Z]|\\mathbb\{?[A-Z]\}?) ?\[[^\[\]]+\]",
        r"\[[A-Z]{3,8}\]",
        rf"\\(?:{FUNCTIONS}|max|min|deg|det|gcd|lcm|dim|operatorname) ?(?:\^ ?\{{?\d\}}? ?)?(?:\\angle ?)?"
        rf"(?:\{{?[A-Z]+\}}?|\\(?!frac|sqrt)[a-z]+|\([A-Z]+\)|[a-z](?=$|\())(?:{PARENTHESIS})?",
        rf"{_POINTS}{_INDEX}",
        rf"{_MARKED}{_INDEX}",
    )
)
_PLAIN = rf"(?:[A-Za-z]|\\(?!frac|sqrt|pi(?![a-z])|{FUNCTIONS})[a-z]+){_INDEX}'*"
ATOM = re.compile(rf" ?(?:(?P<measured>{_MEASURED})(?: ?\^ ?\{{?\d\}}?)?|(?P<plain>{_PLAIN})) ?")
JOIN = re.compile(r" ?(?:\+|-|\\cdot(?![a-z])|\\times(?![a-z])|/|:) ?")
RATIO = re.compile(r" ?\\frac ?\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\} ?\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\} ?")


def is_quantity(text: str) -> bool:
    r"""Whether a text names one quantity, so that "text = 7" says its value: |AB|, f(2), a+b, AB:BC, \angle ABC, \frac{a}{b}.

    Not an equation's side: 2x+z, x^2+y^2, |x|.
    """
    position, operand = 0, False
    while position < len(text):
        ratio = RATIO.match(text, position)
        match = ratio or ATOM.match(text, position)
        if match is not None and match.end() > position:
            if ratio and not (is_quantity(ratio.group(1)) and is_quantity(ratio.group(2))):
                return False
            position, operand = match.end(), True
            continue
        match = JOIN.match(text, position)
        if match is None or not operand:
            return False
        position, operand = match.end(), False
    return operand


def is_assignment(chain: Chain) -> bool:
    """Whether a relation says what one thing is: x = 5, f(x) = 2x; with numbers also a+b = 7 and f(2) = 3."""
    if set(chain.signs) != {"="}:
        return False
    left = chain.parts[0]
    return VARIABLE.fullmatch(left) is not None or (
        is_quantity(left) and not has_variable(_bare(read(chain.parts[-1])))
    )


def is_algebraic(chain: Chain) -> bool:
    """Whether a relation is an equation between plain letters, which may be written in other ways: a+b = 7, not f(2) = 3."""
    return all(match["plain"] for match in ATOM.finditer(chain.parts[0])) and not VARIABLE.fullmatch(chain.parts[0])


def name(text: str) -> str:
    """What two names of one quantity share: AB for |AB| and \\overline{AB}, a sum in any order."""
    bare = re.sub(
        r"\\(?:overline|angle|measuredangle|triangle|mathbf|text)(?![a-z])|^m ?(?=\\angle)|[|{}\s]|\\\|", "", text
    )
    return "+".join(sorted(key(bare).split("+")))


def has_variable(text: str) -> bool:
    """Whether letters stand in a text that are no known function or constant."""
    return re.search("[A-Za-z]", _EXACT.sub("", text)) is not None


def _bare(form: Form) -> str:
    if isinstance(form, Scalar):
        return form.text
    return "".join(_bare(item) for item in form.items) if isinstance(form, Compound) else ""


# --- Systems: x = 1, y = 2; x = 3, y = 4 ---

System = tuple[tuple[str, ...], Compound]
"""Names and, as a tuple, their values."""
_TUPLE = re.compile(r"\((.*)\)")


def as_tuples(gold: Form, answer: Form) -> tuple[Form, Form] | None:
    """Both sides with systems of assignments as tuples, in the order of the gold answer's names, or as written where only one
    side names them; None where the names differ."""
    first, second = _systems(gold), _systems(answer)
    if first and second:
        order = first[0][0]
        if set(order) != set(second[0][0]):
            return None
        return _tuples(first, order), _tuples(second, order)
    return (_tuples(first, first[0][0]) if first else gold), (_tuples(second, second[0][0]) if second else answer)


def _systems(form: Form) -> list[System]:
    """The systems that a form lists; none where it is anything else, or all of one variable."""
    items = form.items if isinstance(form, Compound) and form.kind in ("list", "set") else (form,)
    systems: list[System] = []
    open_names: list[str] = []
    values: list[Form] = []

    def close() -> None:
        if open_names:
            systems.append((tuple(open_names), _as_tuple(values)))
        open_names.clear()
        values.clear()

    for item in items:
        if (
            isinstance(item, Compound)
            and item.kind == "()"
            and systems
            and not open_names
            and len(item.items) == len(systems[0][0])
        ):
            systems.append((systems[0][0], item))
            continue
        whole = _named_tuple(item)
        if whole is not None:
            close()
            systems.append(whole)
            continue
        if not isinstance(item, Chain) or not is_assignment(item):
            return []
        item_name = name(item.parts[0])
        if item_name in open_names:
            close()
        open_names.append(item_name)
        values.append(read(item.parts[-1]))
    close()
    same = len({frozenset(names) for names, _ in systems}) == 1 and len(systems[0][0]) > 1
    return systems if same else []


def _named_tuple(item: Form) -> System | None:
    """(x, y) = (2, 3) as a system."""
    if not isinstance(item, Chain) or set(item.signs) != {"="} or not (match := _TUPLE.fullmatch(item.parts[0])):
        return None
    names, values = split_top(match.group(1), re.compile("[,;]"))[0], read(item.parts[-1])
    alike = isinstance(values, Compound) and values.kind == "()" and len(values.items) == len(names) > 1
    plain = all(VARIABLE.fullmatch(one.strip()) for one in names)
    return (tuple(name(one) for one in names), values) if alike and plain and isinstance(values, Compound) else None


def _as_tuple(values: list[Form]) -> Compound:
    text = ",".join("" if isinstance(value, Number) else getattr(value, "text", "") for value in values)
    return Compound("()", tuple(values), f"({text})")


def _tuples(systems: list[System], order: tuple[str, ...]) -> Form:
    tuples = [
        Compound("()", tuple(values.items[names.index(one)] for one in order), values.text) for names, values in systems
    ]
    return tuples[0] if len(tuples) == 1 else Compound("list", tuple(tuples), ",".join(one.text for one in tuples))


# --- Inequalities ---


def as_interval(chain: Chain) -> tuple[str, Compound] | None:
    """The variable of an inequality and the interval it says; None where it is no such thing."""
    upward, downward = {"<", r"\le"}, {">", r"\ge"}
    parts, signs = list(chain.parts), list(chain.signs)
    if set(signs) <= downward:
        parts, signs = parts[::-1], signs[::-1]
    elif not set(signs) <= upward:
        return None
    closed = [sign in (r"\le", r"\ge") for sign in signs]
    single = re.compile(r"[A-Za-z](?:\([a-z]\))?|\\(?!infty|pi)[a-z]+")
    where = [index for index, part in enumerate(parts) if single.fullmatch(part)]
    if len(where) != 1 or len(parts) > 3 or (len(parts) == 3 and where != [1]):
        return None
    low, high = ([parts[0], parts[2]]) if len(parts) == 3 else (parts if where == [1] else [None, parts[1]])
    if len(parts) == 2 and where == [1]:
        low, high = parts[0], None
    left = "[" if low is not None and closed[0] else "("
    right = "]" if high is not None and closed[-1] else ")"
    ends = read(low) if low is not None else Scalar(r"-\infty"), read(high) if high is not None else Scalar(r"\infty")
    return parts[where[0]], Compound(left + right, ends, chain.text)


def as_union(group: Compound, wanted: str) -> Compound:
    """x < 1 or x > 2 as a union of intervals, where the other side is one."""
    if wanted != "union" or group.kind != "list":
        return group
    intervals = [as_interval(item) for item in group.items if isinstance(item, Chain)]
    known_intervals = [interval for interval in intervals if interval is not None]
    whole = len(known_intervals) == len(group.items) and len({variable for variable, _ in known_intervals}) == 1
    return Compound("union", tuple(interval for _, interval in known_intervals), group.text) if whole else group
