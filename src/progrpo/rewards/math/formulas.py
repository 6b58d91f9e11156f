r"""Formulas as trees: a reader of the plain part of LaTeX, which refuses whatever could be meant in two ways.

Refused (and left to Math-Verify): a/bc, x^23, \sin x/2, f(x), mixed numbers, integrals, factorials, sets, degrees, words.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

Tree = tuple[object, ...]
r"""("num", Fraction), ("var", name), ("add" | "mul" | "div" | "pow", Tree, Tree), ("neg" | "abs", Tree),
("root", int, Tree), ("fn", name, Tree), ("log", base Tree, Tree)."""


def _commands(names: str) -> frozenset[str]:
    return frozenset(f"\\{name}" for name in names.split())


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)|(?P<command>\\[A-Za-z]+)|(?P<letter>[A-Za-z])|"
    r"(?P<sign>[-+*/^_(){}\[\]|']))"
)
_GREEK = _commands(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi varphi chi psi "
    "omega Gamma Delta Theta Lambda Sigma Phi Psi Omega pi"
)
FUNCTIONS = _commands("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp")
_INVERSES = {r"\sin": r"\arcsin", r"\cos": r"\arccos", r"\tan": r"\arctan"}
_CALLED = frozenset("fghpqFGHPQE")
"""Letters that name a function where a parenthesis follows."""
_TIMES = (r"\cdot", r"\times", "*")
MAX_TOKENS = 250


class UnreadableFormulaError(ValueError):
    """The text is no plain formula, or one that can be meant in two ways."""


@lru_cache(maxsize=4096)
def read_formula(text: str) -> Tree | None:
    """The tree of a cleaned text; None where it is not of the plain kind."""
    try:
        reader = _Reader(_tokens(text))
        tree = reader.sum()
        return tree if reader.next == "" else None
    except UnreadableFormulaError:
        return None


def names_in(tree: Tree) -> frozenset[str]:
    """The letters of a tree, constants included."""
    if tree[0] == "var":
        return frozenset((str(tree[1]),))
    return frozenset().union(*(names_in(part) for part in tree[1:] if isinstance(part, tuple)))


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    text = text.strip()
    if text.count("|") > 2:  # |x|y|z| is |x| y |z|, or not
        raise UnreadableFormulaError
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) >= MAX_TOKENS:
            raise UnreadableFormulaError
        tokens.append(match.group().strip())
        position = match.end()
    return tokens


def _is_number(token: str) -> bool:
    return token[:1].isdigit() or (token[:1] == "." and len(token) > 1)


class _Reader:
    """Recursive descent: a sum of terms of powers of atoms."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.bars = 0

    @property
    def next(self) -> str:
        """The token that stands next; "" at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        self.position += 1
        return token

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise UnreadableFormulaError

    def sum(self) -> Tree:
        sign = self.take() if self.next in ("+", "-") else "+"
        tree = self.term()
        tree = ("neg", tree) if sign == "-" else tree
        while self.next in ("+", "-"):
            sign = self.take()
            term = self.term()
            tree = ("add", tree, ("neg", term) if sign == "-" else term)
        return tree

    def term(self) -> Tree:
        tree = self.factor()
        divided = False
        while True:
            if self.next in _TIMES:
                self.take()
                tree = ("mul", tree, self.factor())
            elif self.next in ("/", r"\div"):
                self.take()
                tree, divided = ("div", tree, self.factor()), True
            elif self.starts_atom():
                if divided or self.ambiguous():
                    raise UnreadableFormulaError
                tree = ("mul", tree, self.factor())
            else:
                return tree

    def ambiguous(self) -> bool:
        """Whether what follows a number is a number too: a mixed one, or two."""
        before = self.tokens[self.position - 1]
        if _is_number(self.next):
            return True
        if not _is_number(before) or self.next != r"\frac":
            return False
        rest = self.tokens[self.position + 1 : self.position + 7]
        return len(rest) == 6 and _is_number(rest[1]) and _is_number(rest[4]) and rest[2] == "}" and rest[5] == "}"

    def starts_atom(self) -> bool:
        token = self.next
        if token == "|":
            return self.bars == 0
        plain = token in ("(", "{", r"\frac", r"\sqrt") or token in _GREEK or token in FUNCTIONS
        return plain or _is_number(token) or (len(token) == 1 and token.isalpha())

    def factor(self) -> Tree:
        tree = self.atom()
        return self.raised(tree)

    def raised(self, tree: Tree) -> Tree:
        if self.next != "^":
            return tree
        exponent = self.exponent()
        if self.next in ("^", "'"):
            raise UnreadableFormulaError
        return ("pow", tree, exponent)

    def exponent(self) -> Tree:
        self.expect("^")
        if self.next == "{":
            return self.group()
        token = self.next
        # TeX raises one digit: x^23 is x^2 times 3, and not what anyone means.
        if (_is_number(token) and len(token) > 1) or not (_is_number(token) or token in _GREEK or token.isalpha()):
            raise UnreadableFormulaError
        return self.atom()

    def group(self) -> Tree:
        self.expect("{")
        bars, self.bars = self.bars, 0
        tree = self.sum()
        self.bars = bars
        self.expect("}")
        return tree

    def atom(self) -> Tree:
        token = self.take()
        if _is_number(token):
            return ("num", Fraction(token.replace(",", "")))
        if token == "(" or token == "{":
            bars, self.bars = self.bars, 0
            tree = self.sum()
            self.bars = bars
            self.expect(")" if token == "(" else "}")
            return tree
        if token == "|" and self.bars == 0:
            self.bars = 1
            tree = self.sum()
            self.expect("|")
            self.bars = 0
            return ("abs", tree)
        reader: Callable[[], Tree] | None = {r"\frac": self.fraction, r"\sqrt": self.root}.get(token)
        if reader is not None:
            return reader()
        if token in FUNCTIONS:
            return self.function(token)
        if token in _GREEK or (len(token) == 1 and token.isalpha()):
            return self.variable(token)
        raise UnreadableFormulaError

    def variable(self, name: str) -> Tree:
        if self.next == "_":
            self.take()
            name += "_" + (self.index() if self.next == "{" else self.take())
        if self.next == "'" or (self.next == "(" and name[0] in _CALLED):
            raise UnreadableFormulaError
        return ("var", name)

    def index(self) -> str:
        self.expect("{")
        parts = []
        while self.next not in ("}", "", "{"):
            parts.append(self.take())
        self.expect("}")
        return "".join(parts)

    def fraction(self) -> Tree:
        return ("div", self.group(), self.group())

    def root(self) -> Tree:
        degree = 2
        if self.next == "[":
            self.take()
            number = self.take()
            self.expect("]")
            if not number.isdigit() or not 2 <= int(number) <= 99:
                raise UnreadableFormulaError
            degree = int(number)
        return ("root", degree, self.group())

    def function(self, name: str) -> Tree:
        base: Tree | None = None
        if self.next == "_" and name == r"\log":
            self.take()
            base = self.group() if self.next == "{" else self.index_base()
        power = self.exponent() if self.next == "^" else None
        if power is not None and power[0] == "neg":
            if power != ("neg", ("num", Fraction(1))) or name not in _INVERSES:
                raise UnreadableFormulaError
            name, power = _INVERSES[name], None
        argument = self.argument()
        if name == r"\log":
            tree: Tree = ("log", base or ("num", Fraction(10)), argument)
        elif name == r"\exp":
            tree = ("pow", ("var", "e"), argument)
        else:
            tree = ("fn", name, argument)
        if power is not None:
            return ("pow", tree, power)
        return tree

    def index_base(self) -> Tree:
        token = self.take()
        if _is_number(token) and len(token) == 1:
            return ("num", Fraction(token))
        if len(token) == 1 and token.isalpha():
            return ("var", token)
        raise UnreadableFormulaError

    def argument(self) -> Tree:
        """What a function is of: a group, or the product up to the next sign or function."""
        if self.next in ("(", "{", "|"):
            tree = self.atom()
            # \sin(x)y and \ln(2)(3): what belongs to the function is anyone's guess.
            if self.next not in ("+", "-", "", ")", "}", "|", "^", "/", *_TIMES) and self.next not in FUNCTIONS:
                raise UnreadableFormulaError
            return tree
        tree = self.factor()
        while self.starts_atom() and self.next not in FUNCTIONS and self.next != "(":
            if self.ambiguous():
                raise UnreadableFormulaError
            tree = ("mul", tree, self.factor())
        if self.next in ("/", "(", *_TIMES):
            raise UnreadableFormulaError
        return tree


def as_sympy(tree: Tree) -> Any:
    """A tree as Math-Verify would give it: letters are real, i is a letter."""
    import sympy

    kind, *parts = tree
    if kind == "num":
        return sympy.Rational(parts[0].numerator, parts[0].denominator)  # type: ignore[attr-defined]
    if kind == "var":
        name = str(parts[0])
        constants = {"e": sympy.E, r"\pi": sympy.pi, "i": sympy.Symbol("i", imaginary=True)}
        return constants.get(name) or sympy.Symbol(name, real=True)
    values = [as_sympy(part) for part in parts if isinstance(part, tuple)]
    if kind == "root":
        return sympy.root(values[0], parts[0])
    if kind == "fn":
        name = str(parts[0]).removeprefix("\\")
        return getattr(sympy, name.replace("arc", "a"))(values[0])
    if kind == "log":
        return sympy.log(values[1], values[0])
    simple: dict[str, Callable[..., Any]] = {
        "add": lambda a, b: a + b,
        "neg": lambda a: -a,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "pow": lambda a, b: a**b,
        "abs": sympy.Abs,
    }
    return simple[str(kind)](*values)
