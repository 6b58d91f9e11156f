"""Low-rank adapters (LoRA, arXiv:2106.09685) by peft: attached to a loaded model, saved, read back, and merged.

W x becomes W x + (alpha / r) B A x, with A [r, in] drawn at random and B [out, r] zero: at first the model is the base model to
the last bit. Only A and B are trained. Switched off, the adapter leaves the base model: a method's reference costs no memory.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from progrpo.errors import ConfigError, ModelError
from progrpo.model.files import base_of, named_failure, resolve_path
from progrpo.model.quantized import dequantized
from progrpo.settings import Settings

_NAME = "default"
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
"""Before every key of an adapter's file, as peft writes it."""
_OF_4_BITS = (".weight.absmax", ".weight.quant_map", ".weight.nested_", ".weight.quant_state.")
"""In the keys of what bitsandbytes keeps beside a weight in 4 bits."""


class LoraSettings(Settings):
    r: int = Field(16, ge=1)
    """Rank of the update of each matrix."""
    alpha: float | None = Field(None, gt=0)
    """The update is scaled by alpha / r; None takes 2 r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the adapter's input while training. Above 0 the policy that is trained is not quite the one that sampled."""
    target: str | tuple[str, ...] = "all-linear"
    """Modules that get an adapter, by the end of their names ([q_proj, v_proj]), or all linear ones but the head."""


def require_peft() -> None:
    """Raises ConfigError if peft is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ConfigError("model.lora needs the package peft: pip install 'progrpo[lora]'") from None


def attach(model: Any, settings: LoraSettings, base: str) -> None:
    """Give a Transformers model an adapter, in place; nothing else of it is trained any more.

    Args:
        base: folder or hub id of the model, to be named in the adapter's file.

    Raises:
        ConfigError: no module is called so, or peft is not installed.
    """
    require_peft()
    if is_adapted(model):
        raise ConfigError(
            f"model.path={base}: is an adapter already, and model.lora would train another on top of it; give the model with "
            "the adapter merged (checkpoint.merged=true writes it, and peft's merge_and_unload), leave model.lora out to train "
            "all weights from it, or resume the run"
        )
    from peft import LoraConfig

    target = settings.target if isinstance(settings.target, str) else list(settings.target)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha or 2 * settings.r,
        lora_dropout=settings.dropout,
        target_modules=target,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    try:
        model.add_adapter(config, adapter_name=_NAME)
    except ValueError as error:
        raise ConfigError(f"model.lora.target={settings.target!r}: {str(error).splitlines()[0]}") from error
    config.base_model_name_or_path = base
    if not isinstance(target, str):
        _require_all(model, target)


def _require_all(model: Any, target: Sequence[str]) -> None:
    """Raises ConfigError where a name of `model.lora.target` stands for no module: peft is content if one of them does."""
    adapted = [name.rpartition(".lora_A")[0] for name, _ in model.named_modules() if name.endswith(".lora_A")]
    for one in target:
        if not any(name == one or name.endswith(f".{one}") for name in adapted):
            known = sorted({name.rpartition(".")[2] for name, _ in model.named_modules()} - {""})
            near = get_close_matches(one, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"model.lora.target: no module is called {one!r}{hint}")


def folder_to_merge(path: str) -> Path | None:
    """The folder of an adapter that a model is to start from; None where `path` is no such folder."""
    if base_of(path) == path:
        return None
    require_peft()
    return Path(resolve_path(path))


def with_adapter_added(model: Any, folder: Path) -> Any:
    """A base model with an adapter, of any kind that peft can merge, added to its weights; it is changed in place.

    Raises:
        ModelError: the adapter cannot be read, does not fit, or is of a kind that changes no weights.
    """
    from peft import PeftModel

    with named_failure(str(folder)):
        adapted = PeftModel.from_pretrained(model, str(folder))
        if not hasattr(adapted.base_model, "merge_and_unload"):
            kind = adapted.peft_config[_NAME].peft_type.value
            raise ModelError(
                f"model {str(folder)!r}: an adapter of kind {kind} changes no weights, so that none can be trained"
            )
        return adapted.merge_and_unload().requires_grad_(True)


def is_adapted(model: Any) -> bool:
    """Whether a model trains an adapter."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def read_adapter(model: Any, folder: Path) -> None:
    """Read an adapter that `save_adapter` wrote into one of the same shape.

    Raises:
        ModelError: the file is not there or does not fit.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    path = folder / _WEIGHTS
    if not path.is_file():
        raise ModelError(f"{folder} holds no adapter ({_WEIGHTS}); it was written without model.lora")
    state = {key.removeprefix(_PREFIX): value for key, value in load_file(path).items()}
    result = set_peft_model_state_dict(model, state, adapter_name=_NAME)
    absent = [key for key in result.missing_keys if "lora_" in key]
    if absent or result.unexpected_keys:
        wrong = (absent or list(result.unexpected_keys))[0]
        raise ModelError(f"{path} does not fit model.lora: {wrong}; expected the adapter of the same settings")


def save_adapter(model: Any, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the adapter as peft and Transformers read it. They find the base model by the name in its configuration, and only
    in a folder without a config.json.

    Args:
        weights: the model's state where its own parameters are sharded.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, state_dict=None if weights is None else dict(weights), adapter_name=_NAME)
    tensors = {_PREFIX + key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    model.peft_config[_NAME].save_pretrained(str(folder))


def save_merged(model: Any, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the model with the adapter's updates added to its weights: a plain Hugging Face folder.

    The model itself stays as it is: merging in place and back leaves rounding errors in the base weights. Of a base in 4 bits
    the sum is with the numbers that the 4 bits stand for, which the adapter was trained on, in float32.

    Args:
        weights: as for `save_adapter`.
    """
    from peft.tuners.lora import LoraLayer

    state = dict(model.state_dict() if weights is None else weights)
    merged = {
        key.replace(".base_layer.", "."): value.detach().cpu()
        for key, value in state.items()
        if ".lora_" not in key and not any(part in key for part in _OF_4_BITS)
    }
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        keys = ("embedding_A.{}", "embedding_B.{}") if _is_embedding(module) else ("A.{}.weight", "B.{}.weight")
        a, b = (state[f"{name}.lora_{key.format(_NAME)}"].detach().cpu() for key in keys)
        weight = dequantized(module.base_layer.weight, merged[f"{name}.weight"]).cpu()
        merged[f"{name}.weight"] = weight + _update(module, a, b).to(weight.dtype)
    config = copy.deepcopy(model.config)
    if any(isinstance(module, LoraLayer) for module in (model.get_input_embeddings(), model.get_output_embeddings())):
        # The update is of one of the two alone: from now on they are two.
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder, state_dict=merged)


def merged_tensors(model: Any, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters under the names of its plain form, the updates of an adapter added; one weight at a time is held.

    Args:
        tensors: by name, in the order of the model's own parameters (a layer's weight before its adapter's A and B); all
            pass through unchanged where there is no adapter.
    """
    if not is_adapted(model):
        yield from tensors
        return
    from peft.tuners.lora import LoraLayer

    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    held: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors:
        place = name.partition(".lora_")[0] if ".lora_" in name else name.removesuffix(".base_layer.weight")
        if place not in layers or name.endswith(".base_layer.bias"):
            yield name.replace(".base_layer.", "."), tensor
            continue
        parts = held.setdefault(place, {})
        part = "W" if name.endswith(".base_layer.weight") else name.split(".lora_")[1].removeprefix("embedding_")[0]
        parts[part] = tensor.detach()
        if len(parts) == 3:
            layer, of = layers[place], held.pop(place)
            weight = dequantized(layer.base_layer.weight, of["W"])
            yield f"{place}.weight", weight + _update(layer, of["A"], of["B"]).to(weight.dtype)
    if held:
        raise ModelError(f"the adapter of {next(iter(held))} is not whole: expected its weight, A and B")


def _update(layer: Any, a: Tensor, b: Tensor) -> Tensor:
    """What the adapter of a layer, A [r, in] and B [out, r], adds to its weight."""
    update: Tensor = layer.scaling[_NAME] * (b.float() @ a.float())
    return update.T if layer.fan_in_fan_out or _is_embedding(layer) else update


def _is_embedding(layer: Any) -> bool:
    return isinstance(layer.base_layer, torch.nn.Embedding)
