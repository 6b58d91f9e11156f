import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
)

from progrpo import engines, model_checks
from progrpo.engines import Request, Sampling
from progrpo.errors import DataError, ModelError
from progrpo.model import LanguageModel, ModelSettings, known_positions, load_model
from progrpo.settings import Choice

CPU = torch.device("cpu")
LONGROPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "max_position_embeddings": 256,
    "original_max_position_embeddings": 16,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0, 5.0, 8.0, 12.0],
        "original_max_position_embeddings": 16,
    },
}


def bert(**changes: Any) -> BertLMHeadModel:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return BertLMHeadModel(BertConfig(vocab_size=40, **sizes, **changes))


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_looks_ahead_is_refused(seed: int) -> None:
    torch.manual_seed(seed)
    with pytest.raises(ModelError, match=r"bert: the model is not causal.*is_decoder=true in its config"):
        model_checks.require_causal(bert(), CPU, "bert")
    model_checks.require_causal(bert(is_decoder=True), CPU, "decoder")
    model_checks.require_causal(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=2)), CPU, "gpt2")


def test_a_model_that_looks_one_token_ahead_is_refused(tiny_model: LanguageModel) -> None:
    plain = tiny_model.model.forward

    def ahead(input_ids: torch.Tensor, **kwargs: object) -> object:
        output = plain(input_ids, **kwargs)
        output.logits = output.logits + 0.01 * torch.roll(output.logits, -1, dims=1)
        return output

    tiny_model.model.forward = ahead
    with pytest.raises(ModelError, match="not causal"):
        model_checks.require_causal(tiny_model.model, CPU, "tiny")


def test_a_folder_of_bert_is_refused(tmp_path: Path, tiny_model: LanguageModel) -> None:
    bert(eos_token_id=1).save_pretrained(tmp_path)
    tiny_model.model.config.vocab_size = 40
    small = tmp_path / "small"
    tiny_model.tokenizer.save_pretrained(small)
    for file in small.glob("token*"):
        file.rename(tmp_path / file.name)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) > 40
    with pytest.raises(ModelError, match="the model embeds 40 tokens"):
        load_model(ModelSettings(path=str(tmp_path), device="cpu"))
    torch.manual_seed(0)
    BertLMHeadModel(
        BertConfig(
            vocab_size=len(tiny_model.tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            eos_token_id=1,
        )
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not causal"):
        load_model(ModelSettings(path=str(tmp_path), device="cpu"))


def test_nan_weights_are_refused_at_load(tiny_model: LanguageModel) -> None:
    with torch.no_grad():
        tiny_model.model.lm_head.weight[3] = torch.nan
    with pytest.raises(ModelError, match="its logits are nan"):
        model_checks.require_causal(tiny_model.model, CPU, "tiny")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GPT2Config(n_positions=77), 77),
        (Qwen2Config(max_position_embeddings=512), 512),
        # Qwen2.5's own instruction: 4 times 32,768
        (
            Qwen2Config(
                max_position_embeddings=32768,
                rope_parameters={
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                    "rope_theta": 1e6,
                },
            ),
            131072,
        ),
        # already counted in
        (
            LlamaConfig(
                max_position_embeddings=131072,
                rope_parameters={
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "original_max_position_embeddings": 8192,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "rope_theta": 5e5,
                },
            ),
            131072,
        ),
        # stretched as a whole, for rows of every length
        (
            LlamaConfig(
                max_position_embeddings=100,
                rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
            ),
            400,
        ),
        # of another kind beyond what the model was first trained on
        (Phi3Config(**LONGROPE), 16),
        # likewise
        (
            LlamaConfig(
                max_position_embeddings=100,
                rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
            ),
            100,
        ),
        # of one kind of layer alone
        (
            Gemma3TextConfig(
                max_position_embeddings=100,
                rope_parameters={
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                    "full_attention": {**LONGROPE["rope_parameters"], "original_max_position_embeddings": 40},
                },
            ),
            40,
        ),
    ],
)
def test_positions(config: Any, expected: int) -> None:
    assert model_checks.positions(config) == expected


@pytest.mark.parametrize(("kind", "expected"), [("dynamic", 100), ("linear", None), ("default", None)])
def test_frequencies_that_follow_the_longest_row(kind: str, expected: int | None) -> None:
    rope = {"rope_type": kind, "rope_theta": 1e4} | ({} if kind == "default" else {"factor": 4.0})
    assert model_checks.rope_border(LlamaConfig(max_position_embeddings=100, rope_parameters=rope)) == expected


def test_positions_without_weights(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert known_positions(str(folder)) == 512
    assert known_positions("embedded:countdown") == 256


@pytest.fixture
def long_folder(tiny_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A random Phi-3 whose rotary embeddings are others beyond 16 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    torch.manual_seed(0)
    Phi3ForCausalLM(Phi3Config(vocab_size=len(tokenizer), **LONGROPE)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_no_row_goes_where_it_would_change_the_others(long_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Logits of tokens that stand beside a longer row in the same pass are others: such a pass is none of ours."""
    assert known_positions(str(long_folder)) == 16
    model = load_model(ModelSettings(path=str(long_folder), device="cpu"))
    assert caplog.text.count("prompt and completion are held to 16 tokens together") == 1
    row = torch.randint(0, 40, (1, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone = model.model(row).logits
        beside = model.model(torch.cat([row, row], dim=1)).logits[:, :16]
    assert float((alone - beside).abs().max()) > 1e-3
    model.hidden(row)
    with pytest.raises(DataError, match="a row of 17 tokens, and the model's rotary embeddings change beyond 16"):
        model.hidden(row.repeat(1, 2)[:, :17])
    with pytest.raises(DataError, match="a row of 20 tokens"):
        model.hidden(row, position_ids=torch.arange(4, 20)[None])


@pytest.mark.parametrize("share", [True, False])
def test_completions_end_before_it(long_folder: Path, share: bool) -> None:
    model = load_model(ModelSettings(path=str(long_folder), device="cpu", share_prompts=share))
    sampler = engines.load(Choice(name="hf"), model)
    asked = [Request(prompt_ids=torch.arange(length), seeds=(1, 2)) for length in (4, 11)]
    for request, result in zip(asked, sampler.generate(asked, Sampling(max_new_tokens=30)), strict=True):
        assert all(len(request.prompt_ids) + len(one.token_ids) <= 16 for one in result.completions)
        assert any(one.finish == "length" for one in result.completions)
    with pytest.raises(DataError, match="16 positions, beyond which its rotary embeddings change with the longest row"):
        sampler.generate([Request(prompt_ids=torch.arange(16), seeds=(1,))], Sampling(max_new_tokens=3))
