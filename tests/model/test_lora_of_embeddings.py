"""An adapter of the embedding or the head, merged: both may be one tensor."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from progrpo.model.lora import LoraSettings, attach, merged_tensors, save_merged
from stand_ins.needs import need

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_the_merged_model_is_the_adapted_one(tmp_path: Path, target: str, tied: bool) -> None:
    need("peft")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=20, tie_word_embeddings=tied, num_key_value_heads=2, **SIZES))
    attach(model, LoraSettings(r=2, target=("q_proj", target)), "base")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    save_merged(model, tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        expected = model.eval()(tokens).logits
        assert torch.allclose(merged(tokens).logits, expected, atol=1e-4)
    assert not merged.config.tie_word_embeddings
    assert model.config.tie_word_embeddings == tied
    if tied and target == "lm_head":
        return  # its own weight is named as the embedding's
    sent = dict(merged_tensors(model, model.named_parameters()))
    for name, tensor in sent.items():
        assert torch.allclose(tensor, merged.state_dict()[name], atol=1e-6)
    assert len(sent) == len(merged.state_dict()) - tied
