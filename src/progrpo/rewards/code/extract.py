"""The program in a completion: the last fenced block, marked as Python or not marked."""

import re

_FENCE = re.compile(r"(`{3,})\s*([\w+#.-]*)")
_LONGEST_FENCE = 200
_PYTHON = ("", "python", "python3", "py", "py3")


def extract(text: str, *, allow_unterminated: bool = False) -> str | None:
    """The last block of the text after the last </think>; None where there is none.

    A last block that never ends was cut at the length limit: no program, unless `allow_unterminated`. Blocks marked
    otherwise (```text, ```json) are passed over. A marked fence within a block starts anew, as a model does that
    thinks better of it.
    """
    block: str | None = None
    opened: str | None = None
    lines: list[str] = []
    for line in text.rsplit("</think>", 1)[-1].split("\n"):
        fence = _FENCE.fullmatch(line.strip()) if len(line) <= _LONGEST_FENCE else None
        if fence is None or (opened is not None and not fence[2] and len(fence[1]) < len(opened)):
            lines.append(line)
            continue
        mark, language = fence[1], fence[2].lower()
        if opened is not None and not language:
            block = "\n".join(lines) if opened[-1] != "-" else block
            opened = None
            continue
        opened, lines = mark if language in _PYTHON else mark + "-", []
    if opened is None or opened[-1] == "-":
        return block
    return "\n".join(lines) if allow_unterminated else None
