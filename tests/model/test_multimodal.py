"""A model that sees pictures, too, used for text: its sizes stand in the configuration of the part that reads text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

from progrpo import engines
from progrpo.algo.logprobs import token_logprobs
from progrpo.engines import Request, Sampling
from progrpo.model import ModelSettings, count_parameters, load_model
from progrpo.settings import Choice
from progrpo.train.passes import Passes
from progrpo.train.rows import TokenRows
from progrpo.train.scorer import Scorer
from stand_ins.runs import run, tiny_settings


@pytest.fixture
def folder(tiny_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A random Gemma 3 of two layers that sees pictures."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8, "sliding_window": 6}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 128, **text, **heads, **ends},
        vision_config={**vision, "image_size": 28, "patch_size": 14},
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    model.save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    return tmp_path / "gemma"


@pytest.mark.parametrize("share", [True, False])
def test_text_alone_goes_as_in_plain_passes(folder: Path, share: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Samples, scores and the gradient."""
    model = load_model(ModelSettings(path=str(folder), device="cpu", share_prompts=share))
    assert model.shares_prompts == share
    assert isinstance(model.model, Gemma3ForConditionalGeneration)
    asked = [Request(prompt_ids=model.encode_prompt(text), seeds=(1, 2)) for text in ("12+34=", "7:")]
    results = engines.load(Choice(name="hf"), model).generate(asked, Sampling(max_new_tokens=9))
    assert "slower" not in caplog.text
    prompts = [request.prompt_ids for request in asked for _ in request.seeds]
    completions = [one for result in results for one in result.completions]
    plain = []
    for prompt, one in zip(prompts, completions, strict=True):
        tokens = torch.cat([prompt, one.token_ids])[None]
        plain.append(token_logprobs(model.model(tokens).logits, tokens)[0, len(prompt) :])
        assert torch.allclose(one.sampler_logprobs, plain[-1], atol=1e-4)
    weight = model.model.get_decoder().layers[0].self_attn.q_proj.weight
    expected = torch.autograd.grad(torch.cat(plain).sum(), weight)[0]
    rows = TokenRows(prompts=tuple(prompts), completions=tuple(one.token_ids for one in completions), group=2)
    passes, got = Passes(model, Scorer(model, 1.0)), torch.zeros_like(weight)
    for micro in passes.micro_batches(rows, torch.arange(4), columns=9, budget=1000):
        logprobs = passes.forward(micro, micro.scored).logprobs
        got += torch.autograd.grad(logprobs[micro.scored].sum(), weight)[0]
    assert torch.allclose(got, expected, atol=1e-3 * float(expected.abs().max()))


def test_it_trains(folder: Path, tmp_path: Path) -> None:
    kept_each = {"steps": 1, "evaluate": {"every": 0}, "checkpoint": {"every": 1}}
    run(tiny_settings(folder, tmp_path / "run") | kept_each)
    kept = tmp_path / "run" / "checkpoints" / "step-000001"
    assert json.loads((kept / "config.json").read_text())["architectures"] == ["Gemma3ForConditionalGeneration"]
    load_model(ModelSettings(path=str(kept), device="cpu"))


def test_sizes_without_weights(folder: Path) -> None:
    sizes = count_parameters(str(folder))
    # Two layers of two heads, 8 numbers each, of keys and of values.
    assert (sizes["layers"], sizes["width"], sizes["cache_per_token"]) == (2, 32, 64)
