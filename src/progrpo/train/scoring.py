"""Log-probs of the sampling policy for the ratio, c(q) and c(o): one source for all three, and no pass too many."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from progrpo.methods import Advantages, Method
from progrpo.methods.step import part_of_batch
from progrpo.model.tokenizer import each_spelled
from progrpo.train.answers import with_answers
from progrpo.train.columns import column_mask
from progrpo.train.off_policy import corrected, require_close
from progrpo.train.policy import Policy
from progrpo.train.reference import Reference
from progrpo.train.rollout_batch import make_rollout_batch, within_mask
from progrpo.train.rows import TokenRows
from progrpo.train.settings import RunSettings
from progrpo.train.token_counts import TokenCounts
from progrpo.types import Group, RolloutBatch


def policy_batch(
    settings: RunSettings,
    policy: Policy,
    method: Method,
    reference: Reference | None,
    groups: tuple[Group, ...],
    rows: TokenRows,
    *,
    done: int,
    engine_scores: bool,
) -> tuple[RolloutBatch, TokenCounts]:
    """The rollout under the policy that sampled it, or is about to learn from it, and what it cost to know.

    Where the engine scores (`engine_scores`) the log-probs kept while sampling serve and no forward pass is made; else
    the trainer makes one, which gives the prompts' log-probs too. A reference model, a net's values and the problems' answers
    cost a pass each, where they are needed; what the tokens spell costs none.

    Args:
        done: optimiser steps made so far.

    Raises:
        EngineError: the engine's log-probs are too far from the trainer's, see `off_policy.stop`.
    """
    needs, failed, budget = method.needs, settings.verify.failed, settings.batch.micro_tokens
    if engine_scores:
        batch, counts = make_rollout_batch(groups, needs, failed), TokenCounts()
    else:
        everything = slice(0, len(groups))
        plain = make_rollout_batch(groups, needs & {"verdicts"}, failed)
        batch, counts = rescore(plain, rows, policy, method, problems=everything, budget=budget)
        require_close(batch, settings.off_policy, done + 1)
        batch = corrected(batch, settings.off_policy)
    index, columns = torch.arange(len(batch.mask)), batch.mask.shape[1]
    if reference is not None:
        scores = reference.score(rows, index, columns=columns, budget=budget)
        batch, counts = replace(batch, ref_logprobs=scores.logprobs), counts + scores.token_counts
    if "values" in needs:
        scores = policy.score(rows, index, columns=columns, budget=budget, entropies=False, prompts=False, values=True)
        batch, counts = replace(batch, values=scores.values), counts + scores.token_counts
    if "token_texts" in needs:
        batch = replace(batch, token_texts=each_spelled(policy.model.tokenizer, rows.completions))
    if "answer_logprobs" in needs:
        batch, more = with_answers(batch, groups, method, policy, policy.model, budget=budget)
        counts += more
    replayed = _sampled_before(groups, done) if method.samples is not None else None
    return within_mask(replace(batch, state=dict(method.state), replayed=replayed)), counts


def _sampled_before(groups: Sequence[Group], done: int) -> Tensor | None:
    """[P, G] completions of an older policy; None without any."""
    older = torch.tensor([[completion.policy_version < done for completion in group.completions] for group in groups])
    return older if bool(older.any()) else None


def refreshed_advantages(
    batch: RolloutBatch,
    before: Advantages,
    rows: TokenRows,
    policy: Policy,
    method: Method,
    *,
    problems: slice,
    budget: int,
) -> tuple[RolloutBatch, Advantages, TokenCounts]:
    """Some of the problems with log-probs of the policy as it is now, their advantages, and what those cost.

    Args:
        before: the advantages of these problems as they were computed for the rollout.
    """
    refreshed, counts = rescore(batch, rows, policy, method, problems=problems, budget=budget)
    return refreshed, method.renewed_advantages(before, part_of_batch(batch, problems), refreshed), counts


def rescore(
    batch: RolloutBatch, rows: TokenRows, policy: Policy, method: Method, *, problems: slice, budget: int
) -> tuple[RolloutBatch, TokenCounts]:
    """The part `problems` of a batch with log-probs of the current policy, and what else the method reads of its
    distributions, by one forward pass without gradient."""
    group, needs = rows.group, method.needs
    index = torch.arange(problems.start * group, problems.stop * group)
    scores = policy.score(
        rows,
        index,
        columns=batch.mask.shape[1],
        budget=budget,
        entropies="entropies" in needs,
        prompts="prompt_logprobs" in needs,
        further=method.further,
    )
    prompt_mask = None
    if scores.prompt_logprobs is not None:
        lengths = torch.tensor([len(rows.prompts[int(n)]) for n in index[::group]])
        prompt_mask = column_mask(lengths, scores.prompt_logprobs.shape[1])
        prompt_mask[:, 0] = False
    further: dict[str, Any] = scores.further
    scored = replace(
        part_of_batch(batch, problems),
        old_logprobs=scores.logprobs,
        entropies=scores.entropies,
        prompt_logprobs=scores.prompt_logprobs,
        prompt_mask=prompt_mask,
        **further,
    )
    return within_mask(scored), scores.token_counts
