"""What a rollout leaves in the record: its metrics, and one row per completion."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from progrpo.algo.confidence import sequence_confidence
from progrpo.methods import Advantages
from progrpo.train.sameness import sameness_metrics
from progrpo.train.stream import SOURCE
from progrpo.types import STATUSES, Group, ProblemResult, RolloutBatch, Verdict, WeightedMean


def rollout_metrics(
    groups: Sequence[Group], batch: RolloutBatch, advantages: Advantages, *, confidence: Tensor, canonical: bool
) -> dict[str, WeightedMean]:
    """Metrics of one rollout; every key is explained in docs/metrics.md.

    Args:
        confidence: [P, G] `default_confidence`. canonical: whether distinct solutions can be counted.
    """
    problems, size = batch.rewards.shape
    sequences = problems * size
    tokens = float(batch.lengths.sum())
    all_correct, all_incorrect = batch.correct.all(dim=1), ~batch.correct.any(dim=1)  # [P]
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    judged = [verdict for verdict in verdicts if not verdict.failed]
    statuses = Counter(verdict.status for verdict in verdicts)
    entropies = [
        c.entropies if c.trained is None else c.entropies[c.trained]
        for group in groups
        for c in group.completions
        if c.entropies is not None
    ]
    distinct = [len({v.canonical for v in group.verdicts if v.correct}) for group in groups] if canonical else []
    return {
        "rollout/reward": WeightedMean(sum(verdict.reward for verdict in judged), len(judged)),
        "rollout/correct": WeightedMean(sum(verdict.correct for verdict in judged), len(judged)),
        "rollout/distinct_correct": WeightedMean(sum(distinct), len(distinct)),
        "rollout/entropy": WeightedMean(
            sum(float(one.double().sum()) for one in entropies), sum(len(one) for one in entropies)
        ),
        "rollout/confidence": _mean(confidence),
        "rollout/length": WeightedMean(tokens, sequences),
        "rollout/truncated": WeightedMean(float(batch.truncated.sum()), sequences),
        "rollout/zero_std_groups": WeightedMean(float((all_correct | all_incorrect).sum()), problems),
        "rollout/all_correct_groups": WeightedMean(float(all_correct.sum()), problems),
        "rollout/all_incorrect_groups": WeightedMean(float(all_incorrect.sum()), problems),
        **sameness_metrics(groups),
        "rollout/advantage_abs": _mean(advantages.values.abs()),
        **_reward_parts(judged),
        **{f"verdict/{status}": WeightedMean(statuses[status], sequences) for status in STATUSES},
        "tokens/generated": WeightedMean(tokens, 1),
        **advantages.stats,
    }


def correct_by_source(groups: Sequence[Group], sources: Sequence[str]) -> dict[str, WeightedMean]:
    """Share of `correct` among the judged completions of each part of a mixture."""
    return {
        f"source/{name}/correct": WeightedMean(sum(verdict.correct for verdict in verdicts), len(verdicts))
        for name in sources
        for verdicts in [
            [one for group in groups if group.problem.facts[SOURCE] == name for one in group.verdicts if not one.failed]
        ]
    }


def held_out_by_source(problems: Sequence[ProblemResult], sources: Sequence[str]) -> dict[str, float]:
    """Pass@1 of each part of a mixture that has problems among them: the mean over its problems."""
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for problem in problems if sources else ():
        rates[str(problem.facts[SOURCE])].append(problem.correct / problem.n)
    return {f"source/{name}/held_out": sum(each) / len(each) for name, each in rates.items() if each}


def rollout_rows(groups: Sequence[Group], advantages: Advantages, *, confidence: Tensor) -> Iterator[dict[str, Any]]:
    """One row per completion, in group order; their tokens are in bundles."""
    columns: dict[str, Tensor] = {
        "confidence": confidence,
        **advantages.columns,
        "advantage": advantages.values,
    }
    for p, group in enumerate(groups):
        for g, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True)):
            row: dict[str, Any] = {
                "problem": group.problem.id,
                "index": g,
                "prompt": group.problem.prompt,
                "completion": completion.text,
                "answer": [group.problem.answer, *group.problem.accepted]
                if group.problem.accepted
                else group.problem.answer,
                "status": verdict.status,
                "correct": verdict.correct,
                "reward": verdict.reward,
                **({"reward_parts": dict(verdict.parts)} if verdict.parts else {}),
                "extracted": verdict.extracted,
                "canonical": verdict.canonical,
                "detail": verdict.detail,
                "finish": completion.finish,
                "length": len(completion.token_ids),
                "seed": completion.seed,
            }
            row |= {name: _number(values[p, g]) for name, values in columns.items()}
            yield row


def _reward_parts(verdicts: Sequence[Verdict]) -> dict[str, WeightedMean]:
    """Mean of each reward that the reward is made of, over the verdicts that have it."""
    means: dict[str, WeightedMean] = {}
    for verdict in verdicts:
        for name, value in verdict.parts.items():
            means[f"reward/{name}"] = means.get(f"reward/{name}", WeightedMean(0.0, 0)) + WeightedMean(value, 1)
    return means


def default_confidence(batch: RolloutBatch) -> Tensor:
    """c(o) under Eq. 6's default variant, whatever the method, so that runs can be compared."""
    return sequence_confidence(batch.old_logprobs, batch.mask).view(batch.rewards.shape)


def _mean(values: Tensor) -> WeightedMean:
    known = values[~values.isnan()]
    return WeightedMean(float(known.double().sum()), known.numel())


def _number(value: Tensor) -> float | None:
    """A JSON number; nan (a confidence nobody could compute) becomes null."""
    number = float(value)
    return None if number != number else number
