"""The net that a method brings: in the optimiser and the checkpoint, not in the model folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from progrpo.model import LanguageModel
from progrpo.settings import parse
from progrpo.train import checkpoint
from progrpo.train.loop import train
from progrpo.train.policy import Policy
from progrpo.train.settings import OptimSettings, RunSettings

Make = Callable[..., dict[str, Any]]


def policy_of(model: LanguageModel, factor: float = 10.0, **optim: Any) -> Policy:
    torch.manual_seed(1)
    return Policy(
        model, OptimSettings(**optim), steps=4, temperature=1.0, net=torch.nn.Linear(32, 1), net_lr_factor=factor
    )


def set_gradients(policy: Policy, model: float, net: float) -> None:
    policy.zero_grad()
    for parameter in policy.parameters:
        parameter.grad.fill_(model)
    for parameter in policy.net.parameters():
        parameter.grad.fill_(net)


def test_its_learning_rate_is_its_own(tiny_model: LanguageModel) -> None:
    policy = policy_of(tiny_model, lr=1e-3, warmup_steps=2)
    moved = []
    for _ in range(3):
        before = [policy.parameters[0].detach().clone(), policy.net.weight.detach().clone()]
        set_gradients(policy, 1.0, -2.0)
        policy.step()
        after = [policy.parameters[0].detach(), policy.net.weight.detach()]
        moved.append([float((b - a).mean()) for a, b in zip(before, after, strict=True)])
    # AdamW under a constant gradient moves each weight by the learning rate: 0, half and all of 1e-3, and ten times that
    assert torch.allclose(torch.tensor(moved), torch.tensor([[0, 0], [-5e-4, 5e-3], [-1e-3, 1e-2]]), atol=1e-6)
    assert policy.lr == 1e-3


def test_its_gradient_is_clipped_by_itself(tiny_model: LanguageModel) -> None:
    policy = policy_of(tiny_model, grad_clip=0.5)
    set_gradients(policy, 1.0, 100.0)
    count = sum(parameter.numel() for parameter in policy.parameters)
    assert policy.clip_gradient() == pytest.approx(count**0.5, rel=1e-5)
    assert torch.cat([p.grad.flatten() for p in policy.parameters]).norm().item() == pytest.approx(0.5, rel=1e-4)
    assert torch.cat([p.grad.flatten() for p in policy.net.parameters()]).norm().item() == pytest.approx(0.5, rel=1e-4)
    # neither is inf nor nan unnoticed
    set_gradients(policy, 1.0, float("nan"))
    assert not policy.clip_gradient() < float("inf")


def test_its_gradient_is_set_to_zero_with_the_model_s(tiny_model: LanguageModel) -> None:
    policy = policy_of(tiny_model)
    set_gradients(policy, 1.0, 1.0)
    policy.zero_grad()
    assert not any(parameter.grad.any() for parameter in (*policy.parameters, *policy.net.parameters()))


def test_a_checkpoint_has_it_and_the_model_folder_has_not(tiny_model: LanguageModel, tmp_path: Path) -> None:
    policy = policy_of(tiny_model, lr=0.1)
    set_gradients(policy, 1.0, 1.0)
    policy.step()
    folder = checkpoint.save(tmp_path, 1, policy, keep=1, method_state={})
    saved = load_file(folder / "model.safetensors")
    assert set(saved) <= set(tiny_model.model.state_dict())
    loaded = checkpoint.load(checkpoint.latest_folder(tmp_path))
    again = policy_of(tiny_model, lr=0.1)
    assert not torch.equal(again.net.weight, policy.net.weight)
    checkpoint.restore(loaded, again, {})
    assert torch.equal(again.net.weight, policy.net.weight)
    # the optimiser's memory of it, too: the next step is the same
    for one in (policy, again):
        set_gradients(one, 1.0, -3.0)
        one.step()
    assert torch.equal(again.net.weight, policy.net.weight)


def left(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    folder = path / "checkpoints" / "step-000004"
    state = torch.load(folder / "trainer_state.pt", weights_only=True)
    return load_file(folder / "model.safetensors"), state["policy"]


@pytest.mark.parametrize("name", ["ppo", "flowrl"])
def test_a_resumed_run_keeps_the_net_to_the_last_bit(settings: Make, tmp_path: Path, name: str) -> None:
    def run(out: str, *, steps: int = 4, resume: bool = False) -> Path:
        batch = {"prompts": 4, "group": 4, "minibatch_prompts": 2, "micro_tokens": 128}
        changes = {"out": str(tmp_path / out), "steps": steps, "evaluate": {"every": 0}}
        data = settings(**changes, method={"name": name}, batch=batch)
        return train(parse(RunSettings, data, where="test"), resume=resume).path

    weights, policy = left(run("whole"))
    run("part", steps=2)
    resumed, again = left(run("part", resume=True))
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)
    assert all(torch.equal(value, again["net"][key]) for key, value in policy["net"].items())
    assert all(value.abs().sum() > 0 for value in policy["net"].values())  # ppo's starts at 0
    rates = [group["lr"] for group in policy["optimizer"]["param_groups"]]
    assert rates == pytest.approx([1e-3, 1e-2] if name == "ppo" else [1e-3, 1e-3])
    # nothing of it is in the folder that engines load
    assert not any("net" in key.split(".") for key in weights)
    assert len(policy["net"]) == (2 if name == "ppo" else 10)
