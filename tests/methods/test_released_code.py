"""Numbers that the methods' own code gave, of one made-up rollout of three problems of five ragged completions.

`released_numbers.json` holds inputs and outputs, and which repository, commit and function gave them. Losses are means over all
tokens of the step, with GRPO's advantages; gradients are those of the loss by the log-probs now.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo.types import RolloutBatch
from stand_ins.batch_steps import take_step
from stand_ins.every_method import load

NUMBERS: dict[str, Any] = json.loads((Path(__file__).parent / "released_numbers.json").read_text("utf-8"))
VANILLA = {"name": "grpo", "clip_high": 0.28, "aggregate": "token"}
DPPO = {"name": "dppo", "scale": "std", "aggregate": "token"}
LOSSES: dict[str, dict[str, Any]] = {
    "verl vanilla, clip_ratio_c 3": {**VANILLA, "dual_clip": 3.0},
    "verl vanilla, clip_ratio_c 1.5": {**VANILLA, "dual_clip": 1.5},
    "verl dppo_tv": DPPO,
    "verl dppo_kl": {**DPPO, "preset": "kl"},
    "simko": {"name": "simko", "alpha": 0.3, "k": 2},
    "steer": {"name": "steer", "preset": "released"},
    "steer linear": {"name": "steer", "preset": "linear"},
    "lp_reg": {"name": "lp_reg", "preset": "released", "share": 0.4},
    "hapo": {"name": "hapo", "preset": "released", "token_average": False},
    "pacs": {"name": "pacs"},
    "pacs, method 2": {"name": "pacs", "beta": 2.0, "score": "mean_logprob"},
}
ADVANTAGES: dict[str, dict[str, Any]] = {
    "maxrl": {"name": "maxrl"},
    "passk, k 2": {"name": "passk", "k": 2},
    "passk, k 3": {"name": "passk", "k": 3},
    "agent": {"name": "progrpo", "preset": "agent"},
    "ucpo, tau 0.2": {"name": "ucpo", "tau": 0.2, "eps": 1e-8},
    "hapo": {"name": "hapo"},
    "ucas": {"name": "ucas"},
    "dler": {"name": "dler"},
}
RISK: dict[str, tuple[dict[str, Any], list[float] | None]] = {
    "risk_po, first": ({}, None),
    "risk_po, tracked": ({}, [0.4, 1.6]),
    "risk_po, mix": ({"track": "mix", "credit": "uniform"}, [0.4, 1.6]),
    "risk_po, sum_mean": ({"credit": "sum_mean"}, [0.4, 1.6]),
}
"""Bundles of two of the three problems, with rewards of their own; the quantiles tracked so far."""


@pytest.fixture
def batch() -> RolloutBatch:
    given = {name: torch.tensor(values) for name, values in NUMBERS["inputs"].items()}
    rewards = given["rewards"].view(-1, NUMBERS["inputs"]["group"])
    return RolloutBatch(
        rewards=rewards,
        correct=rewards > 0,
        truncated=torch.zeros(rewards.shape, dtype=torch.bool),
        lengths=given["lengths"].view(rewards.shape),
        mask=torch.arange(given["old_logprobs"].shape[1])[None, :] < given["lengths"][:, None],
        old_logprobs=given["old_logprobs"],
        entropies=given["entropies"],
        prompt_logprobs=torch.zeros(len(rewards), 2),
        prompt_mask=torch.tensor([[False, True]] * len(rewards)),
        proxy_logprobs=given["proxy_logprobs"],
        certainties=given["certainties"],
        raw_logits=given["raw_logits"],
    )


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_those_of_the_released_code(name: str, batch: RolloutBatch) -> None:
    expected, inputs = NUMBERS["losses"][name], NUMBERS["inputs"]
    likeliest = {"top_logprobs": torch.tensor(inputs["top_logprobs"])} if "top_gradient" in expected else {}
    found = take_step(load(**LOSSES[name]), batch, torch.tensor(inputs["logprobs"]), **likeliest)
    assert found.loss == pytest.approx(expected["loss"], abs=2e-6)
    assert torch.allclose(found.gradient, torch.tensor(expected["gradient"]), atol=2e-6)
    if likeliest:
        assert torch.allclose(found.gradients["top_logprobs"], torch.tensor(expected["top_gradient"]), atol=2e-6)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_are_those_of_the_released_code(name: str, batch: RolloutBatch) -> None:
    made = load(**ADVANTAGES[name]).advantages(batch)
    found = made.values.flatten() if made.tokens is None else made.tokens
    assert torch.allclose(found, torch.tensor(NUMBERS["advantages"][name]), atol=2e-6)


@pytest.mark.parametrize("name", RISK)
def test_a_bundle_s_advantages_are_those_of_the_released_code(name: str, batch: RolloutBatch) -> None:
    settings, quantiles = RISK[name]
    scores = torch.tensor(NUMBERS["inputs"]["scores"]).view(batch.rewards.shape)
    state = {} if quantiles is None else {"quantiles": quantiles}
    found = load("risk_po", bundle=2, **settings).advantages(replace(batch, rewards=scores, state=state)).values
    assert torch.allclose(found.flatten(), torch.tensor(NUMBERS["advantages"][name]), atol=1e-5)


def test_every_number_is_used() -> None:
    assert NUMBERS["losses"].keys() == LOSSES.keys()
    assert NUMBERS["advantages"].keys() == ADVANTAGES.keys() | RISK.keys()
