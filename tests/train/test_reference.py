"""The model before training: a frozen copy, or the policy with its adapter switched off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from progrpo.methods import _method
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.settings import parse
from progrpo.train import reference
from progrpo.train.loop import train
from progrpo.train.passes import Passes
from progrpo.train.reference import Reference
from progrpo.train.rows import make_rows
from progrpo.train.scorer import Scorer
from progrpo.train.settings import RunSettings
from progrpo.types import Group

Make = Callable[..., dict[str, Any]]


def scored(one: Reference | Passes, groups: tuple[Group, ...]) -> Tensor:
    return one.score(make_rows(groups), torch.arange(12), columns=9, budget=60).logprobs


def test_a_frozen_copy_does_not_follow_the_policy(groups: tuple[Group, ...], tiny_folder: Callable[..., Path]) -> None:
    settings = ModelSettings(path=str(tiny_folder()), gradient_checkpointing=True)
    policy = load_model(settings)
    frozen = Reference(policy, settings, 1.5)
    before = scored(frozen, groups)
    assert torch.allclose(before, scored(Passes(policy, Scorer(policy, 1.5)), groups), atol=1e-5)
    assert not torch.allclose(
        before, scored(Passes(policy, Scorer(policy, 1.0)), groups), atol=1e-3
    )  # the temperature counts
    # ten steps of an optimiser on the policy
    policy.model.train()
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        policy.model(torch.arange(12)[None]).logits.square().mean().backward()
        optimizer.step()
    assert torch.equal(scored(frozen, groups), before)
    assert not torch.allclose(scored(Passes(policy, Scorer(policy, 1.5)), groups), before, atol=1e-3)
    fresh = load_model(settings)
    assert torch.allclose(scored(Passes(fresh, Scorer(fresh, 1.5)), groups), before, atol=1e-6)


def test_a_frozen_copy_has_nothing_to_train(tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[LanguageModel] = []

    def spy(settings: ModelSettings, *, again: bool, merge: bool) -> LanguageModel:
        assert again
        assert merge
        assert not settings.gradient_checkpointing
        made.append(load_model(settings))
        return made[-1]

    monkeypatch.setattr(reference, "load_model", spy)
    settings = ModelSettings(path=str(tiny_folder()), gradient_checkpointing=True)
    policy = load_model(settings)
    Reference(policy, settings, 1.0)
    (copy,) = made
    assert not any(parameter.requires_grad for parameter in copy.model.parameters())
    assert not copy.model.training
    assert all(parameter.requires_grad for parameter in policy.model.parameters())


class Adapter:
    """What Transformers gives a model with adapters: two switches, here of a shift of the first layer's output."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on, self.calls = True, []
        shift = torch.randn(32, generator=torch.Generator().manual_seed(0))
        model.base_model.layers[0].register_forward_hook(
            lambda module, args, output: output + shift if self.on else output
        )
        monkeypatch.setattr(model, "_hf_peft_config_loaded", True, raising=False)
        monkeypatch.setattr(model, "disable_adapters", lambda: self.switch(False), raising=False)
        monkeypatch.setattr(model, "enable_adapters", lambda: self.switch(True), raising=False)

    def switch(self, on: bool) -> None:
        self.on = on
        self.calls.append(on)


def no_second_model(settings: ModelSettings) -> LanguageModel:
    raise AssertionError("a second model was loaded")


def test_a_model_with_an_adapter_is_its_own_reference(
    groups: tuple[Group, ...], tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = scored(Passes(tiny_model, Scorer(tiny_model, 1.5)), groups)
    adapter = Adapter(tiny_model.model, monkeypatch)
    adapted = scored(Passes(tiny_model, Scorer(tiny_model, 1.5)), groups)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    monkeypatch.setattr(reference, "load_model", no_second_model)
    own = Reference(tiny_model, ModelSettings(path="nowhere"), 1.5)
    assert torch.equal(scored(own, groups), plain)
    assert adapter.calls == [False, True]
    assert torch.equal(scored(Passes(tiny_model, Scorer(tiny_model, 1.5)), groups), adapted)


def test_the_adapter_is_on_again_when_scoring_fails(
    groups: tuple[Group, ...], tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = Adapter(tiny_model.model, monkeypatch)
    own = Reference(tiny_model, ModelSettings(path="nowhere"), 1.5)

    def fails(self: LanguageModel, *args: object, **kwargs: object) -> Tensor:
        assert not adapter.on
        raise RuntimeError("out of memory")

    monkeypatch.setattr(LanguageModel, "hidden", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        scored(own, groups)
    assert adapter.on
    assert adapter.calls == [False, True]


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / "checkpoints" / "step-000004" / "model.safetensors")


def test_the_divergence_grows_from_zero_and_a_resumed_run_keeps_the_model_before_training(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float] = []
    plain = _method.kl_estimate

    def spy(logprobs: Tensor, ref_logprobs: Tensor, *, kind: str) -> Tensor:
        found.append(float((logprobs.detach() - ref_logprobs).abs().max()))
        return plain(logprobs, ref_logprobs, kind=kind)

    monkeypatch.setattr(_method, "kl_estimate", spy)

    def run(name: str, *, steps: int = 4, resume: bool = False, kl_coef: float = 0.5) -> Path:
        method = {"name": "grpo", "kl_coef": kl_coef}
        # one micro-batch, so that one estimate is made a step
        batch = {"prompts": 4, "group": 4, "micro_tokens": 10_000}
        changes = {"out": str(tmp_path / name), "steps": steps, "evaluate": {"every": 0}}
        data = settings(**changes, method=method, batch=batch)
        return train(parse(RunSettings, data, where="test"), resume=resume).path

    whole = weights(run("whole"))
    assert len(found) == 4
    assert found[0] < 1e-4  # the policy is the reference
    assert all(gap > 1e-3 for gap in found[1:])
    first = list(found)
    found.clear()
    run("part", steps=2)
    resumed = weights(run("part", resume=True))
    assert found == first  # to the last bit: not the checkpoint, but the model before training
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    found.clear()
    free = weights(run("free", kl_coef=0.0))
    assert found == []
    assert not all(torch.equal(whole[name], free[name]) for name in whole)
