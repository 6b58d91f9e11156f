"""The rollout of one step: P problems, G completions of each; sampled again where the method wants other groups."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from progrpo.rollout.generate import Rollout, completion_seeds, run_rollout
from progrpo.train.clock import Clock
from progrpo.train.rollout_record import keeps_tokens
from progrpo.train.setup import Trainer
from progrpo.types import Group, WeightedMean

_TAKEN = "sampling/taken"

Sampled = tuple[Rollout, dict[str, WeightedMean]]


class Rollouts:
    """The rollouts of a run in order; with `rollout.ahead` each is sampled by a thread while the one before is trained."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._ahead = trainer, trainer.settings.rollout.ahead
        self._next: tuple[int, Future[Sampled]] | None = None

    def take(self, done: int, clock: Clock) -> Sampled:
        """The rollout that step `done` + 1 begins with; the one after it is begun meanwhile.

        Raises:
            Whatever sampling it raised.
        """
        if not self._ahead:
            rollout, metrics = sample(self._trainer, done)
            for phase in ("generate", "verify", "verify_hidden", "gather"):
                clock.add(phase, getattr(rollout, f"{phase}_s"))
            return rollout, metrics
        started = time.perf_counter()
        begun, future = self._next or (done, self._begin(done))
        self._next = None
        assert begun == done, f"the rollout at hand is for step {begun + 1}, wanted is {done + 1}"
        rollout, metrics = future.result()
        waited = time.perf_counter() - started
        clock.add("generate", waited)
        clock.add("generate_hidden", max(0.0, rollout.generate_s + rollout.verify_s - waited))
        clock.add("verify_hidden", rollout.verify_hidden_s)
        after = done + self._trainer.settings.batch.steps_per_rollout
        if after < self._trainer.settings.steps:
            self._next = after, self._begin(after)
        return rollout, metrics

    def settle(self, clock: Clock) -> None:
        """Wait until nothing is being sampled: weights may change then. A failure is raised by `take`."""
        if self._next is not None:
            with clock.phase("generate"):
                self._next[1].exception()

    def _begin(self, done: int) -> "Future[Sampled]":
        future: Future[Sampled] = Future()

        def work() -> None:
            try:
                future.set_result(sample(self._trainer, done))
            except BaseException as failure:  # noqa: BLE001 - carried to the thread that takes the rollout
                future.set_exception(failure)

        # A daemon: it must not keep the process alive when the run has ended.
        threading.Thread(target=work, name="progrpo-sampling", daemon=True).start()
        return future


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

    def sampled(count: int) -> None:
        share = range(len(taken))[trainer.parallel.processes.share(len(taken))]
        trainer.listen("sampled", {"done": count, "of": len(share)})

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
        on_sampled=sampled,
        # Recorded tokens come with their prompts', so that other methods can be scored on the same rollouts.
        prompt_logprobs=trainer.engine_scores
        and ("prompt_logprobs" in trainer.method.needs or keeps_tokens(settings, done + 1)),
    )
    trainer.verifier.require_trustworthy([verdict for group in rollout.groups for verdict in group.verdicts])
    return rollout


def _tokens(groups: Sequence[Group]) -> int:
    return sum(len(completion.token_ids) for group in groups for completion in group.completions)
