"""Each optimiser steps as its equation says, goes on from its checkpoint to the last bit, or is refused with the reason."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from progrpo import engines
from progrpo.engines import Engine, Request, Sampling
from progrpo.engines.hf import weights as sampler_weights
from progrpo.errors import ConfigError
from progrpo.files import read_jsonl
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.settings import Choice, parse
from progrpo.train import checkpoint, optimizers
from progrpo.train.loop import train
from progrpo.train.optimizers import MuonWithAdamW, make_optimizer, require_optimizer
from progrpo.train.policy import Policy
from progrpo.train.settings import OptimSettings, RunSettings
from stand_ins.needs import need

Make = Callable[..., dict[str, Any]]
HERE = ("adamw", "adamw_8bit", "sgd", "adafactor", "muon")


def one_weight(name: str, **settings: Any) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    return weight, make_optimizer([{"params": [weight]}], OptimSettings(name=name, lr=0.1, **settings), None)


def step(weight: torch.Tensor, optimizer: torch.optim.Optimizer, *gradients: list[float]) -> list[float]:
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    return [round(float(value), 6) for value in weight.detach()]


def test_sgd_by_hand() -> None:
    assert step(*one_weight("sgd"), [1.0, 0.0], [1.0, 2.0]) == [0.8, -2.2]  # - 0.1 (1 + 1) and - 0.1 (0 + 2)
    # m = 1, then 0.5 + 1: 1 - 0.1 - 0.15
    assert step(*one_weight("sgd", momentum=0.5), [1.0, 0.0], [1.0, 0.0])[0] == 0.75
    assert step(*one_weight("sgd", weight_decay=0.5), [0.0, 0.0]) == [0.95, -1.9]  # 1 - 0.1 · 0.5 · 1


def test_adafactor_moves_by_a_share_of_the_weights_size() -> None:
    # the first step divides each entry of a vector by its own size: ±1, times lr · RMS(1, -2) = 0.1 · √2.5
    moved = step(*one_weight("adafactor"), [3.0, -5.0])
    assert moved == pytest.approx([1 - 0.1 * 2.5**0.5, -2 + 0.1 * 2.5**0.5], abs=1e-5)


def test_8_bits_move_as_32_do() -> None:
    need("bitsandbytes")
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(128, 64, generator=generator)  # smaller ones than 4,096 are kept in 32 bits
    weights = {name: torch.nn.Parameter(start.clone()) for name in ("adamw", "adamw_8bit")}
    for name, weight in weights.items():
        optimizer = make_optimizer([{"params": [weight]}], OptimSettings(name=name, lr=1e-3, weight_decay=0.1), None)
        generator.manual_seed(1)
        for _ in range(5):
            weight.grad = torch.randn(128, 64, generator=generator)
            optimizer.step()
    moved = (weights["adamw"] - start).abs().mean()
    assert (weights["adamw_8bit"] - weights["adamw"]).abs().mean() < 0.02 * moved
    assert optimizer.state[weight]["state1"].dtype == torch.uint8


def policy_of(folder: Path, name: str, **optim: Any) -> Policy:
    model = load_model(ModelSettings(path=str(folder)))
    return Policy(model, OptimSettings(name=name, lr=1e-2, **optim), steps=9, temperature=1.0)


def test_muon_steps_the_matrices_within_the_layers_and_adamw_the_rest(tiny_model: LanguageModel) -> None:
    policy = Policy(tiny_model, OptimSettings(name="muon", lr=1e-2, betas=(0.8, 0.9)), steps=9, temperature=1.0)
    plain = dict(tiny_model.model.named_parameters())
    names = {id(parameter): name for name, parameter in plain.items()}
    matrices, rest = policy.optimizer.param_groups
    assert {names[id(one)].split(".")[-2] for one in matrices["params"]} == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    assert len(matrices["params"]) == 2 * 7
    assert {"embed_tokens", "lm_head"} <= {names[id(one)].split(".")[-2] for one in rest["params"]}
    assert rest["betas"] == (0.8, 0.9)
    before = {name: parameter.detach().clone() for name, parameter in plain.items()}
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    policy.step()
    moved = {name: parameter.detach() - before[name] for name, parameter in plain.items()}
    # AdamW's first step moves each entry by lr; Muon's has singular values of about 0.2 √64 lr, 64 being the longer side
    assert torch.allclose(moved["model.norm.weight"].abs(), torch.tensor(1e-2), atol=1e-5)
    sizes = torch.linalg.svdvals(moved["model.layers.0.mlp.up_proj.weight"]) / (1e-2 * 0.2 * 8)
    assert float(sizes.min()) > 0.6
    assert float(sizes.max()) < 1.3


@pytest.mark.parametrize("copies", [{"packed": True}, {"packed": False, "precision": "bf16"}])
@pytest.mark.parametrize("name", HERE)
def test_an_engine_with_copies_samples_from_what_each_optimiser_made(
    tiny_model: LanguageModel, name: str, copies: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "adamw_8bit":
        need("bitsandbytes")
    monkeypatch.setattr(sampler_weights, "_SMALL", 0)
    engine = engines.load(Choice(name="hf", **copies), tiny_model)
    policy = Policy(tiny_model, OptimSettings(name=name, lr=0.05), steps=9, temperature=1.0)
    request = Request(prompt_ids=torch.arange(5, 14), seeds=(0,))

    def logprobs(engine: Engine) -> torch.Tensor:
        (result,) = engine.generate([request], Sampling(max_new_tokens=1), prompt_logprobs=True)
        assert result.prompt_logprobs is not None
        return result.prompt_logprobs

    for version in (1, 2):
        before = logprobs(engine)
        for parameter in tiny_model.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(version))
        policy.step()
        engine.update_weights((), version=version)
        assert torch.equal(logprobs(engine), logprobs(engines.load(Choice(name="hf", **copies), tiny_model)))
        assert not torch.equal(logprobs(engine), before)


@pytest.mark.parametrize("name", HERE)
def test_it_goes_on_from_its_checkpoint_to_the_last_bit(
    name: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    if name == "adamw_8bit":
        need("bitsandbytes")

    def go_on(policy: Policy, steps: range) -> dict[str, torch.Tensor]:
        for number in steps:
            generator = torch.Generator().manual_seed(number)
            for parameter in policy.parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            policy.step()
        return {key: value.clone() for key, value in policy.model.model.state_dict().items()}

    whole = policy_of(tiny_folder(), name, schedule="linear", **momentum)
    expected = go_on(whole, range(4))
    first = policy_of(tiny_folder(), name, schedule="linear", **momentum)
    go_on(first, range(2))
    folder = checkpoint.save(tmp_path, 2, first, keep=1, method_state={})
    second = policy_of(folder, name, schedule="linear", **momentum)
    checkpoint.restore(checkpoint.load(folder), second, {})
    after = go_on(second, range(2, 4))
    assert all(torch.equal(after[key], expected[key]) for key in expected)


def test_a_run_resumed_is_the_run_that_never_stopped(settings: Make, tmp_path: Path) -> None:
    optim, method = {"name": "muon", "lr": 1e-3}, {"name": "ppo"}  # whose net is stepped by AdamW

    def run(out: str, steps: int, *, resume: bool = False) -> Path:
        data = settings(optim=optim, method=method, steps=steps, out=str(tmp_path / out), evaluate={"every": 0})
        return train(parse(RunSettings, data, where="test"), resume=resume).path

    whole, parts = run("whole", 4), run("parts", 2)
    run("parts", 4, resume=True)
    rows = [
        [
            {key: value for key, value in row.items() if "time/" not in key and "memory" not in key}
            for row in read_jsonl(path / "metrics.jsonl")
        ]
        for path in (whole, parts)
    ]
    assert rows[0] == rows[1]
    ends = [(path / "checkpoints" / "step-000004" / "model.safetensors").read_bytes() for path in (whole, parts)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        ({"name": "adam"}, "optim.name: input should be 'adamw', 'adamw_8bit', 'sgd', 'adafactor' or 'muon'"),
        ({"name": "sgd", "betas": [0.9, 0.99]}, r"betas: sgd does not read it \(adamw, adamw_8bit, muon do\)"),
        ({"name": "adafactor", "eps": 1e-6}, "eps: adafactor does not read it"),
        ({"momentum": 0.9}, r"momentum: adamw does not read it \(sgd, muon do\)"),
    ],
)
def test_what_an_optimiser_does_not_read_is_refused(settings: Make, optim: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(RunSettings, settings(optim=optim), where="test")


@pytest.mark.parametrize("name", ["adafactor", "muon", "adamw_8bit"])
def test_what_needs_whole_matrices_is_not_sharded(settings: Make, name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"optim.name={name}: it steps whole matrices or blocks, which parallel=fsdp2"
    ):
        parse(RunSettings, settings(optim={"name": name}, parallel="fsdp2"), where="test")


def test_8_bits_need_a_package_and_muon_a_torch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'progrpo\[bitsandbytes\]'"):
        require_optimizer(OptimSettings(name="adamw_8bit"))
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match="optim.name=muon needs torch 2.9 or later"):
        require_optimizer(OptimSettings(name="muon"))


def test_8_bits_are_told_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class AdamW8bit(torch.optim.SGD):
        def __init__(self, groups: Any, **settings: Any) -> None:
            told.update(settings)
            super().__init__(groups, lr=settings["lr"])

    module = ModuleType("bitsandbytes.optim")
    module.AdamW8bit = AdamW8bit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", module)
    monkeypatch.setattr(optimizers, "require_optimizer", lambda optim: None)
    _, optimizer = one_weight("adamw_8bit", weight_decay=0.25)
    assert isinstance(optimizer, AdamW8bit)
    assert told == {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.25}


def test_muon_without_a_matrix_is_refused(tiny_model: LanguageModel) -> None:
    norms = [parameter for parameter in tiny_model.model.parameters() if parameter.ndim == 1]
    with pytest.raises(ConfigError, match="trains no matrix within its layers"):
        MuonWithAdamW([{"params": norms}], OptimSettings(name="muon"), tiny_model.model)
