"""Numbers in words, for messages: with what they count ("1 step", "1,024 steps"), and near others."""


def counted(number: float, noun: str) -> str:
    """A number with its noun in the singular or plural: 1 epoch, 0.5 epochs, 2 processes; thousands are set apart.

    Args:
        noun: in the singular; its last word is made the plural ("optimiser step", "gold answer").
    """
    shown = f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
    if number == 1:
        return f"{shown} {noun}"
    return f"{shown} {noun}{'es' if noun.endswith(('s', 'x', 'tch', 'sh')) else 's'}"


def near_multiples(value: int, of: int) -> str:
    """The multiples of a whole number below and above another that is none: "2 or 4" for 3 of 2."""
    below = value // of * of
    return " or ".join(str(one) for one in (below, below + of) if one)
