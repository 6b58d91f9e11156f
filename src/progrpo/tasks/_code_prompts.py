"""What a coding problem asks of a model: its statement as published, and in which form the program is wanted.

The requests say what LiveCodeBench's and DeepCoder's prompts say (lcb_runner/prompts/code_generation.py), in words of our
own; the reward reads the last fenced block of the completion, so every request names one.
"""

from collections.abc import Sequence

SCRIPT = (
    "Write a Python program for this problem. It reads from standard input and prints the answer, and nothing else, to "
    "standard output. It will be run on tests you do not see, so do not run it on the examples yourself. End with the "
    "whole program in one block:\n```python\n# your program\n```"
)
FUNCTION = (
    "Write Python code for this problem that defines the function `{name}`. It returns the answer and prints nothing. It "
    "will be called with tests you do not see. End with the whole code, its imports included, in one block:\n"
    "```python\n# your code\n```"
)
STARTER = (
    "Solve this problem in Python by completing the code below; keep its names and arguments. It will be called with tests "
    "you do not see. End with the whole code, its imports included, in one block.\n```python\n{starter}\n```"
)
COMPLETE = (
    "Complete this Python function. End with the whole function, its imports and helpers included, in one block.\n"
    "```python\n{prompt}\n```"
)


def ask(statement: str, *, starter: str = "", function: str | None = None) -> str:
    """The statement, followed by the request that fits: complete `starter`, else define `function`, else write a script."""
    if starter.strip():
        request = STARTER.format(starter=starter.rstrip())
    elif function is not None:
        request = FUNCTION.format(name=function)
    else:
        request = SCRIPT
    return f"{statement.strip()}\n\n{request}"


def statement(title: str, sections: Sequence[tuple[str, object]], examples: Sequence[tuple[str, str]] = ()) -> str:
    """A statement from its parts: (heading, text), "" for no heading; parts without text are left out.

    Args:
        examples: (input, output) to show.
    """
    parts = [f"# {title.strip()}"] if title.strip() else []
    for heading, text in sections:
        if isinstance(text, str) and text.strip():
            parts.append(f"## {heading}\n{text.strip()}" if heading else text.strip())
    for number, (input_text, expected) in enumerate(examples, start=1):
        parts.append(
            f"## Example {number}\nInput:\n```\n{input_text.strip()}\n```\nOutput:\n```\n{expected.strip()}\n```"
        )
    return "\n\n".join(parts)
