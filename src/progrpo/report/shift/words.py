"""What the verb `shift` found, in tables and sentences: the same on the terminal and in shift.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from progrpo.evaluate.shift import COMPARED, TARGETS, Facts, Measured, Variant
from progrpo.report.html import paragraphs, prose
from progrpo.report.wording import NOTHING, markdown_grid, significant

PICTURE = "shift.svg"

_TEXT = "shift/words.jinja"
_NEGLIGIBLE = 0.01
"""A smaller share of the advantage is GRPO."""
_FEW = 8
"""Mixed groups below which the numbers are called rough."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class WordTable:
    """A table of words; the first column is text, the others are numbers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(found: Measured, about: About) -> list[WordTable]:
    """The model, the variants at their defaults, and the strengths that give a set share."""
    found_tables = [_model_table(found.facts, about), _defaults_table(found.variants)]
    adjustable = [variant for variant in found.variants if variant.alphas]
    return [*found_tables, _strengths_table(adjustable)] if adjustable else found_tables


def notes(found: Measured, about: About) -> list[str]:
    """In plain words: what the numbers mean for this model, and what could not be computed."""
    facts = found.facts
    lost = sum(about.statuses.get(status, 0) for status in ("timeout", "crashed", "bad_gold"))
    words = {"judged": facts.judged, "negligible": _NEGLIGIBLE, "percent": percent, "significant": significant}
    verdicts = [prose(_TEXT, "verdict", label=one.label, default=one.default, **words) for one in found.variants]
    said = paragraphs(_TEXT, "notes", about=about, facts=facts, lost=lost, few=_FEW)
    return [*said, *filter(None, verdicts)]


def markdown(found: Measured, about: About) -> str:
    """shift.md: all of it, with the picture."""
    parts = [f"# What each variant's shift would do to {about.model}", conditions(about)]
    if said := notes(found, about):
        parts.append("\n".join(f"- {note}" for note in said))
    parts.append(f"![c(o) of the completions, and the share of the advantage over alpha]({PICTURE})")
    for table in tables(found, about):
        parts.append(
            f"## {table.title}\n\n{markdown_grid(table.heads, 'l' + 'r' * (len(table.heads) - 1), table.rows)}"
        )
    return "\n\n".join([*parts, prose(_TEXT, "words")]) + "\n"


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


def _model_table(facts: Facts, about: About) -> WordTable:
    few = "no two judged completions in a group"
    right, wrong = "no correct completion", "no incorrect completion"
    pairs = "no group with two correct completions"
    cells: list[tuple[str, str]] = [
        ("mixed groups", str(facts.mixed)),
        ("all-correct groups", str(facts.all_correct)),
        ("all-incorrect groups", str(facts.all_incorrect)),
        *([("groups without a verdict", str(facts.unjudged))] if facts.unjudged else []),
        *([("problems left out, bad gold", str(about.excluded))] if about.excluded else []),
        *((f"verdict {status}", str(count)) for status, count in sorted(about.statuses.items())),
        ("cut at the length limit", str(facts.truncated)),
        ("c(q), mean", _or(facts.c_prompt, "no prompt of two tokens")),
        ("c(o), mean of the correct", _or(facts.c_correct, right)),
        ("c(o), mean of the incorrect", _or(facts.c_incorrect, wrong)),
        ("spread of c(o) within groups", _or(facts.spread, few)),
        ("spread of c(o), mixed groups alone", _or(facts.spread_mixed, "no mixed group")),
        ("spread of log c(o) among the correct of a group", _or(facts.log_spread, pairs)),
        (
            "correlation of log-prob and length among the correct of a group",
            _or(facts.length_correlation, f"{pairs}, or these do not differ"),
        ),
    ]
    title = f"The model on {facts.problems} problems of the {about.split} split, {facts.group} completions each"
    return WordTable(title=title, heads=("", "value"), rows=tuple(cells))


def _defaults_table(variants: Sequence[Variant]) -> WordTable:
    rows = [
        (
            one.label,
            NOTHING if one.default.alpha is None else f"{one.default.alpha:g}",
            percent(one.default.share),
            percent(one.default.sign_flips),
            percent(one.default.negative_correct),
        )
        for one in variants
    ]
    heads = ("variant", "alpha", "share of the advantage", "sign flips", "correct with a negative advantage")
    return WordTable(title="At the defaults", heads=heads, rows=tuple(rows))


def _strengths_table(variants: Sequence[Variant]) -> WordTable:
    rows = []
    for one in variants:
        flips, negative = (
            (one.compared.sign_flips, one.compared.negative_correct) if one.compared is not None else (None, None)
        )
        alphas = (f"{one.alphas[target]:.3g}" for target in TARGETS)
        rows.append((one.label, *alphas, percent(flips), percent(negative)))
    at = f"at {percent(COMPARED)}"
    heads = ("variant", *(percent(target) for target in TARGETS), f"sign flips {at}", f"correct, negative {at}")
    return WordTable(title="Alpha for a share of the advantage", heads=heads, rows=tuple(rows))


def _or(value: float | None, reason: str) -> str:
    return f"cannot be computed: {reason}" if value is None else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def as_json(found: Measured, about: About) -> dict[str, Any]:
    """shift.json without its environment: the same numbers, with c(o) of every completion."""
    return {"about": asdict(about), **asdict(found), "notes": notes(found, about)}
