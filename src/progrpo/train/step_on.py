"""One optimiser step on a part of a rollout, as the loop makes it and as a replay makes it again."""

from progrpo.methods import Advantages, Method
from progrpo.methods.step import part_of
from progrpo.train.bundles import step_seed
from progrpo.train.minibatch import make_minibatch
from progrpo.train.policy import Policy
from progrpo.train.rows import TokenRows
from progrpo.train.scoring import refreshed_advantages
from progrpo.train.settings import RunSettings
from progrpo.train.token_counts import TokenCounts
from progrpo.train.trace import StepTrace
from progrpo.train.update import Dump, update
from progrpo.types import RolloutBatch, WeightedMean


def step_on(
    settings: RunSettings,
    policy: Policy,
    method: Method,
    batch: RolloutBatch,
    rows: TokenRows,
    advantages: Advantages,
    *,
    part: int,
    step: int,
    counts: TokenCounts,
    dump: Dump,
    trace: StepTrace | None = None,
    take: bool = True,
    only: int | None = None,
) -> dict[str, WeightedMean]:
    """Learn from mini-batch `part` of a rollout.

    Args:
        step: its number in the run. counts: of what was forwarded for it before. dump, trace: see `update`.
        take: false accumulates and clips the gradient, and leaves the weights as they are. only: see `update`.
    """
    batching = settings.batch
    size = batching.minibatch_prompts or batching.prompts
    problems = slice(part * size, (part + 1) * size)
    of_part, now, stats = part_of(advantages, problems, batching.group), None, {}
    if (part or batch.replayed is not None) and method.refreshes:
        now, of_part, more = refreshed_advantages(
            batch, of_part, rows, policy, method, problems=problems, budget=batching.micro_tokens
        )
        stats, counts = dict(of_part.stats), counts + more
    seed = step_seed(settings, step)
    return stats | update(
        policy,
        method,
        make_minibatch(rows, batch, of_part, problems, now=now, seed=seed, token_counts=counts),
        longest=settings.sampling.max_new_tokens,
        budget=batching.micro_tokens,
        skip_zero=batching.skip_zero_advantage,
        dump=dump,
        trace=trace,
        step=take,
        only=only,
    )
