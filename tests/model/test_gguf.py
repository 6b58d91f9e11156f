"""A model in a GGUF file: read as it was written, trained, and kept as a Hugging Face folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from progrpo.errors import ConfigError, ModelError
from progrpo.model import ModelSettings, config_of, count_parameters, load_model, load_tokenizer
from progrpo.model import gguf as reading
from progrpo.model.files import base_of, fingerprint, require_readable, source
from stand_ins.needs import need

NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _named(name: str) -> str:
    """What llama.cpp calls a parameter of a Qwen2."""
    if name == "lm_head.weight":
        return "output.weight"
    parts = name.removeprefix("model.").split(".")
    place = ["blk", parts[1]] if parts[0] == "layers" else []
    inner = parts[2:] if place else parts
    return ".".join([*place, NAMES[".".join(inner[:-1])], inner[-1]])


@pytest.fixture
def written(tiny_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write the tiny Qwen2 as a GGUF file of a number format, with what `add` gives to the writer; gives the file and the
    folder it is made from."""
    need("gguf")
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize
    from transformers import AutoModelForCausalLM

    def write(stored_as: str = "F32", add: Callable[[Any], None] = lambda writer: None) -> tuple[Path, Path]:
        folder = tiny_folder()
        config = json.loads((folder / "config.json").read_text())
        words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        file = tmp_path / f"tiny-{stored_as}.gguf"
        writer = GGUFWriter(file, "qwen2")
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(10000.0)
        writer.add_vocab_size(config["vocab_size"])
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        # The format wants a merge, and a merge its token, which takes the place of a letter that no text here has; and
        # Transformers gives every tokenizer of this kind an <|endoftext|>.
        renamed = {"q": "xy", "<unk>": "<|endoftext|>"}
        tokens = [renamed.get(token, token) for token in sorted(words, key=words.get)]
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens])
        writer.add_token_merges(["x y"])
        writer.add_eos_token_id(words["<eos>"])
        writer.add_pad_token_id(words["<pad>"])
        writer.add_unk_token_id(words["<unk>"])
        kind = getattr(GGMLQuantizationType, stored_as)
        for name, parameter in AutoModelForCausalLM.from_pretrained(folder).state_dict().items():
            numbers = parameter.float().numpy()
            if numbers.ndim == 2 and stored_as != "F32":
                writer.add_tensor(_named(name), quantize(numbers, kind), raw_dtype=kind)
            else:
                writer.add_tensor(_named(name), numbers)
        add(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file, folder

    return write


def load(path: Path, **settings: Any) -> Any:
    return load_model(ModelSettings(path=str(path), device="cpu", **settings))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model.model(input_ids=torch.tensor([[5, 9, 7, 12, 4]])).logits
    return out


@pytest.mark.parametrize(("stored_as", "tolerance"), [("F32", 1e-6), ("Q8_0", 2e-2)])
def test_it_is_the_model_that_was_written(written: Any, stored_as: str, tolerance: float) -> None:
    """Q8_0 keeps 8 bits of each weight: an error of at most 1/254 of the largest of 32."""
    file, folder = written(stored_as)
    ours, theirs = load(file), load(folder)
    assert all(parameter.dtype == torch.float32 for parameter in ours.model.parameters())
    size = float(logits(theirs).abs().max())
    assert float((logits(ours) - logits(theirs)).abs().max()) < tolerance * size
    assert (stored_as == "F32") == torch.allclose(logits(ours), logits(theirs), rtol=0, atol=1e-6 * size)
    assert ours.stop_ids == theirs.stop_ids
    assert ours.positions == theirs.positions == 512
    text = "12+3=15 abc"
    assert ours.encode_prompt(text).tolist() == theirs.encode_prompt(text).tolist()
    assert ours.decode(ours.encode_prompt(text)) == text


def test_it_trains_and_is_kept_as_a_folder(written: Any, tmp_path: Path) -> None:
    file, _ = written("Q8_0")
    model = load(file)
    model.model(input_ids=torch.tensor([[5, 9, 7]])).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.model.parameters())
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(0.01 * parameter.grad.sign())
    model.model.save_pretrained(tmp_path / "kept")
    model.tokenizer.save_pretrained(tmp_path / "kept")
    assert (tmp_path / "kept" / "model.safetensors").is_file()
    again = load(tmp_path / "kept")
    assert torch.equal(logits(again), logits(model))
    assert again.encode_prompt("7*8").tolist() == model.encode_prompt("7*8").tolist()


SCALES: dict[str, Callable[[Any], None]] = {
    "rope_freqs.weight": lambda writer: writer.add_tensor("rope_freqs.weight", np.array([1, 8], dtype=np.float32)),
    "rope_factors_long.weight": lambda writer: writer.add_tensor("rope_factors_long.weight", np.ones(2, np.float32)),
    "qwen2.rope.scaling.type=yarn": lambda writer: writer.add_string("qwen2.rope.scaling.type", "yarn"),
    "qwen2.rope.scaling.factor=4.0": lambda writer: writer.add_float32("qwen2.rope.scaling.factor", 4.0),
}


@pytest.mark.parametrize("said", SCALES)
def test_scaled_rotary_embeddings_are_refused(written: Any, said: str) -> None:
    """Transformers reads neither the tensors nor the keys, and would give another model without a word."""
    file, _ = written(add=SCALES[said])
    for read in (load, lambda path: config_of(str(path)), lambda path: count_parameters(str(path))):
        with pytest.raises(ModelError, match=rf"embeddings are scaled \({said}\).*take the Hugging Face folder or id"):
            read(file)


def test_rotary_embeddings_that_are_not_scaled(written: Any) -> None:
    def plain(writer: Any) -> None:
        writer.add_string("qwen2.rope.scaling.type", "none")
        writer.add_float32("qwen2.rope.scaling.factor", 1.0)
        writer.add_array("general.tags", ["rope_freqs.weight", "b"])

    load(written(add=plain)[0])


def test_rotary_embeddings_whose_scaling_is_read(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = written(add=SCALES["rope_freqs.weight"])
    known = AutoConfig.from_pretrained(folder)
    known.rope_parameters = {"rope_type": "llama3", "rope_theta": 1e4}
    monkeypatch.setattr(reading, "_config", lambda *_: known)
    assert config_of(str(file)).rope_parameters["rope_type"] == "llama3"


def test_a_head_that_is_cut_short(written: Any) -> None:
    file, _ = written()
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ModelError, match="its head cannot be read"):
        config_of(str(file))


def test_what_is_known_without_the_weights(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration and the tokenizer are read once, and whoever gets them may change his own."""
    file, folder = written()
    sizes, same = count_parameters(str(file)), count_parameters(str(folder))
    assert sizes == same
    assert base_of(str(file)) == str(file)
    require_readable(str(file))
    first = load_tokenizer(ModelSettings(path=str(file)))
    first.pad_token = "a"
    config_of(str(file)).vocab_size = 1
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", None)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", None)
    assert config_of(str(file)).vocab_size == sizes["vocabulary"]
    assert load_tokenizer(ModelSettings(path=str(file))).pad_token == "<pad>"
    mark = fingerprint(str(file))
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    assert mark != fingerprint(str(file))


def test_an_adapter_names_the_file_as_its_base(written: Any, tmp_path: Path) -> None:
    need("peft")
    from progrpo.model.lora import LoraSettings, save_adapter

    file, _ = written()
    model = load(file, lora=LoraSettings(r=2))
    (tmp_path / "adapter").mkdir()
    save_adapter(model.model, tmp_path / "adapter", None)
    assert base_of(str(tmp_path / "adapter")) == str(file)


def test_a_run_from_the_file(written: Any, tmp_path: Path) -> None:
    """Train, keep a checkpoint, go on from it: as from any folder."""
    from progrpo.api.train import train

    file, _ = written()
    settings = {
        "steps": 1,
        "model": {"path": str(file), "device": "cpu"},
        "method": "grpo",
        "task": {"name": "countdown", "train_size": 4, "test_size": 2},
        "batch": {"prompts": 2, "group": 2},
        "sampling": {"max_new_tokens": 4},
        "evaluate": {"every": 0},
        "checkpoint": {"every": 1},
        "out": str(tmp_path / "run"),
    }
    train(settings, progress=False)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000001"
    assert (checkpoint / "model.safetensors").is_file()
    load(checkpoint)
    train({**settings, "steps": 2}, resume=True, progress=False)
    assert (tmp_path / "run" / "checkpoints" / "step-000002" / "model.safetensors").is_file()


# --- without the package ---


def test_without_the_package_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'progrpo\[gguf\]'"):
        load(file)
    monkeypatch.setattr(reading, "find_spec", lambda name: object())
    assert source(str(file)) == (str(tmp_path), {"gguf_file": "a.gguf"})


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGML and more")
    with pytest.raises(ModelError, match=r"a\.gguf cannot be read \(does not begin as GGUF files do\)"):
        require_readable(str(tmp_path / "a.gguf"))
    with pytest.raises(ModelError, match=r"no such file \(did you mean .*a\.gguf\?\)"):
        load(tmp_path / "b.gguf")
    with pytest.raises(ModelError, match="no such file; expected"):
        load(tmp_path / "nowhere" / "b.gguf")


def test_weights_cannot_be_packed_anew() -> None:
    with pytest.raises(ConfigError, match="model.load_in_4bit"):
        reading.dequantized({"gguf_file": "a.gguf"}, in_4bit=True)
    assert reading.dequantized({}, in_4bit=True) == {}
