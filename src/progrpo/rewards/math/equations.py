r"""What an equation says of its value: x = 5, f(2) = 5 and 2+3 = 5 say that something is 5, 2x = 5 leaves it open."""

import re

from progrpo.rewards.math.forms import Chain, Form, read
from progrpo.rewards.math.relations import ATOM, JOIN, PARENTHESIS, RATIO, VARIABLE, has_variable

_ARROW = re.compile(
    r"\\(?:implies|iff|therefore|(?:Long)?Rightarrow|(?:Long)?Leftrightarrow)(?![A-Za-z])|[⇒⟹⇔⟺∴]|(?<==)[^=>]*=>|"
    r"\\text ?\{ ?(?:such that|so that|so|hence|thus|therefore|implies|gives) ?\}"
)
_GREEK = (
    r"alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|"
    r"phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell"
)
_WORDS = re.compile(
    r"(?<![A-Za-z\\])(?:of|the|and|gcd|lcm|mod|max|min|cm|mm|km|kg|(?=[A-Za-z]*[aeiou])[A-Za-z]{4,})(?![A-Za-z])"
)
# A word that is an operand is a name: 2 \cdot \text{area}, not 20\% \text{ of } 60.
_WORD_OPERAND = re.compile(r"(?:^|[-+*/({]|\\cdot|\\times|\\frac) ?\\text ?\{ ?[A-Za-z]")
_NO_LETTERS = re.compile(rf"\\text ?\{{[^{{}}]*\}}|\\(?!(?:{_GREEK})(?![A-Za-z]))[A-Za-z]+")

_SINGLE = re.compile(
    "|".join(
        (
            rf"[A-Za-z](?:_(?:\{{[^{{}}]*\}}|\w))?\^ ?\{{? ?(?:\*|\\ast|\\star) ?\}}?(?:{PARENTHESIS})?",
            r"\\# ?\{?[A-Z]\}?",
            r"\\[dD]elta ?[A-Za-z]",
            # What an operation gives, also where names stand in it: \int_0^1 f(x) dx, \frac{dy}{dx}
            r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|max|min|gcd|lcm|det|sup|inf|deg|dim|nabla)(?![A-Za-z]).*",
            r"\\frac ?\{ ?(?:d|\\partial)(?![a-z]{3}).*",
            rf"\\text ?\{{[^{{}}]*\}} ?(?:_(?:\{{[^{{}}]*\}}|\w))? ?(?:{PARENTHESIS})?",
            rf"\\?(?:[A-Z][a-z]{{2,}}|gcd|lcm|max|min|tr|Re|Im|area|rank|ord|vol) ?(?:{PARENTHESIS})",
            r"[A-Z]'*(?: ?\\(?:cup|cap|setminus|times|triangle|backslash) ?[A-Z]'*)+",
        )
    )
)
_MATRIX_POWER = re.compile(r"[A-Z] ?\^ ?(?:\{[^{}]*\}|\w|\\top)")
_PRODUCT = re.compile(rf"(?P<factor>[a-z])(?:_(?:\{{[^{{}}]*\}}|\w))?(?P<bracket>{PARENTHESIS})")
_LOGARITHM = re.compile(r"\\(?:ln|log)(?![A-Za-z]).*(?<![A-Za-z\\])[a-z]")
_OPEN_MODULUS = re.compile(r"\\?\|.*(?:(?<![A-Za-z_{\\])[xyt](?![A-Za-z])|(?<![\d_{])\d).*\\?\|")


def conclusion(form: Form) -> Form:
    r"""What stands behind the last arrow of a relation: of 2x = 10 \implies x = 5 x = 5; other forms as they are."""
    if not isinstance(form, Chain):
        return form
    last = _ARROW.split(form.text)[-1].strip()
    return read(last) if last and last != form.text else form


def names(text: str, *, value_is_zero: bool = False, value_is_group: bool = False) -> bool:
    r"""Whether "text = value" says the value of something: x, f(2), |AB|, \angle ABC, \text{area}, and a+b, AB:BC, \frac{a}{b}
    of such names, each once and without a factor.

    Not an equation that has yet to be solved: 2x, x^2, x+5, xy+1, |x-3|, x(x+1), \ln x; nor a sum that is zero, as the
    equation of a line is.
    """
    text = text.strip().replace(r"\cos t", "cost")  # as which the word is read
    bare = re.sub(r"^(?:\\text ?\{[^{}]*\} ?)+", "", text)
    if not text or VARIABLE.fullmatch(text) or not bare or _SINGLE.fullmatch(text):
        return bool(text)
    if value_is_group and _MATRIX_POWER.fullmatch(text):
        return True
    operands = _operands(bare)
    if not operands or len(set(operands)) < len(operands) or not all(map(_is_name, operands)):
        return False
    return not value_is_zero or len(operands) == 1


def _operands(text: str) -> list[str]:
    """What the signs of a sum, difference, product or ratio join; [] where factors stand side by side, or no sign joins."""
    operands: list[str] = []
    position, joined = 0, True
    while position < len(text):
        match = RATIO.match(text, position) or ATOM.match(text, position)
        if joined and match is not None and match.end() > position:
            operands.append(match.group().strip())
            joined = False
        elif not joined and (match := JOIN.match(text, position)) is not None:
            joined = True
        else:
            return []
        position = match.end()
    return [] if joined else operands


def _is_name(operand: str) -> bool:
    if ratio := RATIO.fullmatch(operand):
        return all(names(part) for part in ratio.groups())
    if product := _PRODUCT.fullmatch(operand):
        inner = product["bracket"][1:-1]
        return product["factor"] in "fghpq" or not (re.search(r".[-+]", inner) or product["factor"] in inner)
    return not (_LOGARITHM.match(operand) or _OPEN_MODULUS.match(operand))


def has_unknown(text: str, *, constants: str = "") -> bool:
    r"""Whether a text holds a letter or a word whose value it asks for: 2x, 2\theta, 2 \cdot \text{area}; not \gcd(12, 18),
    20\% \text{ of } 60 and 5\text{ cm}.

    Args:
        constants: letters that are none where they stand alone.
    """
    if _WORD_OPERAND.search(text):
        return True
    rest = _WORDS.sub("", _NO_LETTERS.sub(" ", text))
    if constants:
        rest = re.sub(rf"(?<![A-Za-z\\])[{constants}](?![A-Za-z])", " ", rest)
    return re.search(r"[A-Za-z]", rest) is not None


def is_solved(chain: Chain) -> bool:
    r"""Whether an inequality stands by a single variable: x \ne 3, 1 < x < 2; not 2x > 4, x^2 < 4."""
    open_parts = [part for part in chain.parts if has_variable(part)]
    return len(open_parts) == 1 and re.fullmatch(r"[A-Za-z](?:_\w)?|\\[a-z]+", open_parts[0]) is not None
