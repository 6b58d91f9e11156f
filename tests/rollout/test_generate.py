"""Rollouts whose groups are verified while others are still being generated, with engines and verifiers made up."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from progrpo.engines import Capabilities, Done, Engine, Generated, Request, Sampling
from progrpo.errors import VerifierError
from progrpo.model.chat import DEFAULT_CHAT
from progrpo.rollout.generate import Rollout, completion_seeds, run_rollout
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Completion, Problem, Verdict

MODEL: Any = SimpleNamespace(encode_prompt=lambda prompt: torch.tensor([1, 2]), chat=DEFAULT_CHAT)
PROBLEMS = [Problem(id=str(p), prompt=f"p{p}") for p in range(4)]
SEEDS = [(10 * p, 10 * p + 1) for p in range(4)]
REWARD = '''
"""A reward that does what the text says."""
import os, pathlib, time
from progrpo.types import Verdict
SLOW = {slow}
def score(text, problem, params):
    if text.startswith("hang"):
        pathlib.Path(text.split(":")[1]).write_text(str(os.getpid()))
        time.sleep(60)
    return Verdict(status="correct", reward=1.0, extracted=problem.id, detail=text)
'''


class Scripted(Engine):
    """Gives completion `p.g` to seed g of problem p (or what `texts` say); announces `order`, then calls `between`."""

    capabilities = Capabilities(samples_trained_weights=False)

    def __init__(
        self,
        order: Sequence[int] = (),
        between: Callable[[int], None] = lambda index: None,
        texts: dict[int, str] | None = None,
    ) -> None:
        self._order, self._between, self._texts = order, between, texts or {}

    def update_weights(self, tensors: object, version: int) -> None:
        self.version = version

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        prompt_logprobs: bool = False,
        on_done: Done | None = None,
    ) -> list[Generated]:
        made = [
            Generated(
                prompt_logprobs=None,
                completions=tuple(
                    Completion(
                        seed=seed,
                        text=self._texts.get(p, f"{p}.{g}"),
                        finish="length" if g else "stop",
                        token_ids=torch.tensor([1]),
                        sampler_logprobs=torch.zeros(1),
                        entropies=torch.zeros(1),
                    )
                    for g, seed in enumerate(request.seeds)
                ),
            )
            for p, request in enumerate(requests)
        ]
        for index in self._order:
            assert on_done is not None
            on_done(index, made[index])
            self._between(index)
        return made


class Asked:
    """A verifier that notes what it is asked, and takes `seconds` each time."""

    def __init__(self, *, overlaps: bool, seconds: float = 0.0, fails: bool = False) -> None:
        self.overlaps, self.seconds, self.fails = overlaps, seconds, fails
        self.asked: list[list[str]] = []
        self.threads: set[str] = set()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def judge(self, items: Any, on_progress: Any = None, stop: Any = None) -> list[Verdict]:
        self.asked.append([text for text, *_ in items])
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        self.may_go_on.wait(60)
        if self.fails:
            raise VerifierError("broken")
        return [Verdict(status="correct", reward=1.0, detail=text) for text, *_ in items]

    def length_term(self, verdict: Verdict, tokens: int) -> Verdict:
        return verdict


def rollout(engine: Engine, verifier: Any, on_progress: Callable[[int], None] | None = None) -> Rollout:
    return run_rollout(
        PROBLEMS,
        model=MODEL,
        engine=engine,
        verifier=verifier,
        sampling=Sampling(max_new_tokens=1),
        seeds=SEEDS,
        on_progress=on_progress,
    )


def judging_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "progrpo-judging"]


@pytest.mark.parametrize("order", [(), (2,), (3, 1, 0, 2)], ids=["nothing announced", "a part", "all, out of order"])
@pytest.mark.parametrize("slow", [True, False])
def test_verdicts_belong_to_their_completions(order: tuple[int, ...], slow: bool, make_module: Any) -> None:
    seen: list[int] = []
    with Verifier(Choice(name=make_module(REWARD.format(slow=slow))), VerifySettings(workers=2)) as verifier:
        made = rollout(Scripted(order), verifier, seen.append)
    found = [[(v.extracted, v.detail) for v in group.verdicts] for group in made.groups]
    assert found == [[(str(p), f"{p}.{g}") for g in range(2)] for p in range(4)]
    assert seen == (list(range(1, 9)) if slow else [8])


@pytest.mark.parametrize("slow", [True, False])
def test_the_reward_learns_how_each_completion_ended(slow: bool, make_module: Any) -> None:
    # The second of each pair is cut.
    code = f"SLOW = {slow}\n\n\ndef score(text, problem, params, *, finish=None):\n    return finish == 'length'\n"
    with Verifier(Choice(name=make_module(code)), VerifySettings(workers=1)) as verifier:
        made = rollout(Scripted([1]), verifier)
    assert [[verdict.correct for verdict in group.verdicts] for group in made.groups] == [[False, True]] * 4


def test_workers_judge_while_others_are_generated(make_module: Any) -> None:
    seen: list[int] = []

    def wait_for_the_verdicts(index: int) -> None:
        deadline = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert seen[:2] == [1, 2], "nothing was judged before generation was over"

    with Verifier(Choice(name=make_module(REWARD.format(slow=True))), VerifySettings(workers=1)) as verifier:
        made = rollout(Scripted([1], wait_for_the_verdicts), verifier, seen.append)
    assert seen == list(range(1, 9))
    assert made.verify_hidden_s > 0
    assert not judging_threads()


def test_overlap_can_be_switched_off(make_module: Any) -> None:
    seen: list[int] = []
    settings = VerifySettings(workers=1, overlap=False)
    with Verifier(Choice(name=make_module(REWARD.format(slow=True))), settings) as verifier:
        made = rollout(Scripted([0, 1, 2, 3], lambda index: time.sleep(0.1)), verifier, seen.append)
        assert made.verify_hidden_s == 0.0
    assert seen == list(range(1, 9))


def test_a_verifier_in_this_process_waits_until_generation_is_over() -> None:
    verifier = Asked(overlaps=False)
    rollout(Scripted([3, 1], between=lambda index: time.sleep(0.01)), verifier)
    assert verifier.asked == [[f"{p}.{g}" for p in range(4) for g in range(2)]]
    assert verifier.threads == {threading.current_thread().name}


def test_what_comes_in_meanwhile_is_one_batch() -> None:
    verifier = Asked(overlaps=True)
    verifier.may_go_on.clear()

    def between(index: int) -> None:
        deadline = time.monotonic() + 60
        while not verifier.asked and time.monotonic() < deadline:
            time.sleep(0.005)  # the verifier is at work on problem 0 when the others come in
        if index == 3:
            verifier.may_go_on.set()

    rollout(Scripted([0, 2, 1, 3], between), verifier)
    assert verifier.asked == [["0.0", "0.1"], ["2.0", "2.1", "1.0", "1.1", "3.0", "3.1"]]
    assert verifier.threads == {"progrpo-judging"}


def test_seconds_that_generation_hid() -> None:
    # 0.3 s of judging begin with generation, which takes 0.6 s; another 0.3 s are left when it is over.
    made = rollout(Scripted([0], lambda index: time.sleep(0.6)), Asked(overlaps=True, seconds=0.3))
    assert made.generate_s >= 0.6
    assert made.verify_s >= 0.3
    assert 0.6 <= made.verify_busy_s < made.generate_s + made.verify_s
    assert made.verify_hidden_s == pytest.approx(made.verify_busy_s - made.verify_s)
    assert made.verify_hidden_s >= 0.1


def test_hidden_seconds_are_what_nobody_waited_for() -> None:
    # at work for 4 s, of which the step waited for 1
    assert Rollout(groups=(), generate_s=5.0, verify_s=1.0, verify_busy_s=4.0).verify_hidden_s == 3.0
    # a verifier in this process: waited for all of it, and a little more
    assert Rollout(groups=(), generate_s=5.0, verify_s=1.01, verify_busy_s=1.0).verify_hidden_s == 0.0


def test_a_verifier_that_fails_ends_the_generation() -> None:
    begun: list[int] = []

    def note(index: int) -> None:
        begun.append(index)
        time.sleep(0.2)

    with pytest.raises(VerifierError, match="broken"):
        rollout(Scripted([0, 1, 2, 3], note), Asked(overlaps=True, fails=True))
    assert begun == [0]
    assert not judging_threads()


@pytest.mark.parametrize("order", [(), (3,)])
@pytest.mark.parametrize("overlaps", [True, False])
def test_a_verifier_that_fails_last_is_heard_too(order: tuple[int, ...], overlaps: bool) -> None:
    with pytest.raises(VerifierError, match="broken"):
        rollout(Scripted(order), Asked(overlaps=overlaps, fails=True))
    assert not judging_threads()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_generation_leaves_no_verdict_behind(
    interruption: type[BaseException], make_module: Any, tmp_path: Path
) -> None:
    hanging = tmp_path / "pid"

    def interrupt(index: int) -> None:
        deadline = time.monotonic() + 60
        while not (hanging.exists() and hanging.read_text()) and time.monotonic() < deadline:
            time.sleep(0.005)
        raise interruption

    settings = VerifySettings(workers=1, limit_s=50)
    with Verifier(Choice(name=make_module(REWARD.format(slow=True))), settings) as verifier:
        with pytest.raises(interruption):
            rollout(Scripted([0, 1], interrupt, texts={0: f"hang:{hanging}"}), verifier)
        assert not judging_threads()
        assert not psutil.pid_exists(int(hanging.read_text()))
        # ... and none for the next rollout to take for its own
        started = time.monotonic()
        made = rollout(Scripted([0]), verifier)
        assert [group.verdicts[0].detail for group in made.groups] == [f"{p}.0" for p in range(4)]
        assert time.monotonic() - started < 30  # nobody waited for the hanging verdict
    assert str(os.getpid()) != hanging.read_text()


def test_completions_know_the_version_of_the_weights_they_were_sampled_from() -> None:
    engine = Scripted()
    versions = []
    for version in (0, 3):
        engine.update_weights((), version)
        groups = rollout(engine, Asked(overlaps=False)).groups
        versions.append({completion.policy_version for group in groups for completion in group.completions})
    assert versions == [{0}, {3}]


def test_seeds_are_of_the_problem_and_of_nothing_that_stands_beside_it() -> None:
    one, other = (Problem(id=name, prompt="") for name in "ab")
    seeds = completion_seeds(0, "step", 1, problem=one, group=3)
    assert len({*seeds, *completion_seeds(0, "step", 1, problem=other, group=3)}) == 6
    assert completion_seeds(0, "step", 1, problem=one, group=2) == seeds[:2]
    assert not {*seeds} & {*completion_seeds(0, "step", 2, problem=one, group=3)}
