"""verl's own main_ppo with our method, from its command line to its last optimiser step: Ray, FSDP, vLLM and TransferQueue, on
a CPU. In minutes: `make test-adapters HOSTS=verl_cpu`.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("vllm") is None:
    pytest.skip("verl with vLLM for CPUs is missing: make test-adapters HOSTS=verl_cpu", allow_module_level=True)

from transformers import AutoModelForCausalLM

from progrpo import methods
from progrpo.settings import Choice
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.types import Completion, Group, Problem, Verdict
from stand_ins import verl_launch

pytestmark = pytest.mark.slow

OURS = ["trainer.v1.trainer_mode=progrpo", "algorithm.adv_estimator=progrpo", "+algorithm.progrpo.preset=verl"]
CLIP = "actor_rollout_ref.actor.clip_ratio_high=0.28"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verl")
    verl_launch.prepare(path)
    return path


@pytest.fixture(scope="module")
def notes(folder: Path) -> list[dict[str, Any]]:
    """What each training step of a run with our method was given and logged."""
    return verl_launch.run(folder, "progrpo", *OURS, CLIP)


def groups(note: dict[str, Any]) -> tuple[list[str], tuple[Group, ...]]:
    """A training step's rollout as our trainer has it, and verl's keys of its completions in that order."""
    columns = note["columns"]
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(note["keys"]):
        rows.setdefault(key.rsplit("_", 2)[0], []).append(row)
    result = []
    for name, members in rows.items():
        first = members[0]
        prompt = columns["prompts"][first]
        scores = columns["log_probs"][first][: len(prompt) - 1].float()  # entry t is of token t + 1
        completions = tuple(
            Completion(
                seed=0,
                text="",
                finish="stop",
                token_ids=columns["responses"][row],
                sampler_logprobs=columns["old_log_probs"][row].float(),
            )
            for row in members
        )
        rewards = [float(columns["rm_scores"][row].sum()) for row in members]
        verdicts = tuple(Verdict(status="correct" if reward > 0 else "wrong", reward=reward) for reward in rewards)
        result.append(
            Group(
                problem=Problem(id=name, prompt="", answer=None),
                prompt_ids=prompt,
                prompt_logprobs=torch.cat([torch.zeros(1), scores]),
                completions=completions,
                verdicts=verdicts,
            )
        )
    return [note["keys"][row] for members in rows.values() for row in members], tuple(result)


def test_every_optimiser_step_is_made(notes: list[dict[str, Any]]) -> None:
    assert len(notes) == verl_launch.STEPS
    for note in notes:
        assert not any(note["padding"])
        assert len(note["keys"]) == verl_launch.PROBLEMS * verl_launch.GROUP
        assert note["metrics"]["actor/grad_norm"] > 0
        assert note["metrics"]["progrpo/shift_abs"] > 0
    first, second = (note["metrics"] for note in notes)
    assert first["actor/pg_loss"] != second["actor/pg_loss"]
    # vLLM samples from the weights that the actor has, also after an update
    assert first["training/rollout_probs_diff_max"] < 1e-4
    assert second["training/rollout_probs_diff_max"] < 1e-4


def test_recorded_advantages_are_our_trainers(notes: list[dict[str, Any]]) -> None:
    method = methods.load(Choice(name="progrpo", preset="verl", clip_high=0.28))
    for note in notes:
        keys, whole = groups(note)
        batch = make_rollout_batch(whole, frozenset({"prompt_logprobs"}))
        expected = method.advantages(batch).values.flatten()
        assert expected.std() > 0.1
        for key, value in zip(keys, expected, strict=True):
            tokens = note["columns"]["advantages"][note["keys"].index(key)]
            torch.testing.assert_close(tokens, value.expand(len(tokens)), rtol=0, atol=1e-6)


def test_log_probs_of_prompt_and_response_are_the_models(notes: list[dict[str, Any]], folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    columns = notes[0]["columns"]
    for prompt, response, found in zip(
        columns["prompts"][::7], columns["responses"][::7], columns["log_probs"][::7], strict=True
    ):
        ids = torch.cat([prompt, response])
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        expected = logits[:-1].log_softmax(dim=-1).gather(1, ids[1:, None])[:, 0]
        torch.testing.assert_close(found[:-1], expected, rtol=0, atol=1e-4)


def test_without_a_shift_they_are_grpos(notes: list[dict[str, Any]]) -> None:
    """verl's own GRPO on the same rewards; the loss behind the advantages is verl's in either case."""
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    method = methods.load(Choice(name="progrpo", preset="verl", clip_high=0.28, alpha=0.0))
    for note in notes:
        columns = note["columns"]
        names = np.array([key.rsplit("_", 2)[0] for key in note["keys"]], dtype=object)
        scores, mask = (
            torch.nn.utils.rnn.pad_sequence(columns[name], batch_first=True) for name in ("rm_scores", "response_mask")
        )
        theirs, _ = compute_grpo_outcome_advantage(scores.float(), mask, names)
        keys, whole = groups(note)
        ours = method.advantages(make_rollout_batch(whole, frozenset({"prompt_logprobs"}))).values.flatten()
        rows = [note["keys"].index(key) for key in keys]
        torch.testing.assert_close(theirs[rows, 0], ours, rtol=0, atol=1e-6)
        assert any(
            (columns["advantages"][row] - theirs[row, 0]).abs().max() > 1e-3 for row in rows
        )  # the run had a shift
