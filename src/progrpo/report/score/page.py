"""One self-contained page of what several methods make of the same rollouts, down to the weight of each token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progrpo.errors import ModelError
from progrpo.evaluate.score import ScoredCompletion, Scoring, groups_apart, prompt_text, statistics
from progrpo.model import ModelSettings, load_tokenizer
from progrpo.report import html
from progrpo.report.score.figure import advantages_figure
from progrpo.report.score.tokens import token_texts
from progrpo.report.score.words import in_words, signed
from progrpo.report.wording import flat, shortened
from progrpo.rollout.recorded import RolloutFile

COMPLETIONS, TOKENS = 1000, 200_000
"""Most completions and tokens that a page holds: whole groups, those that differ most first (one group at least)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spelling:
    """What turns token ids into text, or why nothing does."""

    tokenizer: Any = None
    source: str = ""
    """The model whose tokenizer it is."""
    missing: str = ""
    """Why there is no tokenizer; "" where there is one."""

    @classmethod
    def of_model(cls, path: str) -> "Spelling":
        """The tokenizer of a model that the user named.

        Raises:
            ModelError: it cannot be loaded.
        """
        return cls(tokenizer=load_tokenizer(ModelSettings(path=path)), source=path)

    @classmethod
    def of_run(cls, file: RolloutFile) -> "Spelling":
        """The tokenizer of the model that a run's settings name; a page does without one that is not there."""
        if not file.tokens:
            return cls(missing="the file holds no token ids; a run records them with record.tokens=true")
        named = file.section("model")
        path, pad = named.get("path"), named.get("pad_token")
        if not isinstance(path, str) or not path:
            return cls(missing="no settings of a run beside the file name a model; name one with --model")
        try:
            settings = ModelSettings(path=path, pad_token=pad if isinstance(pad, str) else None)
            return cls(tokenizer=load_tokenizer(settings), source=path)
        except ModelError as error:
            return cls(missing=f"{error}; name a model with --model")


def make_score_page(scoring: Scoring, spelling: Spelling) -> str:
    """The page as text; the same scoring gives the same page, byte for byte."""
    groups = chosen_groups(scoring)
    data, unspelled = page_data(scoring, groups, spelling)
    return html.render(
        "score/page.html",
        scripts=("score/page.js",),
        data=data,
        filters={"signed": signed},
        scoring=scoring,
        shown=sum(len(members) for members in groups),
        shown_groups=len(groups),
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
    unspelled, completions = 0, []
    for number, members in enumerate(groups):
        for one in members:
            tokens = _tokens(one, spelling)
            unspelled += tokens is not None and tokens["texts"] is None
            completions.append(
                {
                    "group": number,
                    "index": one.index,
                    "status": one.verdict.status,
                    "detail": one.verdict.detail,
                    "cut": one.completion.finish == "length",
                    "text": shortened(one.completion.text) if tokens is None else one.completion.text,
                    "confidence": one.confidence,
                    "advantages": one.advantages,
                    "tokens": tokens,
                }
            )
    heads = [
        {
            "name": f"{first.problem.id} ({Path(first.file).stem})" if several else first.problem.id,
            "prompt": shortened(prompt_text(first.problem)),
            "answer": first.problem.answer_text,
        }
        for first, *_ in groups
    ]
    return {"methods": [one.label for one in scoring.methods], "groups": heads, "completions": completions}, unspelled


def _tokens(one: ScoredCompletion, spelling: Spelling) -> dict[str, Any] | None:
    if one.low is None:
        return None
    ids, entropies = one.completion.token_ids.tolist(), one.completion.entropies
    return {
        "ids": ids,
        "texts": _texts(spelling.tokenizer, ids, one.completion.text),
        "probabilities": [_rounded(value) for value in one.completion.sampler_logprobs.exp().tolist()],
        "entropies": [None] * len(ids) if entropies is None else [_rounded(value) for value in entropies.tolist()],
        "low": one.low.int().tolist(),
        "weights": [_weights(values.tolist()) for values in one.weights or ()],
    }


def _weights(values: list[float]) -> list[float] | float:
    rounded = [_rounded(value) for value in values]
    return rounded[0] if len(set(rounded)) == 1 else rounded


def _texts(tokenizer: Any, ids: list[int], text: str) -> list[str] | None:
    """The text of each token, the name of a special one; None where nothing spells them."""
    spelled = None if tokenizer is None else token_texts(tokenizer, ids, text)
    if spelled is None:
        return None
    special = set(tokenizer.all_special_ids)
    # The page tells a special token's name from text by the character before it, which no completion's JSON needs.
    return [f"\x00{tokenizer.convert_ids_to_tokens(token)}" if token in special and not piece else piece
            for token, piece in zip(ids, spelled, strict=True)]  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{min(value, 1e9):.4g}")


def _settings(scoring: Scoring) -> list[tuple[str, list[str]]]:
    """Settings in which the methods differ, one value per method; "" where a method has no such setting."""
    settings: list[Mapping[str, str]] = [flat(one.settings) for one in scoring.methods]
    keys = list(dict.fromkeys(key for one in settings for key in one))
    rows = [(key, [one.get(key, "") for one in settings]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
