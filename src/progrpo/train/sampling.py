"""The rollout of one step: P problems, G completions of each, or what the method samples in its own way."""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from progrpo.errors import PluginError
from progrpo.methods import Draw, Taken
from progrpo.methods._sampling import plain_groups
from progrpo.rollout.generate import Rollout, completion_seeds, run_rollout
from progrpo.seeds import derive_seed
from progrpo.train.clock import Clock
from progrpo.train.rollout_record import keeps_tokens
from progrpo.train.sync_probe import SyncProbe
from progrpo.train.trainer import Trainer
from progrpo.types import Completion, Group, TokenTemperatures, Verdict, WeightedMean

_TAKEN = "sampling/taken"

Sampled = tuple[Rollout, dict[str, WeightedMean]]


class Rollouts:
    """The rollouts of a run in order; with `rollout.ahead` each is sampled by a thread while the one before is trained."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._ahead = trainer, trainer.settings.rollout.ahead
        self._next: tuple[int, Future[Sampled]] | None = None
        self._probe = SyncProbe(trainer.engine, trainer.model, trainer.parallel.processes)

    def take(self, done: int, clock: Clock) -> Sampled:
        """The rollout that step `done` + 1 begins with; the one after it is begun meanwhile.

        Raises:
            Whatever sampling it raised.
        """
        self._probe.before_training()
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

    def sync(self, done: int, clock: Clock, *, trained: bool) -> dict[str, WeightedMean]:
        """Bring the weights to the engine when nothing is being sampled any more; whether it took them, see `SyncProbe`.

        Args:
            trained: whether the last step had a gradient. Where it had none, the same weights are no news.
        """
        if self._next is not None:
            with clock.phase("generate"):
                self._next[1].exception()  # waits; a failure is raised by `take`
        with clock.phase("sync"):
            self._trainer.sync(done)
            unchanged = self._probe.after_sync()
        return unchanged if trained else {}

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

    A method that samples in its own way (its hook `sample`; dynamic sampling for one) takes problems as it goes; how many
    were taken is kept in the checkpoint, with what else it remembers.

    Returns:
        The rollout, and how it was sampled: keys as in docs/metrics.md.

    Raises:
        VerifierError: too many verdicts failed.
    """
    settings, method = trainer.settings, trainer.method
    size = settings.batch.prompts
    generator = _Generator(trainer, done)
    if method.samples is None:
        taken = [Taken(*one) for one in trainer.stream.take(done // settings.batch.steps_per_rollout * size, size)]
        groups = plain_groups(taken, generator)
        return generator.rollout(groups), {}
    problems = _Stream(trainer)
    made = method.sample(problems, generator)
    method.state.update({_TAKEN: problems.taken, **made.state})
    return generator.rollout(made.groups), {**made.stats, "tokens/generated": WeightedMean(generator.tokens, 1)}


class _Stream:
    """The problems that come next (see `progrpo.methods.Problems`), on from where the method last stopped."""

    def __init__(self, trainer: Trainer) -> None:
        self.size = trainer.settings.batch.prompts
        self.taken: int = trainer.method.state.get(_TAKEN, 0)
        self._trainer = trainer

    def take(self) -> tuple[Taken, ...]:
        start, self.taken = self.taken, self.taken + self.size
        return tuple(Taken(*one) for one in self._trainer.stream.take(start, self.size))


class _Generator:
    """See `progrpo.methods.Generate`; each call is a rollout of its own, divided among the processes.

    Attributes:
        tokens: sampled so far.
    """

    def __init__(self, trainer: Trainer, done: int) -> None:
        self.group = trainer.settings.batch.group
        self.longest: int = trainer.settings.sampling.max_new_tokens
        self.state: Mapping[str, Any] = trainer.method.state
        self.tokens = 0
        self._trainer, self._done = trainer, done
        self._rollouts: list[Rollout] = []

    def __call__(self, draws: Sequence[Draw], temperatures: TokenTemperatures | None = None) -> tuple[Group, ...]:
        """Raises PluginError: no completion is wanted. VerifierError: too many verdicts failed."""
        trainer, settings = self._trainer, self._trainer.settings
        if not draws:
            return ()
        if wrong := [draw for draw in draws if draw.first < 0 or draw.count < 1]:
            raise PluginError(
                f"method {trainer.method.name!r}: sample: {wrong[0].count} completions from number {wrong[0].first} on are "
                f"wanted of problem {wrong[0].taken.problem.id!r}; expected one at least, from 0 on"
            )

        def sampled(count: int) -> None:
            share = range(len(draws))[trainer.parallel.processes.share(len(draws))]
            trainer.listen("sampled", {"done": count, "of": len(share)})

        rollout = run_rollout(
            [draw.taken.problem for draw in draws],
            model=trainer.model,
            engine=trainer.engine,
            verifier=trainer.verifier,
            sampling=settings.sampling if temperatures is None else settings.sampling.with_temperatures(temperatures),
            seeds=[self._seeds(draw) for draw in draws],
            prefixes=[draw.prefix for draw in draws] if any(draw.prefix is not None for draw in draws) else None,
            limits=[draw.limit for draw in draws] if any(draw.limit is not None for draw in draws) else None,
            processes=trainer.parallel.processes,
            on_sampled=sampled,
            # Recorded tokens come with their prompts', so that other methods can be scored on the same rollouts.
            prompt_logprobs=trainer.engine_scores
            and ("prompt_logprobs" in trainer.method.needs or keeps_tokens(settings, self._done + 1)),
        )
        trainer.verifier.require_trustworthy([verdict for group in rollout.groups for verdict in group.verdicts])
        self._rollouts.append(rollout)
        self.tokens += sum(_sampled_tokens(one) for group in rollout.groups for one in group.completions)
        return rollout.groups

    def judged(self, verdict: Verdict) -> bool:
        return not verdict.failed or self._trainer.settings.verify.failed == "wrong"

    def spelled(self, token: int) -> str | None:
        tokenizer = self._trainer.model.tokenizer
        if token in tokenizer.all_special_ids:
            return None
        text: str = tokenizer.decode([token])
        return text

    def random(self, taken: Taken | None, *parts: int | str) -> random.Random:
        of_problem = () if taken is None else (taken.epoch, taken.problem.id)
        return random.Random(derive_seed(self._trainer.settings.seed, "sample", self._done, *of_problem, *parts))

    def rollout(self, groups: tuple[Group, ...]) -> Rollout:
        """These groups, and the seconds of all calls."""
        return Rollout(
            groups=groups,
            generate_s=sum(rollout.generate_s for rollout in self._rollouts),
            verify_s=sum(rollout.verify_s for rollout in self._rollouts),
            verify_busy_s=sum(rollout.verify_busy_s for rollout in self._rollouts),
            gather_s=sum(rollout.gather_s for rollout in self._rollouts),
        )

    def _seeds(self, draw: Draw) -> tuple[int, ...]:
        seed, (epoch, problem), end = self._trainer.settings.seed, draw.taken, draw.first + draw.count
        return completion_seeds(seed, "train", self._done, epoch, problem=problem, group=end)[draw.first :]


def _sampled_tokens(completion: Completion) -> int:
    return len(completion.token_ids) if completion.trained is None else int(completion.trained.sum())
