import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from progrpo.errors import ConfigError, DataError, ModelError
from progrpo.model import LanguageModel, ModelSettings, count_parameters, load_model, pick_device, wrap_model


def test_hidden_and_head_make_the_model_s_logits(tiny_model: LanguageModel) -> None:
    tokens = torch.tensor([[5, 6, 7, 8]])
    assert tiny_model.split
    assert torch.allclose(tiny_model.head(tiny_model.hidden(tokens)), tiny_model.model(tokens).logits, atol=1e-5)


def test_a_model_that_changes_its_logits_afterwards_is_found_out(
    tiny_model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    plain = tiny_model.model.forward

    def capped(*args: object, **kwargs: object) -> object:
        output = plain(*args, **kwargs)
        output.logits = 5 * torch.tanh(output.logits / 5)  # as Gemma 2 does
        return output

    tiny_model.model.forward = capped
    with caplog.at_level(logging.WARNING):
        wrapped = wrap_model(tiny_model.model, tiny_model.tokenizer, device=torch.device("cpu"))
    tokens = torch.tensor([[5, 6, 7, 8]])
    assert not wrapped.split
    assert "transforms its logits after the head" in caplog.text
    assert torch.equal(wrapped.head(wrapped.hidden(tokens)), tiny_model.model(tokens).logits)


def test_no_end_token_is_refused(tiny_model: LanguageModel) -> None:
    tiny_model.model.config.eos_token_id = None
    tiny_model.model.generation_config.eos_token_id = None
    tiny_model.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token, so no completion could ever end; set eos_token"):
        wrap_model(tiny_model.model, tiny_model.tokenizer, device=torch.device("cpu"))


def test_several_end_tokens(tiny_model: LanguageModel) -> None:
    tiny_model.model.generation_config.eos_token_id = [4, 7]
    wrapped = wrap_model(tiny_model.model, tiny_model.tokenizer, device=torch.device("cpu"))
    assert wrapped.stop_ids == {1, 4, 7}


def test_a_folder_without_a_tokenizer_is_refused(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder(), tmp_path / "model"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match=r"no tokens but special ones; expected tokenizer.json"):
        load_model(ModelSettings(path=str(folder)))


def test_no_pad_token_is_refused_until_one_is_named(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("pad_token")
    path.write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match="no pad token; name one with model.pad_token, for instance model.pad_token='<eos>'"
    ):
        load_model(ModelSettings(path=str(folder), device="cpu"))
    model = load_model(ModelSettings(path=str(folder), device="cpu", pad_token="<eos>"))
    assert model.pad_id in model.stop_ids


def test_a_pad_token_beyond_the_embedding_is_refused(tiny_folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"the pad token '\[PAD\]' has id \d+, but the model embeds"):
        load_model(ModelSettings(path=str(tiny_folder()), pad_token="[PAD]"))


def test_a_pad_token_without_an_embedding_may_be_replaced(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # as many fine-tunes of Llama 2 were published
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=rf"the pad token '\[PAD\]' has id {rows}, but the model embeds {rows}"):
        load_model(ModelSettings(path=str(folder), device="cpu"))
    model = load_model(ModelSettings(path=str(folder), device="cpu", pad_token="<eos>"))
    assert model.pad_id == tokenizer.eos_token_id
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=rf"token '<think>' has id {rows + 1}, but"):
        load_model(ModelSettings(path=str(folder), device="cpu", pad_token="<eos>"))


def test_dropout_is_off_in_training(tmp_path: Path, tiny_model: LanguageModel) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = len(tiny_model.tokenizer)
    config = GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, eos_token_id=1, bos_token_id=None)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tiny_model.tokenizer.save_pretrained(tmp_path)
    model = load_model(ModelSettings(path=str(tmp_path)))
    tokens = torch.arange(9)[None, :]
    sampled, trained = model.model.eval()(tokens).logits, model.model.train()(tokens).logits
    assert torch.equal(sampled, trained)


def test_prompts(tiny_folder: Callable[..., Path]) -> None:
    model = load_model(ModelSettings(path=str(tiny_folder(chat=True)), device="cpu"))
    assert model.decode(model.encode_prompt("1+2=")) == "1+2="
    messages = ({"role": "user", "content": "hi"},)
    assert model.decode(model.encode_prompt(messages)) == "u:hia:"
    with pytest.raises(DataError, match="the prompt has no tokens"):
        model.encode_prompt("")


def test_the_embedded_model_is_small_and_loads() -> None:
    model = load_model(ModelSettings(path="embedded:countdown", device="cpu"))
    folder = Path(model.model.config._name_or_path)
    assert (folder / "model.safetensors").stat().st_size <= 4 * 2**20
    assert model.model.config.model_type == "qwen2"
    prompt = "1 2 3 4=24:"
    assert model.decode(model.encode_prompt(prompt)) == prompt
    assert len(model.encode_prompt(prompt)) == len(prompt)  # one token per character


def test_sizes_without_weights(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    sizes = count_parameters(str(folder))
    assert sizes["layers"] == 2
    assert sizes["cache_per_token"] == 2 * 2 * 2 * 8  # keys and values, 2 layers, 2 heads of width 8
    assert sizes["parameters"] > 10_000


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="'quantum' cannot be used here"):
        pick_device("quantum")
