"""Whole runs of a few steps on a tiny model."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from progrpo import plugins, schema, tasks
from progrpo.api.score import score
from progrpo.engines.hf import HfEngine
from progrpo.errors import ConfigError, DataError, ModelError, RunDirectoryError, VerifierError
from progrpo.files import read_jsonl
from progrpo.model import LanguageModel
from progrpo.rollout.bundle import bundle_paths, sound_bundle
from progrpo.rollout.recorded import has_tokens
from progrpo.settings import Choice, parse
from progrpo.train.memory import PeakMemory
from progrpo.train.settings import RunSettings
from stand_ins.noting_engine import ENGINE
from stand_ins.runs import run, token_rows

Make = Callable[..., dict[str, Any]]
MakeModule = Callable[[str], str]
PARITY = "stand_ins.parity"


def metrics(path: Path) -> list[dict[str, Any]]:
    """Rows without the clock and the memory of the machine."""
    return [
        {key: value for key, value in row.items() if not key.startswith(("time/", "memory/"))}
        for row in read_jsonl(path / "metrics.jsonl")
    ]


def weights(path: Path, step: int = 4) -> dict[str, torch.Tensor]:
    return load_file(path / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def same_weights(one: Path, other: Path, step: int = 4) -> bool:
    a, b = weights(one, step), weights(other, step)
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_a_run_directory(plain_run: Path) -> None:
    path = plain_run
    rows = metrics(path)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["step"] for row in rows if "evaluate/pass@1" in row] == [0, 2, 4]
    assert len(read_jsonl(path / "rollouts" / "step-000001.jsonl")) == 16
    assert len(read_jsonl(path / "evaluations" / "step-000004.jsonl")) == 4
    assert sorted(p.name for p in (path / "checkpoints").iterdir()) == ["step-000002", "step-000004"]
    assert (path / "config.yaml").is_file()
    assert "torch" in (path / "environment.json").read_text()
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert config["method"]["alpha"] == 0.3  # defaults are written out
    assert config["reward"] == {"name": "stand_ins.parity", "correct_reward": 1.0, "wrong_reward": 0.0}
    assert torch.isfinite(torch.cat([w.flatten() for w in weights(path).values()])).all()


def test_every_logged_key_is_in_the_schema_and_every_key_of_the_schema_is_logged(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HfEngine, "checks_weights", False)  # sampler/unchanged
    measured = [
        one for name in ("pass_at_k", "distinct_solutions", "tokens") for one in plugins.load("measures", name).COLUMNS
    ]
    known = {one.key for one in schema.METRICS} | {f"evaluate/{one.key}" for one in measured}
    reward = {"name": "length", "over": {"name": PARITY}, "limit_tokens": 10, "buffer_tokens": 5}
    method = {"name": "progrpo", "dual_clip": 3.0, "truncated": "drop"}
    made = settings(reward=reward, method=method, off_policy={"level": "token"}, old_logprobs="trainer")
    made["task"] = {"name": "mixture", "parts": [made["task"]]}
    logged = {
        re.sub(r"^reward/.*", "reward/NAME", re.sub(r"pass@(?!1$)\d+", "pass@K", key.replace("/countdown/", "/NAME/")))
        for row in read_jsonl(run(made) / "metrics.jsonl")
        for key in row
    }
    unknown = {"memory/peak_gib"} if PeakMemory(torch.device("cpu")).gib() is None else set()
    assert logged | unknown == known


def test_a_penalty_on_length_is_in_the_reward_and_by_itself(settings: Make) -> None:
    path = run(settings(reward={"name": "length", "over": {"name": PARITY}, "limit_tokens": 10, "buffer_tokens": 5}))
    for row in read_jsonl(path / "rollouts" / "step-000001.jsonl"):
        term = -max(0, row["length"] - 5) / 5  # 0 up to 5 tokens, -1 at 10
        assert row["reward_parts"] == {PARITY: float(row["correct"]), "length": pytest.approx(term)}
        assert row["reward"] == pytest.approx(float(row["correct"]) + term)
    first = metrics(path)[1]
    assert first["rollout/reward"] == pytest.approx(first[f"reward/{PARITY}"] + first["reward/length"])


PICKY = '''
"""Half of the golds are bad, and a second run of the check would find all of them bad."""
from stand_ins.parity import Params, score
seen = []
def gold_fault(problem, params):
    seen.append(problem.id)
    return "odd" if len(problem.prompt) % 2 or len(seen) > len(set(seen)) else None
'''


def test_problems_with_a_bad_gold_are_left_out_and_named(
    settings: Make, make_module: MakeModule, caplog: pytest.LogCaptureFixture
) -> None:
    name = make_module(PICKY)
    data = settings(reward={"name": name}, evaluate={"every": 0})
    path = run(data | {"steps": 2})
    rows = read_jsonl(path / "excluded.jsonl")
    assert 0 < len(rows) < 24
    assert {row["reason"] for row in rows} == {"odd"}
    assert f"problem {rows[0]['problem']}: odd" in caplog.text
    used = {row["problem"] for file in (path / "rollouts").iterdir() for row in read_jsonl(file)}
    assert used
    assert not used & {row["problem"] for row in rows}
    # a resumed run leaves out the same rows, whatever a new check would say
    run(data, resume=True)
    assert read_jsonl(path / "excluded.jsonl") == rows


def test_a_task_whose_golds_are_all_bad_is_refused(settings: Make, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"p{n}", "answer": "x"}) + "\n" for n in range(8)))
    data = settings(task={"name": "file", "train": str(file), "chat": False}, reward={"name": "expression"})
    with pytest.raises(
        DataError, match=r"gold answers of all 8 train problems.*problems.jsonl, line 1: the answer must"
    ):
        run(data | {"evaluate": {"every": 0}})
    assert not Path(data["out"]).exists()


def test_alpha_zero_is_grpo_to_the_last_bit(settings: Make, tmp_path: Path, plain_run: Path) -> None:
    shared = {"clip_high": 0.28, "aggregate": "group_token"}
    grpo = run(settings(method={"name": "grpo", **shared}, out=str(tmp_path / "grpo")))
    zero = run(settings(method={"name": "progrpo", "alpha": 0}, out=str(tmp_path / "zero")))
    assert same_weights(grpo, zero)
    assert not same_weights(grpo, plain_run)  # alpha 0.3


def test_the_same_settings_give_the_same_run(settings: Make, tmp_path: Path, plain_run: Path) -> None:
    again = run(settings())
    assert metrics(again) == metrics(plain_run)
    assert same_weights(again, plain_run)
    other = run(settings(out=str(tmp_path / "other"), seed=1, steps=1, evaluate={"every": 0}))
    assert metrics(other)[0]["rollout/entropy"] != metrics(plain_run)[1]["rollout/entropy"]


class Stop(Exception):  # noqa: N818 - a signal of this test
    pass


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3, 4])
def test_a_resumed_run_is_the_same_run_to_the_last_bit(
    settings: Make, tmp_path: Path, plain_run: Path, stop_at: int
) -> None:
    whole, part = plain_run, settings(out=str(tmp_path / "part"))

    def stop(event: str, row: Any) -> None:
        if event == "step" and row["step"] == stop_at:
            raise Stop

    with pytest.raises(Stop):
        run(part, listen=stop)
    assert (tmp_path / "part").exists() == (stop_at > 0)  # an error before the first step leaves nothing
    if stop_at:
        with (tmp_path / "part" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 9, "half a li')  # a kill in the middle of a write
    resumed = run(part, resume=True)
    assert metrics(resumed) == metrics(whole)
    assert same_weights(resumed, whole)
    for folder in ("rollouts", "evaluations"):
        names = sorted(p.name for p in (whole / folder).iterdir())
        assert sorted(p.name for p in (resumed / folder).iterdir()) == names
        for name in names:
            assert (resumed / folder / name).read_text() == (whole / folder / name).read_text()


def test_resuming_a_finished_run_changes_nothing(settings: Make, own_run: Path) -> None:
    before = (own_run / "metrics.jsonl").read_text()
    run(settings(), resume=True)
    assert (own_run / "metrics.jsonl").read_text() == before


@pytest.mark.usefixtures("own_run")
def test_resuming_is_recorded(settings: Make) -> None:
    environment = json.loads((run(settings(), resume=True) / "environment.json").read_text())
    assert [resumed["seed"] for resumed in environment["resumed"]] == [0]


def test_a_run_without_the_evaluation_before_training_is_else_the_same(settings: Make, plain_run: Path) -> None:
    path = run(settings(evaluate=settings()["evaluate"] | {"at_start": False}))
    assert metrics(path) == metrics(plain_run)[1:]
    assert sorted(file.stem for file in (path / "evaluations").iterdir()) == ["step-000002", "step-000004"]
    assert same_weights(path, plain_run)


def test_presets_are_written_out(settings: Make) -> None:
    data = settings(method={"name": "progrpo", "preset": "equilibrium"}, steps=1, evaluate={"every": 0})
    chosen = yaml.safe_load((run(data) / "config.yaml").read_text())
    assert chosen["method"]["preset"] == "equilibrium"
    assert chosen["method"]["baseline"] == "group_mean"
    assert chosen["method"]["alpha"] > 0.3


def test_resume_with_nothing_there_starts(settings: Make) -> None:
    assert metrics(run(settings(steps=1, evaluate={"every": 0}), resume=True))[-1]["step"] == 1


@pytest.mark.usefixtures("own_run")
def test_resume_can_go_further(settings: Make, tmp_path: Path) -> None:
    longer = run(settings(steps=6), resume=True)
    assert [row["step"] for row in metrics(longer)] == [0, 1, 2, 3, 4, 5, 6]
    assert same_weights(longer, run(settings(steps=6, out=str(tmp_path / "six"))), step=6)


@pytest.mark.usefixtures("own_run")
def test_resume_with_other_settings_is_refused(settings: Make) -> None:
    with pytest.raises(ConfigError, match=r"cannot resume with other settings: method\.name: progrpo -> grpo"):
        run(settings(method={"name": "grpo"}), resume=True)
    with pytest.raises(ConfigError, match=r"method\.alpha: 0\.3 -> 0\.5; optim\.lr: 0\.001 -> 0\.002\."):
        run(settings(method={"name": "progrpo", "alpha": 0.5}, optim={"lr": 2e-3}), resume=True)


def test_a_run_of_an_older_version_is_resumed(settings: Make, own_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = yaml.safe_load((own_run / "config.yaml").read_text())
    del config["parallel"], config["method"]["dual_clip"], config["optim"]["grad_clip"]
    config["sampling"]["left_behind"] = 3
    (own_run / "config.yaml").write_text(yaml.safe_dump(config))
    assert [row["step"] for row in metrics(run(settings(steps=6), resume=True))] == [0, 1, 2, 3, 4, 5, 6]
    assert "did not exist when the run began: method.dual_clip=null, optim.grad_clip=1.0" in caplog.text
    assert "no longer exist: sampling.left_behind=3" in caplog.text


def test_a_run_directory_in_use_is_left_alone(settings: Make, own_run: Path) -> None:
    before = (own_run / "metrics.jsonl").read_text()
    with pytest.raises(RunDirectoryError, match="already holds a run; go on with it by --resume, or choose another"):
        run(settings())
    assert (own_run / "metrics.jsonl").read_text() == before


def test_foreign_files_are_left_alone(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="exists and is not empty"):
        run(settings())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(settings: Make, own_run: Path, plain_run: Path) -> None:
    (own_run / "checkpoints" / "step-000004" / "model.safetensors").write_bytes(b"junk")
    again = run(settings(), resume=True)
    assert metrics(again)[-1]["step"] == 4
    assert same_weights(again, plain_run)


def test_the_trainer_s_own_pass_gives_the_same_run_as_the_engine_s_logprobs(settings: Make, plain_run: Path) -> None:
    a, b = metrics(plain_run), metrics(run(settings(old_logprobs="trainer", steps=2)))
    for key in (
        "rollout/reward",
        "rollout/confidence",
        "progrpo/prompt_confidence",
        "progrpo/shift",
        "policy/grad_norm",
    ):
        assert a[1][key] == pytest.approx(b[1][key], rel=1e-3, abs=1e-6)


def test_several_steps_per_rollout(settings: Make) -> None:
    batch = {"prompts": 4, "group": 4, "minibatch_prompts": 1, "micro_tokens": 128}
    path = run(settings(steps=8, batch=batch, evaluate={"every": 4, "n": 4}, checkpoint={"every": 4}))
    rows = metrics(path)
    assert [row["step"] for row in rows if "tokens/generated" in row] == [1, 5]
    # every step says what rollout it learns from
    assert [row["rollout/entropy"] for row in rows[1:]] == [rows[1]["rollout/entropy"]] * 4 + [
        rows[5]["rollout/entropy"]
    ] * 4
    assert sorted(p.name for p in (path / "rollouts").iterdir()) == ["step-000001.jsonl", "step-000005.jsonl"]
    # the later steps of a rollout meet a policy that has moved
    gaps = [row["policy/logprob_gap"] for row in rows if row.get("policy/logprob_gap") is not None]
    assert max(gaps) > 1e-4


def test_confidences_can_be_refreshed_before_each_step(settings: Make, tmp_path: Path) -> None:
    batch = {"prompts": 4, "group": 4, "minibatch_prompts": 2, "micro_tokens": 128}
    every = {"evaluate": {"every": 0}, "checkpoint": {"every": 4}, "batch": batch, "optim": {"lr": 1e-2}}
    method = {"name": "progrpo", "skip": "never"}
    old = run(settings(method=method, out=str(tmp_path / "old"), **every))
    now = run(settings(method={**method, "logprobs_from": "current"}, out=str(tmp_path / "now"), **every))
    a, b = metrics(old), metrics(now)
    assert a[0] == b[0]  # before the first update both are the sampling policy
    assert a[1]["policy/objective"] != b[1]["policy/objective"]
    assert a[1]["progrpo/shift"] == a[0]["progrpo/shift"]  # of the rollout
    assert b[1]["progrpo/completion_confidence"] != b[0]["progrpo/completion_confidence"]


def test_progrpo_makes_no_pass_that_grpo_does_not(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    plain = LanguageModel.hidden

    def spy(self: LanguageModel, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        shapes.append(tuple(input_ids.shape))
        return plain(self, input_ids, **kwargs)

    monkeypatch.setattr(LanguageModel, "hidden", spy)
    found = []
    for method in ({"name": "grpo", "clip_high": 0.28, "aggregate": "group_token"}, {"name": "progrpo", "alpha": 0}):
        shapes.clear()
        run(settings(method=method, out=str(tmp_path / method["name"]), steps=2))
        found.append(list(shapes))
    assert found[0] == found[1]


def test_every_position_the_trainer_forwards_is_counted_in_its_step(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarded: list[int] = [0]
    plain, generate = LanguageModel.hidden, HfEngine.generate

    def spy(self: LanguageModel, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        forwarded[-1] += input_ids.numel()
        return plain(self, input_ids, **kwargs)

    def without_the_engine(*args: Any, **kwargs: Any) -> Any:
        before = forwarded[-1]
        result = generate(*args, **kwargs)
        forwarded[-1] = before
        return result

    def next_step(event: str, row: Any) -> None:
        if event == "step":
            forwarded.append(0)

    batch = {"prompts": 4, "group": 4, "minibatch_prompts": 2, "micro_tokens": 128}
    data = settings(batch=batch, evaluate={"every": 0}, old_logprobs="trainer")
    monkeypatch.setattr(LanguageModel, "hidden", spy)
    monkeypatch.setattr(HfEngine, "generate", without_the_engine)
    plainly = metrics(run(data, listen=next_step))
    assert [row["tokens/forwarded"] for row in plainly] == forwarded[:4]
    # the scoring pass stands in the first step of a rollout
    assert plainly[0]["tokens/forwarded"] > plainly[1]["tokens/forwarded"]
    forwarded[:] = [0]
    method = {"name": "progrpo", "logprobs_from": "current"}
    refreshed = metrics(run(data | {"method": method, "out": str(tmp_path / "now")}, listen=next_step))
    assert [row["tokens/forwarded"] for row in refreshed] == forwarded[:4]
    # scored again before the second step: all of its tokens went to the head at least once
    assert refreshed[1]["tokens/forwarded"] > refreshed[1]["tokens/trained"]
    assert refreshed[1]["tokens/logit_row_share"] <= 1.0


def test_the_engine_is_given_the_weights_after_the_updates_of_each_rollout(
    settings: Make, make_module: MakeModule
) -> None:
    import importlib

    name = make_module(ENGINE)
    batch = {"prompts": 4, "group": 3, "minibatch_prompts": 2, "micro_tokens": 128}
    path = run(settings(engine={"name": name}, batch=batch, evaluate={"every": 4, "n": 5}))
    # 4 steps from 2 rollouts of groups of 3; held-out groups of 5 before and after
    calls = importlib.import_module(name).calls
    two, four, closed = calls[2], calls[4], calls[6]
    assert (two, four, closed) == ("version 2: 27 tensors", "version 4: 27 tensors", "close")
    assert [call for call in calls if isinstance(call, int)] == [5, 3, 3, 5]
    assert len(calls) == 7
    rows = read_jsonl(path / "metrics.jsonl")
    assert [row["time/sync_s"] > 0 for row in rows] == [False, False, True, False, True]


def test_zero_advantage_skipping_changes_speed_only(settings: Make, tmp_path: Path) -> None:
    # With eps far above the gradients a weight moves in proportion to its gradient, and rounding moves none by itself.
    data = settings(steps=2, optim={"lr": 0.1, "eps": 1.0}, evaluate={"every": 0})
    batch = {"prompts": 4, "group": 4, "micro_tokens": 4096}
    one = run(data | {"batch": batch, "out": str(tmp_path / "a")})
    two = run(data | {"batch": batch | {"skip_zero_advantage": False}, "out": str(tmp_path / "b")})
    a, b, start = weights(one, 2), weights(two, 2), load_file(Path(data["model"]["path"]) / "model.safetensors")
    assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-6) for name in a)
    assert max(float((a[name] - start[name]).abs().max()) for name in a) > 1e-3
    assert metrics(two)[0]["policy/trained_share"] == 1.0
    zero = [metrics(path)[0]["policy/zero_advantage_share"] for path in (one, two)]
    assert 0 < zero[0] == zero[1] == 1 - metrics(one)[0]["policy/trained_share"]


def test_gradient_checkpointing_and_bf16_run(settings: Make, tmp_path: Path, plain_run: Path) -> None:
    model = settings()["model"]
    lean = run(settings(model=model | {"gradient_checkpointing": True}, steps=2, out=str(tmp_path / "lean")))
    assert same_weights(lean, plain_run, step=2)
    half = run(settings(model=model | {"precision": "bf16"}, steps=2, out=str(tmp_path / "half")))
    assert metrics(half)[1]["policy/logprob_gap"] is None or metrics(half)[1]["policy/logprob_gap"] < 0.1


def test_tokens_can_be_recorded(settings: Make) -> None:
    path = run(settings(record={"tokens": True}, steps=1, evaluate={"every": 0}))
    row = token_rows(path, 1)[0]
    assert len(row["token_ids"]) == len(row["sampler_logprobs"]) == row["length"]
    assert len(row["prompt_ids"]) == len(row["prompt_logprobs"])


def test_rollouts_before_and_after_a_checkpoint_are_kept_with_their_tokens(settings: Make) -> None:
    batch = {"prompts": 4, "group": 4, "minibatch_prompts": 2, "micro_tokens": 128}
    data = settings(
        batch=batch,
        steps=10,
        evaluate={"every": 0},
        checkpoint={"every": 4, "keep": 2},
        record={"rollouts_every": 4},
        method={"name": "grpo"},
        alarms={"watch": False},
    )
    path = run(data)
    # Two steps a rollout, checkpoints after steps 4, 8 and 10: the first rollout, those that lead to them, those after them.
    assert [file.name for file in sorted((path / "rollouts").iterdir())] == [
        f"step-{n:06d}.jsonl" for n in (1, 3, 5, 7, 9)
    ]
    why = {step: sound_bundle(file).header["kept_for"] for step, file in bundle_paths(path).items()}
    assert why == {
        1: ["the first of the run"],
        3: ["leads to the checkpoint of step 4"],
        5: ["follows the checkpoint of step 4"],
        7: ["leads to the checkpoint of step 8"],
        9: ["follows the checkpoint of step 8", "leads to the checkpoint of step 10"],
    }
    assert [file.name for file in sorted((path / "checkpoints").glob("step-*"))] == ["step-000008", "step-000010"]
    # ... from which another method than the run's own can be scored
    found = score(path, ["grpo", "progrpo"])
    assert found.statistics.loc["grpo", "recorded_distance"] == pytest.approx(0.0, abs=1e-6)
    assert found.statistics.loc["progrpo", "spread"] > 0


def test_tokens_that_take_too_much_are_left_out(settings: Make, caplog: pytest.LogCaptureFixture) -> None:
    path = run(settings(record={"tokens_mib": 1e-3}, steps=1, evaluate={"every": 0}))
    assert not bundle_paths(path)
    assert not has_tokens(path / "rollouts" / "step-000001.jsonl")
    assert "written without tokens" in caplog.text


def test_a_failing_verifier_stops_the_run(settings: Make, make_module: MakeModule) -> None:
    name = make_module("def score(text, problem, params): raise OSError('disk')")
    with pytest.raises(VerifierError, match=r"16 of 16 verdicts were timeout or crashed.*OSError: disk"):
        run(settings(reward={"name": name}, evaluate={"every": 0}))


def test_too_long_prompts(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="prompts are longer than data.max_prompt_tokens=3; the first, problem '3-3-4=12', has"
    ):
        run(settings(data={"max_prompt_tokens": 3}))
    assert not (tmp_path / "run").exists()  # refused before anything was written


def test_a_verdict_that_failed_is_neither_punished_nor_rewarded(
    settings: Make, make_module: MakeModule, tmp_path: Path
) -> None:
    name = make_module(
        "from stand_ins import parity\n"
        "Params = parity.Params\n"
        "def score(text, problem, params):\n"
        "    if text.startswith(('1', '2', '3', 'a', 'b', 'c', 'd', 'e')): raise OSError('disk')\n"
        "    return parity.score(text, problem, params)\n"
    )
    data = settings(reward={"name": name}, evaluate={"every": 0}, verify={"max_failed_share": 1.0})
    rows = [row for file in sorted((run(data) / "rollouts").iterdir()) for row in read_jsonl(file)]
    failed = [row for row in rows if row["status"] == "crashed"]
    assert failed
    assert {row["advantage"] for row in failed} == {0.0}
    assert {row["shift"] for row in failed} == {0.0}
    # among those judged the advantages before the shift sum to 0
    for start in range(0, len(rows), 4):
        judged = [row for row in rows[start : start + 4] if row["status"] != "crashed"]
        plain = [row["advantage"] - 0.3 * row["shift"] for row in judged]
        assert sum(plain) == pytest.approx(0.0, abs=1e-5)
    wrong = data | {"verify": {"max_failed_share": 1.0, "failed": "wrong"}, "out": str(tmp_path / "wrong")}
    rows = [row for file in sorted((run(wrong) / "rollouts").iterdir()) for row in read_jsonl(file)]
    assert any(row["advantage"] != 0 for row in rows if row["status"] == "crashed")


def test_distinct_solutions_are_not_counted_without_canonical_forms(settings: Make, make_module: MakeModule) -> None:
    name = make_module("from stand_ins.parity import Params, score\n")
    rows = metrics(run(settings(reward={"name": name}, steps=2)))
    assert {row.get("rollout/distinct_correct") for row in rows[1:]} == {None}
    assert not any("evaluate/distinct_correct" in row for row in rows)


def test_a_verifier_that_fails_on_held_out_problems_stops_the_run(settings: Make, make_module: MakeModule) -> None:
    held_out = [problem.id for problem in tasks.problems(Choice(**settings()["task"]), "test")]
    name = make_module(
        "from stand_ins import parity\n"
        f"HELD_OUT = frozenset({held_out})\n__all__ = ['HELD_OUT']\n"
        "def score(text, problem, params):\n"
        "    if problem.id in HELD_OUT: raise OSError('disk')\n"
        "    return parity.score(text, problem, parity.Params())\n"
    )
    with pytest.raises(VerifierError, match="16 of 16 verdicts were timeout or crashed"):
        run(settings(reward={"name": name}))


def test_a_model_that_gives_nan_is_no_model(settings: Make, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="its logits are nan"):
        run(settings(model={"path": str(folder)}))


def test_two_processes_cannot_write_one_run(settings: Make) -> None:
    data = settings(steps=2)

    def start_another(event: str, row: Any) -> None:
        if event == "step" and row["step"] == 1:
            with pytest.raises(RunDirectoryError, match="another process is writing to"):
                run(data, resume=True)

    path = run(data, listen=start_another)
    assert [row["step"] for row in metrics(path)] == [0, 1, 2]


def test_resuming_with_fewer_steps_than_were_made_changes_nothing(settings: Make, own_run: Path) -> None:
    path = own_run
    before = {name: (path / name).read_text() for name in ("config.yaml", "environment.json", "metrics.jsonl")}
    with pytest.raises(ConfigError, match="has made 4 steps already, more than steps=2"):
        run(settings(steps=2), resume=True)
    assert {name: (path / name).read_text() for name in before} == before


def test_steps_are_fixed_where_the_learning_rate_depends_on_them(settings: Make) -> None:
    optim = {"lr": 1e-3, "schedule": "linear"}
    short = {"optim": optim, "evaluate": {"every": 0}, "checkpoint": {"every": 1}}
    run(settings(**short, steps=1))
    with pytest.raises(ConfigError, match="cannot resume with other settings: steps: 1 -> 2"):
        run(settings(**short, steps=2), resume=True)


def test_resuming_on_other_problems_is_refused(settings: Make, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    rows = [{"prompt": f"p{n}", "answer": "1"} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = settings(task={"name": "file", "train": str(file), "chat": False}, evaluate={"every": 0})
    run(data)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    with pytest.raises(ConfigError, match="no longer gives the problems this run began with"):
        run(data, resume=True)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_missing_leaves_no_run_behind(
    settings: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progrpo.train.trackers.installed", lambda package: package != name)
    data = settings(record={"trackers": [name]})
    with pytest.raises(
        ConfigError, match=rf"record.trackers: '{name}' is not installed; pip install 'progrpo\[{name}\]'"
    ):
        run(data)
    assert not Path(data["out"]).exists()


def test_more_problems_per_rollout_than_there_are(settings: Make) -> None:
    with pytest.raises(ConfigError, match="batch.prompts=40 exceeds the 24 training problems"):
        run(settings(batch={"prompts": 40, "group": 2}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batch": {"prompts": 4, "group": 4, "minibatch_prompts": 3}},
            "minibatch_prompts=3 does not divide prompts=4",
        ),
        (
            {"steps": 3, "batch": {"prompts": 4, "minibatch_prompts": 2}},
            "steps=3 is no multiple of the 2 optimiser steps",
        ),
        (
            {"batch": {"prompts": 4, "minibatch_prompts": 2}, "evaluate": {"every": 3}},
            "evaluate.every=3 is no multiple",
        ),
        ({"batch": {"prompts": 4, "group": 1}}, "batch.group: input should be greater than or equal to 2, got 1"),
        ({"sampling": {"max_new_tokens": 5, "temperature": 0}}, "training needs a value above 0"),
        (
            {"model": {"path": "m", "precision": "fp16"}},
            r"model.precision: fp16 \(float16\) is refused.*bf16 has the range",
        ),
        ({"optim": {"lr": -1}}, "optim.lr: input should be greater than 0, got -1"),
        ({"optim": {"learning_rate": 1}}, "'optim.learning_rate' is TRL's name; here it is optim.lr"),
        ({"methd": {"name": "grpo"}}, "unknown key 'methd'; did you mean 'method'"),
        ({"record": {"trackers": ["mlflow"]}}, "record.trackers"),
    ],
)
def test_bad_settings(settings: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(RunSettings, settings(**changes), where="test")


def test_what_the_engine_cannot_give_is_refused_by_name_before_the_run(
    settings: Make, make_module: MakeModule, tmp_path: Path
) -> None:
    name = make_module(
        """
from dataclasses import replace
from progrpo.engines import hf
from progrpo.engines.hf import Params
def make(model, params):
    engine = hf.make(model, params)
    engine.capabilities = replace(engine.capabilities, entropies=False, prompt_logprobs=False)
    return engine
"""
    )
    with pytest.raises(
        ConfigError, match="method 'high_entropy' needs entropies, which engine .* old_logprobs=trainer"
    ):
        run(settings(engine={"name": name}, method={"name": "high_entropy"}))
    with pytest.raises(ConfigError, match="method 'progrpo' needs prompt logprobs"):
        run(settings(engine={"name": name}))
    assert not (tmp_path / "run").exists()
    run(settings(engine={"name": name}, method={"name": "grpo"}, steps=1, evaluate={"every": 0}))


COUNTED = """
from pydantic import model_validator
from progrpo.{package} import {name} as plain
parsed = []
class Params(plain.Params):
    @model_validator(mode="after")
    def _count(self):
        parsed.append(1)
        return self
{rest}
"""
COUNTED_REST = {
    "tasks": "def load(split, params):\n    return plain.load(split, params)\nREWARD = plain.REWARD",
    "rewards": "def score(text, problem, params):\n    return plain.score(text, problem, params)",
    "methods": "rounds = plain.rounds",
    "engines": "def make(model, params):\n    return plain.make(model, params)",
}


def test_the_settings_of_each_choice_are_validated_once(
    settings: Make, make_module: MakeModule, tmp_path: Path
) -> None:
    plain = {"tasks": "countdown", "rewards": "expression", "methods": "dapo", "engines": "hf"}
    names = {}
    for package, name in plain.items():
        names[package] = make_module(COUNTED.format(package=package, name=name, rest=COUNTED_REST[package]))
    for package in ("rewards", "methods", "engines"):
        plugins.load(package, names[package]).parsed.clear()
    data = settings()
    chosen = {
        "task": data["task"] | {"name": names["tasks"]},
        "reward": {"name": names["rewards"]},
        "method": {"name": names["methods"]},
        "engine": {"name": names["engines"]},
    }
    run(settings(**chosen, steps=2, evaluate={"every": 2, "n": 2}))
    assert {package: len(plugins.load(package, name).parsed) for package, name in names.items()} == dict.fromkeys(
        names, 1
    )


SILENT = """
from dataclasses import replace
from progrpo.engines import Engine, hf
from progrpo.engines.hf import Params
class Silent(Engine):
    def __init__(self, inner):
        self.inner = inner
        self.capabilities = replace(inner.capabilities, entropies=False, entropy_gradients=False)
    def update_weights(self, tensors, version):
        self.inner.update_weights(tensors, version)
    def generate(self, *args, **kwargs):
        return [
            replace(one, completions=tuple(replace(c, entropies=None, entropy_gradients=None) for c in one.completions))
            for one in self.inner.generate(*args, **kwargs)
        ]
def make(model, params):
    return Silent(hf.make(model, params))
"""


def test_an_engine_without_entropies_trains_and_logs_none(
    settings: Make, make_module: MakeModule, plain_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = make_module(SILENT)
    rows = metrics(run(settings(engine={"name": name}, record={"tokens": True})))
    assert {row.get("rollout/entropy") for row in rows[1:]} == {None}
    assert {row.get("policy/predicted_entropy_change") for row in rows[1:]} == {None}
    assert "evaluate/entropy" not in rows[0]
    assert "evaluate/length" in rows[0]
    assert caplog.text.count(f"measure tokens: engine {name} gives no entropies; entropy left out") == 1
    plain = metrics(plain_run)
    assert [row["policy/grad_norm"] for row in rows[1:]] == [row["policy/grad_norm"] for row in plain[1:]]


def test_a_measure_that_needs_what_the_engine_cannot_give_is_refused_by_name(
    settings: Make, make_module: MakeModule, tmp_path: Path
) -> None:
    engine = make_module(SILENT)
    measure = make_module("NEEDS_ENTROPIES = True\ndef measure(judged, params):\n    return {}\n")
    data = settings(
        engine={"name": engine}, method={"name": "grpo"}, evaluate={"every": 2, "n": 2, "measures": [measure]}
    )
    with pytest.raises(
        ConfigError, match="measure .* needs entropies, which engine .* leave it out of evaluate.measures"
    ):
        run(data)
    assert not (tmp_path / "run").exists()
    run(data | {"evaluate": {"every": 0, "measures": [measure]}, "steps": 1})


@pytest.mark.parametrize("scorer", ["engine", "trainer"])
def test_the_gap_between_sampler_and_trainer_is_logged_once_a_rollout(settings: Make, scorer: str) -> None:
    batch = {"prompts": 4, "group": 4, "minibatch_prompts": 2, "micro_tokens": 128}
    rows = metrics(run(settings(old_logprobs=scorer, batch=batch, optim={"lr": 1e-2})))
    assert [row["step"] for row in rows if "sampler/gap" in row] == [1, 3]
    for row in rows:
        if "sampler/gap" in row:
            assert 0 <= row["sampler/gap"] < 1e-5  # one computation, in another order
            assert row["sampler/gap_p95"] < 1e-4
            assert row["sampler/outside"] == 0
            assert abs(row["sampler/kl"]) < 1e-6


@pytest.mark.parametrize("where", ["model", "engine"])
def test_bf16_samples_from_the_weights_that_each_step_made(settings: Make, where: str) -> None:
    """By torch's own fused AdamW, which does not count its changes: samples of stale weights drift from what is trained."""
    made = settings(optim={"lr": 3e-2}, steps=6, evaluate={"every": 0}, alarms={"watch": False})
    data = made | {where: made.get(where, {"name": "hf"}) | {"precision": "bf16"}}
    # Of a rollout without a gradient nothing is forwarded, and no gap is known.
    gaps = [row["sampler/gap"] for row in metrics(run(data)) if "sampler/gap" in row]
    assert len(gaps) > 2
    assert max(gaps) < 0.05


def test_an_engine_in_bf16_says_how_far_it_is_and_the_ratio_starts_there(settings: Make) -> None:
    rows = metrics(run(settings(engine={"name": "hf", "precision": "bf16"}, evaluate={"every": 0})))
    for row in rows:
        assert 1e-4 < row["sampler/gap"] < 0.05  # bf16 keeps 8 bits
        # The surrogate's old log-probs are those of the policy that sampled.
        assert row["policy/logprob_gap"] == pytest.approx(row["sampler/gap"], rel=1e-5)
