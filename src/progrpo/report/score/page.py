"""One self-contained page of what several methods make of the same rollouts, down to the weight of each token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progrpo.evaluate.score import ScoredCompletion, Scoring, groups_apart, prompt_text, statistics
from progrpo.evaluate.spelling import Spelling
from progrpo.report import html
from progrpo.report.drawing import SOFT, Drawing, canvas, run_colour, run_marker, to_svg
from progrpo.report.score.words import in_words
from progrpo.report.wording import shortened
from progrpo.settings import flat

COMPLETIONS, TOKENS = 1000, 200_000
"""Most completions and tokens that a page holds: whole groups, those that differ most first (one group at least)."""
_POINTS = 2000
"""Most completions drawn, evenly taken; more would be one blot, and megabytes of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AboutRollout:
    """What stands in front of a page that shows one rollout of a run as it was trained on.

    Attributes:
        title: its steps, in words. run: its name. back, before, after: pages to go to, relative; "" where there is none.
        kept_for: why it was kept with its tokens; () where it was not. facts: what its steps logged, as (label, value, unit).
    """

    title: str
    run: str
    back: str
    before: str = ""
    after: str = ""
    kept_for: tuple[str, ...] = ()
    facts: tuple[tuple[str, str, str], ...] = ()


def make_score_page(scoring: Scoring, spelling: Spelling, about: AboutRollout | None = None) -> str:
    """The page as text; the same scoring gives the same page, byte for byte.

    Args:
        about: of a page of a rollout; None compares methods.
    """
    groups = chosen_groups(scoring)
    data, unspelled = page_data(scoring, groups, spelling)
    return html.render(
        "score/page.html",
        scripts=("score/page.js",),
        data=data,
        scoring=scoring,
        about=about,
        groups=groups,
        settings=_settings(scoring),
        statistics=[(one.label, one.meaning, values) for one, values in in_words(statistics(scoring))],
        figure=advantages_figure(scoring),
        spelling=spelling,
        unspelled=unspelled,
    )


def chosen_groups(scoring: Scoring) -> list[tuple[ScoredCompletion, ...]]:
    """Whole groups within the limits of a page, those that differ most first."""
    chosen: list[tuple[ScoredCompletion, ...]] = []
    completions = tokens = 0
    for members in groups_apart(scoring):
        completions += len(members)
        tokens += sum(len(one.completion.token_ids) for one in members if one.low is not None)
        if chosen and (completions > COMPLETIONS or tokens > TOKENS):
            break
        chosen.append(members)
    return chosen


def page_data(
    scoring: Scoring, groups: Sequence[Sequence[ScoredCompletion]], spelling: Spelling
) -> tuple[dict[str, Any], int]:
    """What the page's script shows, as JSON data, and how many completions the tokenizer does not spell.

    Returns:
        {"methods": [label], "groups": [{"name", "prompt", "answer"}], "completions": [{"group", "index", "status",
        "detail", "cut", "text", "confidence", "advantages", "tokens"}]}. Tokens are null where the file holds none, else
        {"ids", "texts", "probabilities", "entropies", "low", "weights"}: texts null where nothing spells them, weights a
        list for each method, or one number where all tokens have the same.
    """
    several = len(scoring.files) > 1
    completions = [_completion(number, one, spelling) for number, members in enumerate(groups) for one in members]
    heads = [
        {
            "name": f"{first.problem.id} ({Path(first.file).stem})" if several else first.problem.id,
            "prompt": shortened(prompt_text(first.problem)),
            "answer": first.problem.answer_text,
        }
        for first, *_ in groups
    ]
    unspelled = sum(one["tokens"] is not None and one["tokens"]["texts"] is None for one in completions)
    return {"methods": [one.label for one in scoring.methods], "groups": heads, "completions": completions}, unspelled


def _completion(group: int, one: ScoredCompletion, spelling: Spelling) -> dict[str, Any]:
    tokens = _tokens(one, spelling)
    return {
        "group": group,
        "index": one.index,
        "status": one.verdict.status,
        "detail": one.verdict.detail,
        "cut": one.completion.finish == "length",
        "text": shortened(one.completion.text) if tokens is None else one.completion.text,
        "confidence": one.confidence,
        "advantages": one.advantages,
        "tokens": tokens,
    }


def _tokens(one: ScoredCompletion, spelling: Spelling) -> dict[str, Any] | None:
    if one.low is None:
        return None
    ids, entropies = one.completion.token_ids.tolist(), one.completion.entropies
    rounded = [[_rounded(value) for value in values.tolist()] for values in one.weights or ()]
    return {
        "ids": ids,
        "texts": spelling.texts(ids, one.completion.text),
        "probabilities": [_rounded(value) for value in one.completion.sampler_logprobs.exp().tolist()],
        "entropies": [None] * len(ids) if entropies is None else [_rounded(value) for value in entropies.tolist()],
        "low": one.low.int().tolist(),
        "weights": [weights[0] if len(set(weights)) == 1 else weights for weights in rounded],
    }


def _rounded(value: float) -> float:
    return float(f"{min(value, 1e9):.4g}")


def _settings(scoring: Scoring) -> list[tuple[str, list[str]]]:
    """Settings in which the methods differ, one value per method; "" where a method has no such setting."""
    settings: list[Mapping[str, str]] = [flat(one.settings) for one in scoring.methods]
    keys = list(dict.fromkeys(key for one in settings for key in one))
    rows = [(key, [one.get(key, "") for one in settings]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def advantages_figure(scoring: Scoring) -> Drawing | None:
    """Draw the advantages of the other methods over those of the first; None where there is one method only."""
    if len(scoring.methods) < 2:
        return None
    values = scoring.values[:, :: -(-scoring.values.shape[1] // _POINTS)]
    first = scoring.methods[0].label
    with canvas(3.6) as (figure, axes):
        axes.axhline(0, color=SOFT, linewidth=0.6)
        axes.axvline(0, color=SOFT, linewidth=0.6)
        axes.axline((0, 0), slope=1, color=SOFT, linewidth=0.6, linestyle=(0, (2, 3)))
        for number in range(1, len(scoring.methods)):
            axes.plot(
                values[0], values[number], run_marker(number), color=run_colour(number), markersize=4, alpha=0.6,
                markeredgewidth=0,
            )  # fmt: skip
        axes.set_title("advantage")
        axes.set_xlabel(f"advantage by {first}", loc="right")
        svg = to_svg(figure, "advantages")
    taken = 0 if values.shape[1] == scoring.values.shape[1] else values.shape[1]
    return Drawing(
        name="advantages",
        title=f"Advantages over those of {first}",
        svg=svg,
        caption=html.prose("captions.jinja", "advantages", taken=taken),
        runs=tuple(range(1, len(scoring.methods))),
    )
