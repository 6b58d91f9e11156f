"""Methods that sample in their own way, in whole runs: reproducible, resumed to the last bit, and refused where they cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from progrpo.engines import Capabilities, hf
from progrpo.errors import ConfigError
from progrpo.files import read_jsonl
from progrpo.rollout.bundle import bundle_paths
from progrpo.rollout.recorded import read_rollouts
from progrpo.train import step_on
from progrpo.train.rollout_batch import make_rollout_batch, within_mask
from progrpo.types import Group, Problem, RolloutBatch, Verdict
from stand_ins.runs import run, token_rows
from stand_ins.sampling import completion_of

Make = Callable[..., dict[str, Any]]

METHODS: dict[str, dict[str, Any]] = {
    "cure": {"name": "cure", "continuations": 1, "least_characters": 1, "max_rounds": 2},
    "spear": {"name": "spear", "buffer": 2},
    "r3": {"name": "r3", "samples": 1},
    "hapo": {"name": "hapo", "temperature_tau": 0.5},
    "deepsearch": {"name": "deepsearch", "depth": 3, "width": 2},
}
QUIET = {"evaluate": {"every": 0}, "record": {"tokens": True}}


class Stop(Exception):  # noqa: N818 - a signal of this test
    pass


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for step in bundle_paths(path) for row in token_rows(path, step)]


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_is_the_whole_one_to_the_last_bit(name: str, settings: Make, tmp_path: Path) -> None:
    # Of two completions half the groups are all alike.
    batch = {"prompts": 4, "group": 2 if name == "r3" else 4, "micro_tokens": 128}
    common = {"steps": 3, "method": METHODS[name], "batch": batch, "checkpoint": {"every": 1}, **QUIET}
    common |= {"task": {**settings()["task"], "train_size": 8}}  # a problem comes again in the third step
    phases: list[str] = []

    def stop(event: str, row: Any) -> None:
        phases.extend([row["name"]] if event == "phase" else [])
        if phases.count("generate") == 3:
            raise Stop

    whole = run(settings(out=str(tmp_path / "whole"), **common))
    with pytest.raises(Stop):
        run(settings(out=str(tmp_path / "part"), **common), listen=stop)
    resumed = run(settings(out=str(tmp_path / "part"), **common), resume=True)
    assert rows_of(resumed) == rows_of(whole)
    if name == "r3":
        assert [row["r3/replaced"] > 0 for row in read_jsonl(whole / "metrics.jsonl")] == [False, False, True]
    weights = [load_file(path / "checkpoints" / "step-000003" / "model.safetensors") for path in (whole, resumed)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_cure_s_prefixes_come_from_its_group_and_are_not_trained_on(settings: Make) -> None:
    path = run(settings(steps=1, method={"name": "cure", "continuations": 1, "least_characters": 1}, **QUIET))
    rows = rows_of(path)
    assert len(rows) == 16
    prefixed = 0
    for root, row in ((rows[n - 2], rows[n]) for n in range(16) if n % 4 >= 2):
        if "trained" not in row:  # a root of one token, gone on from its beginning
            continue
        given = row["trained"].count(0)
        assert 0 < given < root["length"]
        assert row["trained"] == [0] * given + [1] * (row["length"] - given)
        assert row["token_ids"][:given] == root["token_ids"][:given]
        assert row["completion"].startswith(root["completion"][:given])  # a token of this model is a character
        assert row["sampler_logprobs"][:given] == [0.0] * given
        assert row["length"] <= 10
        prefixed += given
    assert prefixed > 0
    (metrics,) = read_jsonl(path / "metrics.jsonl")
    assert metrics["tokens/generated"] == sum(row["length"] for row in rows) - prefixed
    # What is recorded says to a later reader which tokens count.
    groups = read_rollouts(path / "rollouts" / "step-000001.jsonl").groups
    batch = make_rollout_batch(groups, frozenset())
    assert int(batch.lengths.sum()) - int(batch.mask.sum()) == prefixed


def test_its_tokens_do_not_depend_on_who_scores(settings: Make, tmp_path: Path) -> None:
    rows = {}
    for scorer in ("engine", "trainer"):
        data = settings(steps=2, method=METHODS["cure"], old_logprobs=scorer, out=str(tmp_path / scorer), **QUIET)
        rows[scorer] = read_jsonl(run(data) / "metrics.jsonl")
    for one, other in zip(rows["engine"], rows["trainer"], strict=True):
        assert one["policy/grad_norm"] == pytest.approx(other["policy/grad_norm"], rel=1e-3)
        assert one["rollout/confidence"] == pytest.approx(other["rollout/confidence"], rel=1e-3)


def test_an_engine_without_entropies_and_a_group_that_cannot_be_parted_are_refused(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="batch.group=4 is no multiple"):
        run(settings(method={"name": "cure", "continuations": 2}))
    monkeypatch.setattr(hf.HfEngine, "capabilities", Capabilities(samples_trained_weights=True, entropies=False))
    with pytest.raises(ConfigError, match="'cure' samples by the entropies .* engine 'hf' does not give"):
        run(settings(method={"name": "cure"}))


def test_spear_learns_again_from_what_it_sampled(settings: Make, tmp_path: Path) -> None:
    batch = {"prompts": 4, "group": 4, "micro_tokens": 128, "minibatch_prompts": 2}
    data = settings(steps=6, method={"name": "spear", "buffer": 4}, batch=batch, optim={"lr": 1e-2}, **QUIET)
    path = run(data)
    rows = read_jsonl(path / "metrics.jsonl")
    assert [row["rollout/replayed"] for row in rows] == [0, 0, 1, 1, 0, 0]
    first, replay = (token_rows(path, step) for step in (1, 3))
    again = [row for row in replay if 0 not in row.get("trained", [1])]
    assert 0 < len(again) <= 4
    known = {(row["problem"], row["seed"]): row for row in first}
    for row in again:
        old = known[row["problem"], row["seed"]]
        assert all(row[key] == old[key] for key in ("token_ids", "sampler_logprobs", "completion", "reward"))
        assert row["correct"]
        assert row["advantage"] > 0
    # Nothing was sampled, and the ratio is to the policy of two steps before.
    assert rows[2]["tokens/generated"] == 0
    assert rows[2]["rollout/correct"] is None
    assert rows[2]["tokens/trained"] + rows[3]["tokens/trained"] == sum(row["length"] for row in again)
    assert rows[2]["policy/kl_old"] > 1e-6
    assert rows[0]["policy/kl_old"] < 1e-6

    with pytest.raises(ConfigError, match="'spear' learns from completions of earlier policies.* old_logprobs=engine"):
        run(data | {"old_logprobs": "trainer", "out": str(tmp_path / "other")})


def test_hapo_draws_at_other_temperatures_and_says_what_the_policy_gave(settings: Make, tmp_path: Path) -> None:
    paths = {}
    for tau in (0.0, 0.5):
        method = {"name": "hapo", "temperature_tau": tau}
        data = settings(steps=2, method=method, old_logprobs="trainer", out=str(tmp_path / f"{tau}"), **QUIET)
        paths[tau] = run(data)
        # The log-probs that came with the tokens are the trainer's, at the run's temperature.
        assert all(row["sampler/gap"] < 1e-4 for row in read_jsonl(paths[tau] / "metrics.jsonl"))
    plain, own = (rows_of(path) for path in paths.values())
    assert [row["token_ids"] for row in own[:16]] == [row["token_ids"] for row in plain[:16]]  # nothing is known yet
    assert [row["token_ids"] for row in own[16:]] != [row["token_ids"] for row in plain[16:]]


def test_an_engine_that_draws_at_one_temperature_is_refused(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf.HfEngine, "capabilities", Capabilities(samples_trained_weights=True))
    with pytest.raises(
        ConfigError,
        match="'hapo' draws each token at a temperature of its own, which engine 'hf' does not.*temperature_tau=0",
    ):
        run(settings(method=METHODS["hapo"]))


def test_deepsearch_s_completions_are_ways_through_its_tree(settings: Make) -> None:
    path = run(settings(steps=1, method=METHODS["deepsearch"], old_logprobs="trainer", **QUIET))
    (metrics,) = read_jsonl(path / "metrics.jsonl")
    assert metrics["sampler/gap"] < 1e-4  # each token has the log-prob it was drawn with, whichever node it is of
    rows = rows_of(path)
    assert all("trained" not in row and 0 < row["length"] <= 10 for row in rows)
    # A step has three tokens; siblings share what stands before theirs.
    beginnings = [tuple(row["token_ids"][:3]) for row in rows]
    assert any(len(set(beginnings[n : n + 4])) < 4 for n in range(0, 16, 4))
    # Two children a node; of each two that ended one is a leaf, so that four leaves want eight nodes or more.
    assert metrics["deepsearch/nodes"] >= 8
    assert metrics["tokens/generated"] <= metrics["deepsearch/nodes"] * 4 * 3


def test_a_replay_meets_the_policy_as_it_is(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # Clip-Cov reads log-probs before each step: those that were sampled with in a rollout's first, but not in a replay's.
    read: list[bool] = []
    plain = step_on.refreshed_advantages

    def noted(batch: RolloutBatch, *args: Any, **kwargs: Any) -> Any:
        made = plain(batch, *args, **kwargs)
        read.append(batch.replayed is not None and not torch.equal(made[0].old_logprobs, batch.old_logprobs))
        return made

    monkeypatch.setattr(step_on, "refreshed_advantages", noted)
    path = run(settings(steps=3, method={"name": "spear", "buffer": 2}, optim={"lr": 1e-2}, **QUIET))
    replays = [row["rollout/replayed"] for row in read_jsonl(path / "metrics.jsonl")]
    assert sum(replays) > 0
    assert read == [True] * int(sum(replays))
    # and the distance of its completions to the policy that learns from them is no fault of the sampler
    rows = [row for row in read_jsonl(path / "metrics.jsonl") if row["step"]]
    assert [row.get("sampler/gap") is None for row in rows] == [bool(row["rollout/replayed"]) for row in rows]
    assert all(row["sampler/gap"] < 1e-4 for row in rows if not row["rollout/replayed"])


def test_what_is_not_trained_on_is_0_wherever_it_is_known() -> None:
    completions = (completion_of([5, 6], [7], [0.5]), completion_of([], [8, 9], [0.5, 0.25]))
    verdict = Verdict(status="wrong", reward=0.0)
    group = Group(
        problem=Problem(id="0", prompt=""),
        prompt_ids=torch.tensor([1]),
        prompt_logprobs=None,
        completions=completions,
        verdicts=(verdict, verdict),
    )
    batch = make_rollout_batch([group], frozenset({"entropies"}))
    assert batch.mask.tolist() == [[False, False, True], [True, True, False]]
    scored = within_mask(replace(batch, old_logprobs=torch.full((2, 3), -3.0)))
    assert scored.old_logprobs.tolist() == [[0.0, 0.0, -3.0], [-3.0, -3.0, 0.0]]
    assert scored.entropies is not None
    assert scored.entropies.tolist() == [[0.0, 0.0, 0.5], [0.5, 0.25, 0.0]]
