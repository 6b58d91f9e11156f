"""An adapter on weights in 4 bits: its gradient is that of the numbers they stand for; so is what is sampled and merged."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from transformers import AutoModelForCausalLM

from progrpo.api.subject import Subject, find_model
from progrpo.errors import ConfigError
from progrpo.files import read_jsonl
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.model.lora import merged_tensors
from progrpo.model.quantized import dequantized
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def bitsandbytes(lacks: Callable[[str], NoReturn]) -> None:
    if find_spec("bitsandbytes") is None:
        lacks("bitsandbytes is missing: pip install 'progrpo[qlora]'")


def in_4_bits(folder: Path) -> LanguageModel:
    made = {"path": str(folder), "device": "cpu", "load_in_4bit": True, "lora": {"r": 4}}
    model = load_model(parse(ModelSettings, made, where="test"), again=True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=generator)
    return model


def logits(model: Any) -> torch.Tensor:
    result: torch.Tensor = model.eval()(torch.arange(5, 25)[None]).logits
    return result


@pytest.mark.usefixtures("bitsandbytes")
def test_gradients_pass_through_the_base_also_after_sampling(tiny_folder: Callable[..., Path]) -> None:
    quantized = in_4_bits(tiny_folder()).model
    with torch.no_grad():
        logits(quantized)  # where bitsandbytes would pack the weights of a model that is not in training
    plain = load_model(
        parse(ModelSettings, {"path": str(tiny_folder()), "device": "cpu", "lora": {"r": 4}}, where="test"), again=True
    ).model
    ours = dict(quantized.named_parameters())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(dequantized(ours[name], ours[name]))
    for model in (quantized, plain):
        logits(model)[0, :, :50].logsumexp(-1).sum().backward()
    seen = 0
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            other = ours[name].grad
            assert other is not None
            torch.testing.assert_close(other, parameter.grad, rtol=1e-4, atol=1e-6)
            seen += 1
    assert seen == 2 * 7 * 2  # A and B of 7 matrices of 2 layers


@pytest.mark.usefixtures("bitsandbytes")
def test_merged_weights_are_the_adapter_on_the_numbers_of_the_4_bits(tiny_folder: Callable[..., Path]) -> None:
    model = in_4_bits(tiny_folder()).model
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder())
    tensors = dict(merged_tensors(model, model.named_parameters()))
    assert tensors.keys() == dict(plain.named_parameters()).keys()
    plain.load_state_dict(tensors, strict=False)
    torch.testing.assert_close(logits(plain), logits(model), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("bitsandbytes")
def test_a_run_samples_from_what_it_trains_and_merges_it(settings: Make, tmp_path: Path) -> None:
    made = settings(evaluate={"every": 0}, checkpoint={"every": 4, "merged": True}, out=str(tmp_path / "run"))
    made["model"] = made["model"] | {"lora": {"r": 4}, "load_in_4bit": True}
    run = train(parse(RunSettings, made, where="test"))
    rows = read_jsonl(run.path / "metrics.jsonl")
    assert max(row["sampler/gap"] for row in rows) < 1e-5
    assert all(row["policy/grad_norm"] > 0 for row in rows)
    folder = run.path / "checkpoints" / "step-000004"
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged")
    trained = load_model(parse(ModelSettings, made["model"], where="test"), again=True, adapter=folder).model
    torch.testing.assert_close(logits(merged), logits(trained), rtol=1e-4, atol=1e-5)
    # Every other verb finds it by the run, or by its checkpoint, as it was trained: on 4 bits.
    for path in (run.path, folder):
        about, _ = find_model(str(path), Subject(), where="test")
        torch.testing.assert_close(logits(load_model(about, again=True).model), logits(trained), rtol=1e-4, atol=1e-5)


def test_without_bitsandbytes_the_package_is_named(
    tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progrpo.model.quantized.find_spec", lambda name: None)
    settings = {"path": str(tiny_folder()), "device": "cpu", "load_in_4bit": True, "lora": {}}
    with pytest.raises(ConfigError, match=r"bitsandbytes: pip install 'progrpo\[qlora\]'"):
        load_model(parse(ModelSettings, settings, where="test"), again=True)
