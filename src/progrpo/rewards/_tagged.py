"""The answer of a completion that marks it with a tag."""


def last(text: str, tag: str | None) -> str | None:
    """The stripped text of the last `<tag>...</tag>`, None without one; with no tag asked for, the whole text."""
    if tag is None:
        return text.strip()
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, max(end, 0))
    return text[start + len(tag) + 2 : end].strip() if start >= 0 else None
