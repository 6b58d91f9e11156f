"""What the multiple-choice benchmarks share: lettered options and the request for a last line `Answer: LETTER`."""

from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def zero_shot(question: str, options: Sequence[str]) -> str:
    """The question, its options from A on, and before them what the last line must be.

    The contract of github.com/openai/simple-evals (reason first, then a line `Answer: LETTER`), in words of our own.
    """
    letters = LETTERS[: len(options)]
    named = f"{', '.join(letters[:-1])} or {letters[-1]}"
    return (
        f"Choose the right answer to the question below. Reason step by step first. Then write, as the last line of your "
        f"response and with nothing after it, Answer: LETTER, where LETTER is {named}.\n\n"
        f"{question.strip()}\n\n{lettered(options, ') ')}"
    )


def lettered(options: Sequence[str], after: str) -> str:
    """One line per option: its letter, `after`, its text."""
    return "\n".join(f"{letter}{after}{option}" for letter, option in zip(LETTERS, options, strict=False))
