"""Dynamic sampling: which groups make a batch, how often the engine is asked, and where the stream stands afterwards."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from progrpo import methods
from progrpo.errors import VerifierError
from progrpo.files import read_jsonl
from progrpo.methods import Method
from progrpo.methods._sampling import mixed
from progrpo.rollout.generate import Rollout
from progrpo.settings import Choice, parse
from progrpo.train import checkpoint, sampling
from progrpo.train.loop import train
from progrpo.train.sampling import sample
from progrpo.train.settings import RunSettings
from progrpo.train.stream import ProblemStream
from progrpo.types import Completion, Group, Problem, Status, Verdict, WeightedMean
from stand_ins.sampling import ScriptedGenerate

Make = Callable[..., dict[str, Any]]
KINDS: dict[str, tuple[Status, ...]] = {
    "m": ("correct", "wrong"),
    "r": ("correct", "correct"),
    "w": ("wrong", "no_answer"),
    "t": ("correct", "timeout"),
}
"""Groups of two: mixed, right, wrong, and one that is mixed only if a failed verdict counted as wrong."""


def group_of(problem: Problem, statuses: Sequence[Status], seeds: Sequence[int] = (0, 0)) -> Group:
    """A group whose completions have as many tokens as the problem's number, plus one."""
    length = int(problem.id) + 1
    return Group(
        problem=problem,
        prompt_ids=torch.zeros(1, dtype=torch.long),
        prompt_logprobs=None,
        completions=tuple(
            Completion(
                seed=seed,
                text="",
                finish="stop",
                token_ids=torch.zeros(length, dtype=torch.long),
                sampler_logprobs=torch.zeros(length),
                entropies=torch.zeros(length),
            )
            for seed in seeds
        ),
        verdicts=tuple(Verdict(status=status, reward=float(status == "correct")) for status in statuses),
    )


class Scripted:
    """A trainer without a model: problem n of the stream is of the kind `kinds[n]`.

    Attributes:
        asked: the problems of each rollout that was made. checked: the verdicts that were shown to the verifier.
    """

    def __init__(self, kinds: str, *, prompts: int, method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[str]] = []
        self.checked: list[int] = []
        problems = [Problem(id=str(n), prompt="") for n in range(len(kinds))]

        def run_rollout(chosen: Sequence[Problem], *, seeds: Sequence[tuple[int, ...]], **_: Any) -> Rollout:
            self.asked.append([problem.id for problem in chosen])
            groups = tuple(
                group_of(problem, KINDS[kinds[int(problem.id)]], own)
                for problem, own in zip(chosen, seeds, strict=True)
            )
            return Rollout(groups=groups, generate_s=1.0, verify_s=0.25, verify_busy_s=0.5)

        monkeypatch.setattr(sampling, "run_rollout", run_rollout)
        self.verifier = SimpleNamespace(require_trustworthy=lambda verdicts: self.checked.append(len(verdicts)))
        self.stream = ProblemStream(problems, seed=0, shuffle=False, per_rollout=prompts)
        self.method = method
        self.model = self.engine = None
        self.engine_scores = False
        self.parallel = SimpleNamespace(processes=None)
        self.settings = SimpleNamespace(
            batch=SimpleNamespace(prompts=prompts, group=2, steps_per_rollout=1),
            seed=0,
            sampling=SimpleNamespace(max_new_tokens=10),
            record=SimpleNamespace(tokens=False),
            verify=SimpleNamespace(failed="neutral"),
        )


def dapo(rounds: int) -> Method:
    return methods.load(Choice(name="dapo", max_rounds=rounds))


def chosen(rollout: Rollout) -> str:
    return "".join(group.problem.id for group in rollout.groups)


def test_mixed_groups_are_kept_in_order_until_the_batch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    # the first three problems have one mixed group (1), the next three two (3 and 5); the batch is full, 6 to 8 stay
    trainer = Scripted("rmwmrmmmm", prompts=3, method=dapo(10), monkeypatch=monkeypatch)
    rollout, stats = sample(trainer, 0)
    assert trainer.asked == [["0", "1", "2"], ["3", "4", "5"]]
    assert chosen(rollout) == "135"
    assert stats["rollout/rounds"] == WeightedMean(2, 1)
    assert stats["rollout/mixed_groups"] == WeightedMean(3, 6)
    # 2 completions of 1, 2, ..., 6 tokens
    assert stats["tokens/generated"] == WeightedMean(42, 1)
    assert (rollout.generate_s, rollout.verify_s, rollout.verify_busy_s) == (2.0, 0.5, 1.0)


def test_a_surplus_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Scripted("rmmmmm", prompts=3, method=dapo(10), monkeypatch=monkeypatch)
    rollout, stats = sample(trainer, 0)
    assert chosen(rollout) == "123"
    assert stats["rollout/mixed_groups"] == WeightedMean(5, 6)


def test_the_rounds_are_bounded_and_what_is_missing_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Scripted("rrwwmwmmm", prompts=3, method=dapo(2), monkeypatch=monkeypatch)
    rollout, stats = sample(trainer, 0)
    assert trainer.asked == [["0", "1", "2"], ["3", "4", "5"]]
    assert chosen(rollout) == "401"  # the mixed one first, then the others as they came
    assert stats["rollout/rounds"] == WeightedMean(2, 1)
    assert stats["rollout/mixed_groups"] == WeightedMean(1, 6)


def test_one_round_is_enough_where_all_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Scripted("mmmmmm", prompts=3, method=dapo(10), monkeypatch=monkeypatch)
    rollout, stats = sample(trainer, 0)
    assert chosen(rollout) == "012"
    assert stats["rollout/rounds"] == WeightedMean(1, 1)


def test_the_next_batch_goes_on_where_the_last_one_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    method = dapo(10)
    trainer = Scripted("rmwmrmmmm", prompts=3, method=method, monkeypatch=monkeypatch)
    sample(trainer, 0)
    assert method.state == {"sampling/taken": 6}
    assert chosen(sample(trainer, 1)[0]) == "678"
    assert method.state == {"sampling/taken": 9}
    # a new process that has the state goes on there, one without begins anew
    again = dapo(10)
    again.state.update(method.state)
    resumed = Scripted("rmwmrmmmm", prompts=3, method=again, monkeypatch=monkeypatch)
    sample(resumed, 2)
    assert resumed.asked[0] == ["0", "1", "2"]  # nine were taken: the second epoch
    assert again.state == {"sampling/taken": 15}


def test_no_completion_is_sampled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # six rounds over three problems: the same problem comes back in another epoch, with other seeds
    trainer = Scripted("wrw", prompts=3, method=dapo(6), monkeypatch=monkeypatch)
    made: list[int] = []
    scripted = sampling.run_rollout

    def note(chosen: Sequence[Problem], *, seeds: Sequence[tuple[int, ...]], **kwargs: Any) -> Rollout:
        made.extend(seed for own in seeds for seed in own)
        return scripted(chosen, seeds=seeds, **kwargs)

    monkeypatch.setattr(sampling, "run_rollout", note)
    sample(trainer, 0)
    sample(trainer, 1)
    assert len(made) == 2 * 6 * 3 * 2
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("method", [dapo(1), methods.load(Choice(name="grpo"))])
def test_without_further_rounds_the_position_is_that_of_the_steps(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Scripted("rmwmrmmmm", prompts=3, method=method, monkeypatch=monkeypatch)
    rollout, stats = sample(trainer, 1)
    assert chosen(rollout) == "345"
    assert stats == {}
    assert method.state == {}
    trainer.settings.batch.steps_per_rollout = 2
    assert chosen(sample(trainer, 4)[0]) == "678"  # the third rollout


def test_a_failed_verdict_makes_no_group_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(id="0", prompt="")
    generate = ScriptedGenerate(lambda *_: ([0], [0.0], "wrong"), group=2)
    kinds = {kind: mixed(generate)(group_of(problem, statuses)) for kind, statuses in KINDS.items()}
    assert kinds == {"m": True, "r": False, "w": False, "t": False}
    assert not mixed(generate)(group_of(problem, ("crashed", "bad_gold")))
    generate.failed = "wrong"  # then it is what training takes it for
    assert mixed(generate)(group_of(problem, KINDS["t"]))
    trainer = Scripted("tmttmm", prompts=3, method=dapo(2), monkeypatch=monkeypatch)
    assert chosen(sample(trainer, 0)[0]) == "145"


def test_the_verifier_is_watched_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Scripted("rrrrrrrrr", prompts=3, method=dapo(3), monkeypatch=monkeypatch)
    sample(trainer, 0)
    assert trainer.checked == [6, 6, 6]

    def refuse(verdicts: list[Verdict]) -> None:
        raise VerifierError("too many failed")

    trainer.verifier.require_trustworthy = refuse
    with pytest.raises(VerifierError, match="too many failed"):
        sample(trainer, 1)


class Stop(Exception):  # noqa: N818 - a signal of this test
    pass


def metrics(path: Path) -> list[dict[str, Any]]:
    """Rows without the clock and the memory of the machine."""
    return [
        {key: value for key, value in row.items() if not key.startswith(("time/", "memory/"))}
        for row in read_jsonl(path / "metrics.jsonl")
    ]


@pytest.mark.parametrize("minibatch", [None, 2])
def test_a_resumed_run_goes_on_with_the_same_problems_to_the_last_bit(
    settings: Make, tmp_path: Path, minibatch: int | None
) -> None:
    # Groups of two are mixed half of the time, so the four of a batch need a second round.
    per_rollout = 2 if minibatch else 1
    batch = {"prompts": 4, "group": 2, "micro_tokens": 128, "minibatch_prompts": minibatch}
    common = {"steps": 2 * per_rollout, "method": {"name": "dapo", "max_rounds": 2}, "batch": batch}
    common |= {"evaluate": {"every": 0}, "checkpoint": {"every": per_rollout}}

    def run(name: str, **kwargs: Any) -> Path:
        return train(parse(RunSettings, settings(out=str(tmp_path / name), **common), where="test"), **kwargs).path

    phases: list[str] = []

    def stop(event: str, row: Any) -> None:
        if event == "phase":
            phases.append(row["name"])
        if phases.count("generate") == 2:  # the first rollout is learnt from and kept, the second not begun
            raise Stop

    whole = run("whole")
    with pytest.raises(Stop):
        run("part", listen=stop)
    assert len(list((tmp_path / "part" / "rollouts").iterdir())) == 1
    resumed = run("part", resume=True)
    assert metrics(resumed) == metrics(whole)
    assert metrics(whole)[0]["rollout/rounds"] == 2
    for name in sorted(path.name for path in (whole / "rollouts").iterdir()):
        assert (resumed / "rollouts" / name).read_text() == (whole / "rollouts" / name).read_text()
    step = f"checkpoints/step-{2 * per_rollout:06d}"
    one, other = (load_file(path / step / "model.safetensors") for path in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    # what the rollouts took is what the checkpoint says: four problems a round
    rows = [row for row in metrics(whole) if "tokens/generated" in row]
    latest = checkpoint.load(checkpoint.latest_folder(resumed / "checkpoints"))
    assert latest is not None
    assert latest.state["method"] == {"sampling/taken": 4 * sum(row["rollout/rounds"] for row in rows)}


def test_a_run_writes_the_mixed_groups_first_and_counts_what_it_sampled(settings: Make) -> None:
    batch = {"prompts": 4, "group": 2, "micro_tokens": 128}
    data = settings(steps=1, method={"name": "dapo", "max_rounds": 2}, batch=batch, evaluate={"every": 0})
    path = train(parse(RunSettings, data, where="test")).path
    rows = read_jsonl(path / "rollouts" / "step-000001.jsonl")
    mixed = [rows[n]["correct"] != rows[n + 1]["correct"] for n in range(0, 8, 2)]
    assert mixed == sorted(mixed, reverse=True)
    (row,) = metrics(path)
    assert row["rollout/mixed_groups"] * 4 * row["rollout/rounds"] >= sum(mixed)
    assert row["tokens/generated"] > sum(one["length"] for one in rows)
