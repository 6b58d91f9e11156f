"""A run that an engine or a verifier ends: what it goes on with is what would have been without it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.engines._http import AnswerError
from progrpo.errors import EngineError, VerifierError
from progrpo.files import read_jsonl
from progrpo.rollout.verify import Verifier
from progrpo.train import loop, scoring
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]
NEVER = {"every": 0}


def refused(words: str) -> AnswerError:
    return AnswerError(words, 503)


EVALUATED = {"evaluate": {"every": 2, "n": 2}, "checkpoint": {"every": 2, "keep": 9, "best": "pass@1"}}


@pytest.fixture(scope="module")
def whole(settings_into: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing ends."""
    return run(settings_into(tmp_path_factory.mktemp("whole") / "run") | EVALUATED)


@pytest.mark.parametrize(("error", "at"), [(EngineError, 2), (VerifierError, 4), (refused, 2), (EngineError, 4)])
def test_an_evaluation_that_was_cut_off_is_made_up(
    settings: Make,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[str], Exception],
    at: int,
) -> None:
    data = settings(**EVALUATED)

    def failing(trainer: Any, step: int, clock: Any) -> Any:
        if step == at:
            raise error("it is gone")
        return evaluate(trainer, step, clock)

    evaluate = loop.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", failing)
        with pytest.raises(
            (EngineError, VerifierError), match=f"it is gone; step {at} has its checkpoint: go on with --resume"
        ):
            run(data)
    cut = run(data, resume=True)
    rows, others = (list(read_jsonl(path / "metrics.jsonl")) for path in (whole, cut))
    assert [row["step"] for row in others] == [0, 1, 2, 3, 4]
    for row, other in zip(rows, others, strict=True):
        clock = {key for key in row if key.startswith(("time/", "memory/"))}
        assert {key: other[key] for key in row.keys() - clock} == {key: row[key] for key in row.keys() - clock}
        assert other.keys() >= row.keys() - {"time/gather_s"}
    for name in ("evaluations/step-000002.jsonl", "evaluations/step-000004.jsonl", "checkpoints/best.json"):
        assert (cut / name).read_text() == (whole / name).read_text(), name
    assert {path.name for path in (cut / "checkpoints").iterdir()} == {
        path.name for path in (whole / "checkpoints").iterdir()
    }
    # Once more: it is there.
    assert run(data, resume=True)
    assert list(read_jsonl(cut / "metrics.jsonl")) == others


def test_a_verifier_that_fails_in_a_rollout_leaves_a_checkpoint(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = settings(steps=3, evaluate=NEVER, checkpoint={"every": 100})
    whole = run(data | {"out": str(tmp_path / "whole")})
    calls = 0

    def failing(self: Verifier, verdicts: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise VerifierError("the judge does not answer")
        trustworthy(self, verdicts)

    trustworthy = Verifier.require_trustworthy
    with monkeypatch.context() as patch:
        patch.setattr(Verifier, "require_trustworthy", failing)
        with pytest.raises(VerifierError, match="does not answer; step 2 has its checkpoint: go on with --resume"):
            run(data)
    cut = run(data, resume=True)
    norms = [[row["policy/grad_norm"] for row in read_jsonl(path / "metrics.jsonl")] for path in (whole, cut)]
    assert norms[0] == norms[1]


@pytest.mark.parametrize("every", [2, 100])
def test_a_rollout_that_is_too_far_off_is_sampled_again(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Also by a method that remembers which problems it took, whether or not its checkpoint was written before."""
    data = settings(
        steps=4,
        method={"name": "dapo", "max_rounds": 3},
        old_logprobs="trainer",
        evaluate=NEVER,
        checkpoint={"every": every, "keep": 9},
        off_policy={"stop": True},
    )
    whole = run(data | {"out": str(tmp_path / "whole")})

    def far(batch: Any, off_policy: Any, step: int) -> None:
        if step == 3:
            raise EngineError("the sampler is far from the trainer")
        close(batch, off_policy, step)

    close = scoring.require_close
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "require_close", far)
        with pytest.raises(EngineError, match="step 2 has its checkpoint"):
            run(data)
    cut = run(data, resume=True)
    problems = [
        [json.loads(line)["problem"] for line in (path / "rollouts/step-000003.jsonl").read_text().splitlines()]
        for path in (whole, cut)
    ]
    assert problems[0] == problems[1]


@pytest.mark.parametrize("method", ["ttrv", "copo", "uniqueness", "grpo"])
def test_verdicts_are_there_when_the_trainer_scores(settings: Make, method: str, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"name": method}
    if method == "uniqueness":
        chosen["alpha"] = 1.0
    if method == "grpo":
        chosen["add"] = {"name": "uniqueness", "alpha": 1.0}

    def norms(scores: str) -> list[float]:
        data = settings(steps=2, method=chosen, evaluate=NEVER, old_logprobs=scores, out=str(tmp_path / scores))
        return [row["policy/grad_norm"] for row in read_jsonl(run(data) / "metrics.jsonl")]

    assert norms("trainer") == pytest.approx(norms("engine"), rel=1e-4)


@pytest.mark.parametrize("name", ["policy_batch", "evaluate"])
def test_whatever_else_fails_between_two_steps_keeps_those_that_were_made(
    settings: Make, whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A fault of a file of the user's own, say: what it raised is raised, and the run goes on once it is mended."""
    data = settings(**EVALUATED)
    plain, calls = getattr(loop, name), []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == 3:  # the third rollout's, or after the start's the evaluation after four steps
            raise ZeroDivisionError("mine")
        return plain(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, name, failing)
        with pytest.raises(ZeroDivisionError, match="^mine$"):
            run(data)
    assert "has its checkpoint: go on with --resume" in caplog.text
    cut = run(data, resume=True)
    last = "checkpoints/step-000004/model.safetensors"
    assert (cut / last).read_bytes() == (whole / last).read_bytes()
