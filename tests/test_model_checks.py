import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, Qwen2Config

from progrpo import model_checks
from progrpo.errors import ModelError
from progrpo.model import LanguageModel, ModelSettings, known_positions, load_model

CPU = torch.device("cpu")


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
    from transformers import AutoTokenizer

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
    ],
)
def test_positions(config: Any, expected: int) -> None:
    assert model_checks.positions(config) == expected


def test_positions_without_weights(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert known_positions(str(folder)) == 512
    assert known_positions("embedded:countdown") == 256
