"""A model on its way into shards: its weights stay in its files, mapped into memory, until each process takes its parts.

So no process holds the whole model in float32. What it does hold whole is the copy that samples, in the format it computes
with (docs/scaling.md).
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from progrpo import model_checks
from progrpo.model import (
    LanguageModel,
    ModelSettings,
    gguf,
    load_tokenizer,
    lora,
    pick_device,
    replaced_pad,
    wrap_model,
)
from progrpo.model.activations import recompute_activations
from progrpo.model.files import named_failure, resolve_path, source

logger = logging.getLogger(__name__)

_FORMATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Number formats of safetensors that are float32 or turn into it without loss."""
_WHOLE = ("model.safetensors", "model.safetensors.index.json")
"""What Transformers reads rather than anything else in a folder."""


def load_to_shard(settings: ModelSettings, *, adapter: Path | None = None) -> tuple[LanguageModel, LanguageModel]:
    """Load a model that will be sharded, together with the whole copy of it that samples.

    Args:
        adapter: as for `load_model`.

    Returns:
        The model, each parameter on the CPU as the files hold it (their number format and their memory; an adapter in
        float32), for `Parallel.wrap` to bring to the device in float32, layer by layer. And the copy: frozen, on the device, in
        float32, but for linear layers in bf16 where that is the precision: the numbers that autocast would make of them.

    Raises:
        ModelError, ConfigError: as `load_model`.
    """
    device, bf16 = pick_device(settings.device), settings.precision == "bf16"
    tokenizer = load_tokenizer(settings)
    model = _read_stored(settings)
    if settings.gradient_checkpointing:
        recompute_activations(model)
    stored = {parameter: parameter.data for parameter in model.parameters()}
    copied = _copies(model, device, bf16)
    for parameter, tensor in copied.items():
        parameter.data = tensor
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)
    # The checks compute with what samples: its linear layers need autocast where they are bf16.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        wrapped = wrap_model(
            model,
            tokenizer,
            device=device,
            precision=settings.precision,
            share_prompts=settings.share_prompts,
            name=settings.path,
            unused=replaced_pad(settings),
            chat=settings.chat,
        )
    if settings.lora is not None:
        for parameter in stored:  # an adapter takes the format of what it is attached to
            parameter.data = _hollow(parameter)
        lora.attach(model, settings.lora, resolve_path(settings.path))
        if adapter is not None:
            lora.read_adapter(model, adapter)
    for parameter, tensor in stored.items():
        parameter.data = tensor
    return wrapped, replace(wrapped, model=_sampler(model, copied, device, bf16))


def load_reference(settings: ModelSettings, like: LanguageModel) -> LanguageModel:
    """A frozen model for `Parallel.frozen`: weights as the files hold them, in what has been checked of `like`.

    Args:
        like: what `load_to_shard` made of a model of the same architecture, not sharded yet; it is left as it is.

    Raises:
        ModelError: as `load_model`.
    """
    stored = dict(_read_stored(settings).requires_grad_(False).named_parameters(remove_duplicate=False))
    shared = {id(value): stored[name] for name, value in like.model.named_parameters(remove_duplicate=False)}
    return replace(like, model=copy.deepcopy(like.model, shared).eval())


def _read_stored(settings: ModelSettings) -> Any:
    """The model on the CPU, its parameters in the memory of its files, all else as if it had been read in float32."""
    from transformers import AutoModelForCausalLM

    path, where = source(settings.path)
    extra: dict[str, Any] = {} if settings.attention is None else {"attn_implementation": settings.attention}
    extra |= gguf.dequantized(where, in_4bit=settings.load_in_4bit)
    with named_failure(settings.path), model_checks.no_load_report():
        gguf.require_rope(path, where)
        stored_as = _stored_format(path, where)
        if stored_as is None:
            logger.warning(
                "%s: not stored as safetensors of one number format, so that each process reads it whole, in float32, into the "
                "machine's memory before it is sharded",
                settings.path,
            )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=stored_as or torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **where,
            **extra,
        )
        model, report = loaded
        model_checks.require_fit(report, settings.path)
        gguf.unmark(model, where)
        return model if stored_as in (None, torch.float32) else _as_if_float32(model, extra)


def _stored_format(path: str, where: Mapping[str, Any]) -> torch.dtype | None:
    """The number format of all weights of a folder or hub id; None where there is not one that Transformers would map."""
    from huggingface_hub import snapshot_download
    from safetensors import safe_open

    if "gguf_file" in where:
        return None
    # The names that Transformers reads, so that nothing is downloaded that it would not download.
    files = (
        path
        if Path(path).is_dir()
        else snapshot_download(path, allow_patterns=["model*.safetensors", _WHOLE[1]], **where)
    )
    folder = Path(files)
    if not any((folder / name).is_file() for name in _WHOLE):
        return None
    formats = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            formats |= {opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118 - no mapping
    floats = [name for name in formats if "F" in name]
    return _FORMATS.get(floats[0]) if len(floats) == 1 else None


def _as_if_float32(model: Any, extra: Mapping[str, Any]) -> Any:
    """The model with the parameters of `model`, built in float32.

    Buffers that no file holds are computed when a model is built, and may depend on the format it is built in; their
    computation is Transformers' own.
    """
    values = model.state_dict()
    hollow = {name: _hollow(value) for name, value in values.items()}
    built = type(model).from_pretrained(None, config=model.config, state_dict=hollow, dtype=torch.float32, **extra)
    built.config.name_or_path = built.name_or_path = model.config.name_or_path
    built.generation_config = model.generation_config
    parameters = dict(built.named_parameters(remove_duplicate=False))
    for name, tensor in built.state_dict(keep_vars=True).items():
        stored: Tensor = values[name].detach()
        tensor.data = stored if name in parameters else stored.to(tensor.dtype, copy=True)
    return built


def _hollow(tensor: Tensor) -> Tensor:
    """A float32 tensor of the same shape that takes 4 bytes."""
    return torch.zeros(()).expand(tensor.shape)


def _copies(
    model: Any, device: torch.device, bf16: bool, held: Mapping[torch.nn.Parameter, Tensor] = MappingProxyType({})
) -> dict[torch.nn.Parameter, Tensor]:
    """Each parameter whole on the device, as it samples, but for those that are `held` already; what a linear layer shares
    with a layer of another kind in float32."""
    halves: dict[torch.nn.Parameter, bool] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            halves[parameter] = bf16 and isinstance(module, torch.nn.Linear) and halves.get(parameter, True)
    return {
        parameter: held[parameter]
        if parameter in held
        else parameter.detach().to(device, torch.bfloat16 if half else torch.float32, copy=True)
        for parameter, half in halves.items()
    }


def _sampler(model: Any, copied: Mapping[torch.nn.Parameter, Tensor], device: torch.device, bf16: bool) -> Any:
    """A copy of the model with parameters of its own, frozen: those of `copied`, and of an adapter its present ones."""
    whole = {
        id(parameter): torch.nn.Parameter(tensor, requires_grad=False)
        for parameter, tensor in _copies(model, device, bf16, copied).items()
    }
    sampler = copy.deepcopy(model, whole)
    if bf16:  # a head that is tied to the embeddings
        for module in sampler.modules():
            if isinstance(module, torch.nn.Linear):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    if parameter.dtype != torch.bfloat16:
                        setattr(module, name, torch.nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))
    return sampler
