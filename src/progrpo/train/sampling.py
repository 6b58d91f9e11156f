"""The rollout of one step: P problems, G completions of each; sampled again where the method wants other groups."""

from collections.abc import Sequence

from progrpo.rollout.generate import Rollout, completion_seeds, run_rollout
from progrpo.train.setup import Trainer
from progrpo.types import Group, WeightedMean

_TAKEN = "sampling/taken"


def sample(trainer: Trainer, done: int) -> tuple[Rollout, dict[str, WeightedMean]]:
    """Sample the problems that come next, and verify.

    A method with `rounds` above 1 (dynamic sampling, arXiv:2503.14476) keeps the groups that are `wanted` and goes on with
    further problems until there are P of them, at most so many times; what is then missing is filled up with the others. How
    many problems were taken is kept in the checkpoint.

    Returns:
        The rollout, and how it was sampled: keys as in docs/metrics.md.

    Raises:
        VerifierError: too many verdicts failed.
    """
    settings, state = trainer.settings, trainer.method.state
    size, rounds = settings.batch.prompts, trainer.method.rounds
    start = done // settings.batch.steps_per_rollout * size
    if rounds == 1:
        rollout = _round(trainer, done, start)
        return rollout, {}
    rollouts: list[Rollout] = []
    mixed: list[Group] = []
    while len(rollouts) < rounds and len(mixed) < size:
        rollouts.append(_round(trainer, done, state.get(_TAKEN, 0)))
        state[_TAKEN] = state.get(_TAKEN, 0) + size
        mixed += [group for group in rollouts[-1].groups if trainer.method.wanted(group)]
    others = [group for rollout in rollouts for group in rollout.groups if not trainer.method.wanted(group)]
    sampled = sum(len(rollout.groups) for rollout in rollouts)
    merged = Rollout(
        groups=tuple([*mixed, *others][:size]),
        generate_s=sum(rollout.generate_s for rollout in rollouts),
        verify_s=sum(rollout.verify_s for rollout in rollouts),
        verify_busy_s=sum(rollout.verify_busy_s for rollout in rollouts),
        gather_s=sum(rollout.gather_s for rollout in rollouts),
    )
    return merged, {
        "rollout/rounds": WeightedMean(len(rollouts), 1),
        "rollout/mixed_groups": WeightedMean(len(mixed), sampled),
        "tokens/generated": WeightedMean(_tokens([group for rollout in rollouts for group in rollout.groups]), 1),
    }


def _round(trainer: Trainer, done: int, start: int) -> Rollout:
    settings = trainer.settings
    taken = trainer.stream.take(start, settings.batch.prompts)
    rollout = run_rollout(
        [problem for _, problem in taken],
        model=trainer.model,
        engine=trainer.engine,
        verifier=trainer.verifier,
        sampling=settings.sampling,
        seeds=[
            completion_seeds(settings.seed, "train", done, epoch, problem=problem, group=settings.batch.group)
            for epoch, problem in taken
        ],
        processes=trainer.parallel.processes,
        # Recorded tokens come with their prompts', so that other methods can be scored on the same rollouts.
        prompt_logprobs=trainer.engine_scores and ("prompt_logprobs" in trainer.method.needs or settings.record.tokens),
    )
    trainer.verifier.require_trustworthy([verdict for group in rollout.groups for verdict in group.verdicts])
    return rollout


def _tokens(groups: Sequence[Group]) -> int:
    return sum(len(completion.token_ids) for group in groups for completion in group.completions)
