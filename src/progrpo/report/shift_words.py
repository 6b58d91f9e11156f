"""What the verb `shift` found, in tables and sentences: the same on the terminal and in shift.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from progrpo.evaluate.shift import COMPARED, TARGETS, Facts, Measured, Variant
from progrpo.report.wording import NOTHING, significant

PICTURE = "shift.svg"

_NEGLIGIBLE = 0.01
"""A smaller share of the advantage is GRPO."""


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
    facts, said = found.facts, []
    if about.split != "train":
        said.append(f"task {about.task} has no training split: this is its {about.split} split.")
    lost = sum(about.statuses.get(status, 0) for status in ("timeout", "crashed", "bad_gold"))
    if lost:
        said.append(
            f"{lost} of {sum(about.statuses.values())} verdicts failed; these completions are no part of anything below "
            "but the counts of verdicts."
        )
    if about.other_scorer:
        said.append(
            "this engine's log-probs are not those of the trained weights: training would take the confidences from a "
            "pass of its own, and may see slightly others."
        )
    if facts.judged and facts.truncated > facts.judged / 2:
        said.append(
            f"{facts.truncated} completions were cut at {about.max_new_tokens} tokens: raise max_new_tokens if that was "
            "not meant."
        )
    return said + _undefined(facts) + [text for variant in found.variants if (text := _verdict(variant, facts))]


def markdown(found: Measured, about: About) -> str:
    """shift.md: all of it, with the picture."""
    parts = [f"# What each variant's shift would do to {about.model}", conditions(about)]
    if said := notes(found, about):
        parts.append("\n".join(f"- {note}" for note in said))
    parts.append(f"![c(o) of the completions, and the share of the advantage over alpha]({PICTURE})")
    parts += [f"## {table.title}\n\n{_markdown_table(table)}" for table in tables(found, about)]
    return "\n\n".join([*parts, WORDS]) + "\n"


def conditions(about: About) -> str:
    """How it was sampled: no number without it."""
    return (
        f"{about.model} on {about.task}, {about.split} split, T {about.temperature:g}, at most "
        f"{about.max_new_tokens:,} tokens, seed {about.seed}; before any training"
    )


WORDS = (
    "The shift is what a variant adds to GRPO's advantages. Its share is sum |shift - its group's mean| / sum |advantage|: "
    "what a whole group shares has no effect in expectation and is left out. Sign flips are advantages other than 0 whose "
    "sign turns. c(q) and c(o) are the confidences of prompt and completion (arXiv:2602.05281, Eq. 5 and 6). Spread is "
    "the mean absolute deviation from the group's mean."
)


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


def _undefined(facts: Facts) -> list[str]:
    if not facts.judged:
        return ["no completion has a verdict: nothing about the shift can be said."]
    said = []
    if not facts.correct:
        said.append(
            "no completion is correct: nothing can be said of the correct. Give an easier task, more completions (-n), or "
            "check template and reward."
        )
    elif not facts.mixed:
        said.append("every judged group is all correct or all incorrect.")
    if not facts.mixed:
        said.append(
            "without a mixed group all of GRPO's advantages are 0: no share, no sign flip and no alpha can be computed."
        )
    elif facts.mixed < _FEW:
        said.append(f"only {facts.mixed} groups are mixed: shares and alphas are rough; give more with --problems.")
    return said


_FEW = 8
"""Mixed groups below which the numbers are called rough."""


def _verdict(variant: Variant, facts: Facts) -> str | None:
    """What to know about a variant's default; None where it is neither negligible nor overwhelming."""
    default = variant.default
    strength = "at its default" + (f" (alpha {default.alpha:g})" if default.alpha is not None else "")
    if default.share is None:
        if facts.judged and default.acts:
            return (
                f"{variant.label}: {strength} its shift is all the advantage there is, on average "
                f"{significant(default.size)} a completion."
            )
        return None
    if not default.acts:
        reason = "is the same for all completions of a group" if default.alpha is not None else "is 0"
        return f"{variant.label}: its shift {reason}: this is GRPO on this model, whatever its strength."
    if default.share < _NEGLIGIBLE:
        share = percent(default.share)
        return f"{variant.label}: {strength} this is GRPO on this model: its shift is {share} of the advantage."
    if default.share > 1:
        return (
            f"{variant.label}: {strength} the shift outweighs the verdicts: it is {percent(default.share)} of the advantage, "
            f"and {percent(default.sign_flips)} of the signs turn."
        )
    return None


def _or(value: float | None, reason: str) -> str:
    return f"cannot be computed: {reason}" if value is None else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _markdown_table(table: WordTable) -> str:
    rule = "|" + "|".join(["---", *["---:"] * (len(table.heads) - 1)]) + "|"
    lines = ["| " + " | ".join(cells) + " |" for cells in (table.heads, *table.rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def as_json(found: Measured, about: About) -> dict[str, Any]:
    """shift.json without its environment: the same numbers, with c(o) of every completion."""
    return {"about": asdict(about), **asdict(found), "notes": notes(found, about)}
