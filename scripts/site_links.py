"""A hook of mkdocs: links from the pages to files of the repository, which the site does not hold, become their paths."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """[words](../src/a.py) as words (`src/a.py`)."""

    def named(link: re.Match[str]) -> str:
        words, path = link[1], link[2]
        return f"`{path}`" if words.strip("`") in path else f"{words} (`{path}`)"

    return _OUTSIDE.sub(named, markdown)
