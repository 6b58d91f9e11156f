"""The answer of a completion that marks it with a tag."""


def last(text: str, tag: str | None) -> str | None:
    """The stripped text of the last `<tag>...</tag>`, None without one; with no tag asked for, the whole text."""
    if tag is None:
        return text.strip()
    start, end = _place(text, tag)
    return text[start + len(tag) + 2 : end].strip() if start >= 0 else None


def before(text: str, tag: str | None) -> str:
    """What stands before that answer; the whole text where no tag is asked for or there is none."""
    start, _ = _place(text, tag) if tag is not None else (-1, -1)
    return text[:start] if start >= 0 else text


def _place(text: str, tag: str) -> tuple[int, int]:
    end = text.rfind(f"</{tag}>")
    return text.rfind(f"<{tag}>", 0, max(end, 0)), end
