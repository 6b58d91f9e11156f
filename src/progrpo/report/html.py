"""Templates filled into one self-contained HTML page: no network, no file beside it; and captions from templates."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from progrpo.files import finite_or_none
from progrpo.report.drawing import RUN_COLOURS

HERE = Path(__file__).parent
_CONTENTS = "<!-- contents -->"
"""Where a template wants them; text of a run cannot hold it, for its < is escaped."""
_ESCAPED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def render(template: str, *, scripts: Sequence[str], data: object, **facts: Any) -> str:
    """A page as text; the same facts give the same page, byte for byte.

    Args:
        scripts: files whose text is the page's script. data: what the script reads, as JSON.
    """
    environment = _environment(autoescape=True)
    environment.filters["code"] = code
    script = "".join((HERE / name).read_text("utf-8") for name in scripts)
    page = environment.get_template(template).render(
        **facts,
        colours=RUN_COLOURS,
        data=Markup(embedded_json(data)),
        css=Markup((HERE / "page.css").read_text("utf-8")),
        script=Markup(script),
        # The browser runs this script and no other, should a completion ever find a way out of its quotes.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    page = page.replace(_CONTENTS, _contents(page))
    # A lone surrogate, legal in JSON, is no character: it could not be written as UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def _contents(page: str) -> str:
    """Links to the sections of a page that have an id, by their headings."""
    sections = re.findall(r'^<section id="([\w-]+)">\n<h2>(.*)</h2>', page, flags=re.MULTILINE)
    links = "\n".join(f'<a href="#{name}">{heading}</a>' for name, heading in sections)
    return f'<nav aria-label="contents">\n{links}\n</nav>'


def text(template: str, part: str, **facts: Any) -> str:
    """One part of a template of plain text (a macro of that name), as it stands."""
    return str(getattr(_environment(autoescape=False).get_template(template).module, part)(**facts))


def prose(template: str, part: str, **facts: Any) -> str:
    """The same with its lines joined."""
    return " ".join(text(template, part, **facts).split())


def paragraphs(template: str, part: str, **facts: Any) -> list[str]:
    """The same by its paragraphs, which blank lines part."""
    return [" ".join(one.split()) for one in text(template, part, **facts).split("\n\n") if one.strip()]


def embedded_json(data: object) -> str:
    """JSON that is safe inside a script element: only ASCII, and none of < > &; `json.loads` gives the data back, but null
    for a number that is not finite."""
    text = json.dumps(finite_or_none(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPED)


def code(caption: str) -> Markup:
    """Text of a caption as HTML; what stands in backticks is a metric's name."""
    parts = enumerate(caption.split("`"))
    return Markup("").join(Markup("<code>%s</code>") % part if at % 2 else escape(part) for at, part in parts)


@cache
def _environment(*, autoescape: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
