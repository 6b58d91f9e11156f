"""Verdicts that cannot hang a run: slow verifiers work in processes that are killed at the time limit."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Literal, Self

from pydantic import Field

from progrpo import rewards
from progrpo.errors import VerifierError
from progrpo.rewards import Reward
from progrpo.rollout.pool import Outcome, WorkerPool, call_here
from progrpo.settings import Choice, Settings
from progrpo.types import Finish, Problem, Sample, Verdict

Item = tuple[str, Problem] | tuple[str, Problem, Finish | None]
"""A completion's text, its problem and, where it is known, how it ended."""
FailedAs = Literal["neutral", "wrong"]
Progress = Callable[[int], None]


class VerifySettings(Settings):
    limit_s: float | None = Field(None, gt=0)
    """Wall-clock seconds for one verdict; then the worker is killed and the verdict is `timeout`. None takes the
    reward's own, 10 for most."""
    workers: int = Field(2, ge=1, le=256)
    """Processes for a slow verifier. A fast one runs in this process and needs none."""
    memory_gib: float = Field(4.0, gt=0)
    """Address space of each worker process, in GiB (Linux); beyond it a verdict is `crashed`."""
    overlap: bool = True
    """Judge the groups of a slow verifier that are done while others are still being generated. Where generation and
    verdicts both want every core, that gains nothing, and false leaves each the machine to itself."""
    max_failed_share: float = Field(0.2, ge=0, le=1)
    """A step with a larger share of `timeout` and `crashed` verdicts stops the run: its rewards are not the model's."""
    failed: FailedAs = "neutral"
    """What `timeout`, `crashed` and `bad_gold` count as in training. "neutral": left out of their group's mean and
    standard deviation, advantage 0. "wrong": the reward of a wrong answer, for models that learn to hang a verifier."""
    check_gold: bool = True
    """Check every problem's own gold answer before training and leave out those that do not verify."""


class Verifier:
    """Judges completions in order, from any thread. Use as a context manager: leaving it ends the workers.

    Raises:
        ProgrpoError: the reward cannot judge on this machine (its `prepare` says why).
    """

    def __init__(self, reward: Choice | Reward, settings: VerifySettings) -> None:
        self._reward = reward if isinstance(reward, Reward) else rewards.load(reward)
        self._settings = settings
        self._pool: WorkerPool | None = None
        self._lock = threading.Lock()
        self.name = reward.name
        self._reward.prepare()

    @property
    def canonical(self) -> bool:
        """Whether correct verdicts carry a canonical form, so that distinct solutions can be counted."""
        return self._reward.canonical

    @property
    def answers(self) -> bool:
        """Whether what is extracted can be counted and voted on."""
        return self._reward.answers

    @property
    def overlaps(self) -> bool:
        """Whether worker processes judge and this one is to go on generating meanwhile."""
        return self._reward.slow and self._settings.overlap

    def judge(
        self, items: Sequence[Item], on_progress: Progress | None = None, stop: threading.Event | None = None
    ) -> list[Verdict]:
        """One verdict per item, in order. A verifier's own failure is `crashed` or `timeout`, with the cause.

        Args:
            on_progress: called with the number of verdicts given so far.
            stop: set by another thread to end the workers' work at once.

        Raises:
            VerifierError: a worker cannot start.
            Stopped: `stop` was set.
        """
        if self._reward.batched:
            return self._together(items, on_progress)
        verdicts: list[Verdict | None] = [self._at_once(item) for item in items]
        left = [index for index, verdict in enumerate(verdicts) if verdict is None]
        known = len(items) - len(left)
        if on_progress and known:
            on_progress(known)
        report = (lambda count: on_progress(known + count)) if on_progress else None
        outcomes = self._run("score", [items[index] for index in left], report, stop)
        for index, outcome in zip(left, outcomes, strict=True):
            verdicts[index] = self._verdict(outcome)
        return [verdict for verdict in verdicts if verdict is not None]

    def length_term(self, verdict: Verdict, tokens: int) -> Verdict:
        """The verdict with the reward's terms that depend on the completion's length in tokens.

        A verdict that the verifier failed to give keeps its reward: nothing is known of the completion.
        """
        return verdict if verdict.failed else self._reward.length_term(verdict, tokens)

    def gold_faults(self, problems: Sequence[Problem], on_progress: Progress | None = None) -> list[str | None]:
        """For each problem what is wrong with its gold answer; None where it verifies (or the reward has no check)."""
        if not self._reward.has("gold_fault"):
            return [None] * len(problems)
        outcomes = self._run("gold_fault", [(problem,) for problem in problems], on_progress)
        return [outcome.detail if outcome.failure else outcome.value for outcome in outcomes]

    def require_trustworthy(self, verdicts: Sequence[Verdict | Sample]) -> None:
        """Raises VerifierError if too many verdicts failed for the rewards to mean anything."""
        failed = [verdict for verdict in verdicts if verdict.status in ("timeout", "crashed")]
        if len(failed) > self._settings.max_failed_share * len(verdicts):
            raise VerifierError(
                f"reward {self.name!r}: {len(failed)} of {len(verdicts)} verdicts were timeout or crashed, more than "
                f"verify.max_failed_share={self._settings.max_failed_share}; the last: {failed[-1].detail}"
            )

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _together(self, items: Sequence[Item], on_progress: Progress | None) -> list[Verdict]:
        """The verdicts of a reward that takes many at once. Where it fails on the whole, each is judged by itself: one
        completion that it cannot read costs no other its verdict."""
        if not items:
            return []
        full = [(item[0], item[1], item[2] if len(item) > 2 else None) for item in items]
        outcome = call_here(self._reward.score_all, (full,))
        if outcome.failure is None:
            each = [replace(outcome, value=verdict, seconds=outcome.seconds / len(full)) for verdict in outcome.value]
        else:
            each = [call_here(self._reward.score, item) for item in full]
        if on_progress:
            on_progress(len(full))
        return [self._verdict(one) for one in each]

    def _at_once(self, item: Item) -> Verdict | None:
        """What needs no worker: a fast reward's verdict, or what a slow one's `fast_verdict` decides."""
        outcome = call_here(self._reward.fast_verdict, item)
        return None if outcome.failure is None and outcome.value is None else self._verdict(outcome)

    def _run(
        self,
        name: str,
        arguments: Sequence[tuple[object, ...]],
        report: Progress | None,
        stop: threading.Event | None = None,
    ) -> list[Outcome]:
        if not arguments:
            return []
        if self._reward.slow:
            return self._workers().run([(name, call) for call in arguments], report, stop)
        outcomes = []
        for call in arguments:
            outcomes.append(call_here(getattr(self._reward, name), call))
            if report:
                report(len(outcomes))
        return outcomes

    def _workers(self) -> WorkerPool:
        with self._lock:
            if self._pool is None:
                self._pool = WorkerPool(
                    partial(rewards.load, self._reward.choice),
                    limit_s=self._settings.limit_s or self._reward.limit_s,
                    workers=self._settings.workers,
                    memory_bytes=int(self._settings.memory_gib * 2**30),
                )
            return self._pool

    def _verdict(self, outcome: Outcome) -> Verdict:
        if outcome.failure is None:
            verdict: Verdict = outcome.value
            extracted = None if verdict.extracted is None else _writable(verdict.extracted)
            return replace(verdict, extracted=extracted, detail=_writable(verdict.detail), seconds=outcome.seconds)
        wrong = self._reward.wrong_reward
        return Verdict(status=outcome.failure, reward=wrong, detail=outcome.detail, seconds=outcome.seconds)


def _writable(text: str) -> str:
    """The text without lone surrogates, which no file can hold: a row that cannot be written would lose all others."""
    return text.encode("utf-8", "replace").decode("utf-8")
