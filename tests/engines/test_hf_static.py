"""Static batches with Transformers' own cache: models whose layers keep a state, and those it does not hold for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from progrpo import engines
from progrpo.algo.logprobs import token_logprobs
from progrpo.engines import Engine, Generated, Request, Sampling
from progrpo.engines.hf import static
from progrpo.errors import ModelError
from progrpo.model import LanguageModel, wrap_model
from progrpo.settings import Choice

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
LAYERS = {
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"], "head_dim": 8, **LINEAR},
    # Attention and a state in each layer.
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
}
SAMPLING = Sampling(max_new_tokens=10, temperature=1.2)


@pytest.fixture
def built(tiny_folder: Callable[..., Path]) -> Callable[..., LanguageModel]:
    """A random model of an architecture, with distributions far from uniform."""

    def make(architecture: str, **sizes: Any) -> LanguageModel:
        tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
        torch.manual_seed(0)
        config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **ends, **sizes)
        model = AutoModelForCausalLM.from_config(config).float()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.mul_(8)
        return wrap_model(model, tokenizer, device=torch.device("cpu"), name=architecture)

    return make


def engine(model: LanguageModel) -> Engine:
    return engines.load(Choice(name="hf", max_rows=6), model)


def generate(model: LanguageModel) -> list[tuple[Request, Generated]]:
    """Prompts of unequal length, whose completions end one after the other."""
    asked = [("12+34=", 3, None), ("7:", 2, 4), ("1234567890 abc", 3, 7)]
    requests = [
        Request(prompt_ids=model.encode_prompt(prompt), seeds=tuple(range(count)), limit=limit)
        for prompt, count, limit in asked
    ]
    return list(zip(requests, engine(model).generate(requests, SAMPLING), strict=True))


@pytest.mark.parametrize("architecture", LAYERS)
def test_states_follow_their_rows(built: Callable[..., LanguageModel], architecture: str) -> None:
    model = built(architecture, **SIZES, **HEADS, **LAYERS[architecture])
    assert not model.shares_prompts
    for request, result in generate(model):
        for completion in result.completions:
            tokens = torch.cat([request.prompt_ids, completion.token_ids])[None]
            with torch.no_grad():
                logprobs = token_logprobs(model.model.eval()(tokens).logits, tokens, temperature=1.2)[0]
            assert torch.allclose(completion.sampler_logprobs, logprobs[len(request.prompt_ids) :], atol=1e-4)


def test_a_model_that_keeps_its_state_elsewhere_is_refused(built: Callable[..., LanguageModel]) -> None:
    """RWKV takes no past_key_values: each token would be drawn from the one before it alone."""
    model = built("rwkv", hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=64)
    with pytest.raises(
        ModelError, match=r"a model of type rwkv cannot be sampled from.*log-probs differ.*engine\.name="
    ):
        generate(model)


@pytest.mark.parametrize("kind", ["padding", "leaving"])
def test_what_only_some_rows_show_is_found(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A model without batches of unequal prompts, and a cache whose rows stay where they are as others leave."""
    model = replace(tiny_model, shares_prompts=False, stop_ids=frozenset({10**6}))
    generate(model)
    if kind == "padding":
        plain = LanguageModel.hidden
        monkeypatch.setattr(
            LanguageModel, "hidden", lambda self, ids, **rest: plain(self, ids, **(rest | {"attention_mask": None}))
        )
    else:
        reorder = static.DynamicCache.reorder_cache

        def stay(self: Any, rows: torch.Tensor) -> None:
            leaving = len(rows) < len(self.layers[0].keys)
            reorder(self, torch.arange(len(rows)) if leaving else rows)

        monkeypatch.setattr(static.DynamicCache, "reorder_cache", stay)
    with pytest.raises(ModelError, match=r"a model of type qwen2 cannot be sampled from"):
        generate(model)


@pytest.mark.parametrize("share", [True, False])
def test_the_trial_draws_no_random_number(tiny_model: LanguageModel, share: bool) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    generate(replace(tiny_model, shares_prompts=share))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
