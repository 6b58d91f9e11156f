"""The program in a completion: the last fenced block, marked as Python or not marked."""

import re

_FENCE = re.compile(r"(\s*)(`{3,})\s*([\w+#.-]*)([^`]*)")
_LONGEST_FENCE = 200
_PYTHON = ("", "python", "python3", "py", "py3")


def extract(text: str, *, allow_unterminated: bool = False) -> str | None:
    """The last block of the text after the last </think>; None where there is none.

    A last block that never ends was cut at the length limit: no program, unless `allow_unterminated`. Blocks marked
    otherwise (```text, ```json) are passed over; the mark is the first word after the fence. A marked fence within a block
    starts anew, as a model does that thinks better of it; one with more words only if it is marked as Python. Code in a
    block that is indented (in a list) loses the fence's indentation.
    """
    block: str | None = None
    opened: str | None = None
    indent = ""
    lines: list[str] = []
    for line in text.rsplit("</think>", 1)[-1].split("\n"):
        fence = _FENCE.fullmatch(line.rstrip()) if len(line) <= _LONGEST_FENCE else None
        language = fence[3].lower() if fence else ""
        if fence is None or (opened is not None and _is_content(fence, language, opened)):
            lines.append(line)
            continue
        if opened is not None and not language:
            block = _dedented(lines, indent) if opened[-1] != "-" else block
            opened = None
            continue
        mark = language in _PYTHON and not (fence[4] and not language)
        opened, indent, lines = fence[2] if mark else fence[2] + "-", fence[1], []
    if opened is None or opened[-1] == "-":
        return block
    return _dedented(lines, indent) if allow_unterminated else None


def _is_content(fence: re.Match[str], language: str, opened: str) -> bool:
    """Whether what looks like a fence stands in the open block's code: a shorter one, or words that mark no program."""
    if fence[4].strip():
        return not language or language not in _PYTHON
    return not language and len(fence[2]) < len(opened)


def _dedented(lines: list[str], indent: str) -> str:
    """The lines without the fence's indentation, where the code has it."""
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    if not indent or not first.startswith(indent):
        return "\n".join(lines)
    return "\n".join(line[min(len(indent), len(line) - len(line.lstrip())) :] for line in lines)
