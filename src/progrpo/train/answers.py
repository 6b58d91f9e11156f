"""The problem's own answer after each completion's reasoning: what methods are rewarded by that ask for its likelihood."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from progrpo.errors import DataError
from progrpo.methods import Method
from progrpo.methods._texts import Place, place_of
from progrpo.model import LanguageModel
from progrpo.model.tokenizer import encode_text
from progrpo.train.columns import column_mask
from progrpo.train.policy import Policy
from progrpo.train.rows import TokenRows
from progrpo.train.token_counts import TokenCounts
from progrpo.types import Completion, Group, Problem, RolloutBatch


def with_answers(
    batch: RolloutBatch, groups: Sequence[Group], method: Method, policy: Policy, model: LanguageModel, *, budget: int
) -> tuple[RolloutBatch, TokenCounts]:
    """The batch with the log-probs of each problem's answer, by one pass over prompt, reasoning and answer, and its cost.

    The answer stands where `Method.answer_after` says the completion gives its own; the prompt is run once per group.

    Raises:
        DataError: an answer, or the text before it, has no tokens; or prompt, completion and answer are longer than the model
            can tell apart.
    """
    answers = [_ids(model.tokenizer, group.problem.answer or "", group.problem) for group in groups]
    mark = method.answer_after
    put = () if mark is None else tuple(_ids(model.tokenizer, mark, None))
    rows, lengths = [], []
    for p, group in enumerate(groups):
        for g, completion in enumerate(group.completions):
            texts = batch.token_texts[p * len(group.completions) + g] if mark is not None else ()
            place = None if mark is None else place_of(texts, mark)
            before = _reasoning(completion, place, model.stop_ids)
            between = put if place is None else ()
            rows.append(torch.cat([before, torch.tensor([*between, *answers[p]], dtype=torch.long)]))
            lengths.append(len(answers[p]))
            _require_positions(model, len(group.prompt_ids) + len(rows[-1]), group.problem)
    with_answer = TokenRows(
        prompts=tuple(group.prompt_ids for group in groups for _ in group.completions),
        completions=tuple(rows),
        group=len(groups[0].completions),
    )
    scores = policy.score(
        with_answer,
        torch.arange(len(rows)),
        columns=max(len(row) for row in rows),
        budget=budget,
        entropies=False,
        prompts=False,
    )
    counts = torch.tensor(lengths)
    mask = column_mask(counts, int(counts.max()))
    starts = torch.tensor([len(row) for row in rows]) - counts
    places = (starts[:, None] + torch.arange(mask.shape[1])).clamp(max=scores.logprobs.shape[1] - 1)
    values = scores.logprobs.gather(1, places).masked_fill(~mask, 0.0)
    return replace(batch, answer_logprobs=values, answer_mask=mask), scores.token_counts


def _reasoning(completion: Completion, place: Place | None, stop_ids: frozenset[int]) -> Tensor:
    """The tokens that the answer follows: up to the mark, whose place it is, or all but an end token."""
    ids = completion.token_ids
    if place is not None:
        return ids[: place.end]
    return ids[:-1] if len(ids) and int(ids[-1]) in stop_ids else ids


def _ids(tokenizer: Any, text: str, problem: Problem | None) -> list[int]:
    ids = encode_text(tokenizer, text)
    written: str = tokenizer.decode(ids, skip_special_tokens=False)
    if not ids or "".join(written.split()) != "".join(text.split()):  # some tokenizers put a blank before a text
        whose = "method.after" if problem is None else f"the answer of problem {problem.id!r:.80}"
        raise DataError(f"{whose} is {text!r:.80}, which the model's tokenizer cannot write; give it other text")
    return ids


def _require_positions(model: LanguageModel, length: int, problem: Problem) -> None:
    if model.positions is not None and length > model.positions:
        raise DataError(
            f"problem {problem.id!r:.80}: prompt, reasoning and answer are {length} tokens, and the model tells "
            f"{model.positions} apart; lower sampling.max_new_tokens, so that the answer has its place"
        )
