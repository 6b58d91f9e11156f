"""A model that is read to be sharded is the model that is read whole, bit for bit, and is not held beside its files."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from progrpo.errors import ModelError
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.model.shards import load_reference, load_to_shard
from progrpo.settings import parse
from stand_ins.needs import need

Stored = Callable[..., Path]

GEMMA = {"architecture": "gemma3_text", "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 256}
"""Scales its embeddings by sqrt(32) = 5.657, a buffer that no file holds; built in bf16 it would be 5.656."""


def settings(folder: Path, **more: Any) -> ModelSettings:
    return parse(ModelSettings, {"path": str(folder), "device": "cpu", **more}, where="test")


def parameters(model: LanguageModel) -> dict[str, torch.nn.Parameter]:
    return dict(model.model.named_parameters(remove_duplicate=False))


def same_model(whole: LanguageModel, stored: LanguageModel, sampler: LanguageModel) -> None:
    expected, kept, copied = map(parameters, (whole, stored, sampler))
    assert expected.keys() == kept.keys() == copied.keys()
    for name, value in expected.items():
        assert torch.equal(value.data, kept[name].data.float()), name
        assert value.requires_grad == kept[name].requires_grad
        assert torch.equal(value.data.to(copied[name].dtype), copied[name].data), name
        assert not copied[name].requires_grad
    assert len(list(stored.model.parameters())) == len(list(whole.model.parameters()))  # what is tied is one
    for model in (stored, sampler):
        buffers = dict(model.model.named_buffers())
        assert buffers.keys() == dict(whole.model.named_buffers()).keys()
        for name, buffer in whole.model.named_buffers():
            assert buffers[name].dtype == buffer.dtype
            assert torch.equal(buffers[name], buffer), name
        for flag in ("split", "shares_prompts", "stop_ids", "positions", "precision"):
            assert getattr(model, flag) == getattr(whole, flag)
        assert str(model.model.config) == str(whole.model.config)
        assert model.model.name_or_path == whole.model.name_or_path


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stored_as", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", [{}, GEMMA], ids=["qwen2, tied", "gemma3"])
def test_it_is_the_model_that_is_read_whole(
    kind: dict[str, Any], stored_as: torch.dtype, precision: str, tiny_stored: Stored
) -> None:
    made = settings(tiny_stored(stored_as, **kind), precision=precision, gradient_checkpointing=True)
    whole = load_model(made)
    trained, sampler = load_to_shard(made)
    same_model(whole, trained, sampler)
    assert {value.dtype for value in parameters(trained).values()} == {stored_as}
    halves = {name for name, value in parameters(sampler).items() if value.dtype == torch.bfloat16}
    linear = {name for name in parameters(sampler) if "proj" in name or "lm_head" in name}
    assert halves == (linear if precision == "bf16" else set())
    for like in (trained, sampler):
        reference = load_reference(made, like)
        for name, value in parameters(whole).items():
            assert torch.equal(value.data, parameters(reference)[name].data.float())
            assert not parameters(reference)[name].requires_grad
        assert not reference.model.training
    tokens = torch.arange(8)[None]
    with torch.no_grad(), whole.computing():
        logits = whole.model.eval()(input_ids=tokens).logits
        assert torch.equal(logits, sampler.model(input_ids=tokens).logits)


def test_an_adapter_is_drawn_as_on_the_whole_model(tiny_stored: Stored) -> None:
    need("peft")
    made = settings(tiny_stored(torch.bfloat16), precision="bf16", lora={"r": 4, "dropout": 0.5})
    torch.manual_seed(5)
    whole, after = load_model(made), torch.rand(1)
    torch.manual_seed(5)
    (trained, sampler), then = load_to_shard(made), torch.rand(1)
    assert after == then
    same_model(whole, trained, sampler)
    assert {value.dtype for name, value in parameters(trained).items() if ".lora_" in name} == {torch.float32}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what a process has mapped is asked of Linux")
def test_weights_stay_in_their_files(tiny_stored: Stored) -> None:
    folder = tiny_stored(torch.bfloat16)
    trained, sampler = load_to_shard(settings(folder))
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(folder / "model.safetensors"))
    ]

    def mapped(model: LanguageModel) -> set[bool]:
        places = [value.data_ptr() for value in model.model.parameters()]
        return {any(first <= place < last for first, last in ranges) for place in places}

    assert mapped(trained) == {True}
    assert mapped(sampler) == {False}


def test_files_of_several_number_formats_are_read_whole(
    tiny_stored: Stored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(tiny_stored(torch.bfloat16), tmp_path / "mixed")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].float() + 1e-6  # no bf16 holds it
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    same_model(load_model(settings(folder)), *load_to_shard(settings(folder)))
    assert "not stored as safetensors of one number format" in caplog.text


def test_weights_that_do_not_fit_are_refused(tiny_stored: Stored, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_stored(torch.bfloat16), tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    weights["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(3, 3, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"are not in the files and would be random \(model.norm.weight\)"):
        load_to_shard(settings(folder))
    weights["model.norm.weight"] = torch.full((32,), float("nan"), dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"have another shape .*q_proj.weight: \[3, 3\] for \[32, 32\]"):
        load_to_shard(settings(folder))
    weights["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(32, 32, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="its logits are nan"):
        load_to_shard(settings(folder))
