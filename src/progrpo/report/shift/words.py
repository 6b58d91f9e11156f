"""What the verb `shift` found, in tables and sentences: the same on the terminal and in shift.md."""

from collections.abc import Mapping
from dataclasses import dataclass

from progrpo.evaluate.shift import COMPARED, TARGETS, Measured
from progrpo.report.html import paragraphs, prose, text
from progrpo.report.wording import NOTHING, significant

PICTURE = "shift.svg"

_TEXT = "shift/words.jinja"


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What was sampled, and how.

    Attributes:
        split: of the task. statuses: verdicts by status. excluded: problems left out, their own gold unusable.
        other_scorer: whether training would take log-probs from its own passes rather than from this engine.
    """

    model: str
    task: str
    split: str
    temperature: float
    max_new_tokens: int
    seed: int
    statuses: Mapping[str, int]
    excluded: int
    other_scorer: bool


def tables(measured: Measured, about: About) -> str:
    """In Markdown: the model, the variants at their defaults, and the strengths that give a set share."""
    return text(_TEXT, "tables", measured=measured, about=about, targets=TARGETS, compared=COMPARED, percent=percent)


def notes(measured: Measured, about: About) -> list[str]:
    """In plain words: what the numbers mean for this model, and what could not be computed."""
    words = {"facts": measured.facts, "percent": percent, "significant": significant}
    verdicts = [prose(_TEXT, "verdict", label=one.label, default=one.default, **words) for one in measured.variants]
    return [*paragraphs(_TEXT, "notes", about=about, facts=measured.facts), *filter(None, verdicts)]


def markdown(measured: Measured, about: About) -> str:
    """shift.md: all of it, with the picture."""
    parts = {"conditions": conditions(about), "tables": tables(measured, about), "words": prose(_TEXT, "words")}
    return text(_TEXT, "page", about=about, notes=notes(measured, about), picture=PICTURE, **parts)


def conditions(about: About) -> str:
    """How it was sampled: no number without it."""
    return prose(_TEXT, "conditions", about=about)


def percent(value: float | None) -> str:
    """A fraction as a percentage with two or three significant digits; small ones as a bound."""
    if value is None:
        return NOTHING
    if 0 < value < 1e-4:
        return "< 0.01 %"
    return f"{100 * value:.3g} %" if value < 10 else f"{100 * value:,.0f} %"
