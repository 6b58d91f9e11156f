"""Frozen weights in 4 bits (QLoRA, NF4) by bitsandbytes."""

from importlib.util import find_spec
from typing import Any, Literal

import torch

from progrpo.errors import ConfigError


def in_4bit(device: torch.device, *, adapter: bool, precision: Literal["fp32", "bf16"]) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Args:
        adapter: whether one is trained, or read with its base model. precision: in which products are computed.

    Raises:
        ConfigError: there is none to train, or no bitsandbytes.
    """
    if not adapter:
        raise ConfigError(
            "model.load_in_4bit: weights in 4 bits cannot be trained; set model.lora='{r: 16}' to train an adapter"
        )
    if find_spec("bitsandbytes") is None:
        raise ConfigError("model.load_in_4bit needs the package bitsandbytes: pip install 'progrpo[qlora]'")
    from transformers import BitsAndBytesConfig

    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
    )
    return {"quantization_config": quantized, "device_map": {"": device}}


def keep_unpacked(model: Any) -> None:
    """Keep bitsandbytes from packing weights for sampling on a CPU with bf16 products: through packed ones flows no gradient,
    and they stay packed when the model is trained."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def dequantized(parameter: Any, weight: torch.Tensor) -> torch.Tensor:
    """A layer's weight [out, in] as numbers: float32 where bitsandbytes holds it in 4 bits, else `weight` itself.

    Args:
        parameter: the layer's parameter, which knows how it is held. weight: its values, gathered where it is sharded.
    """
    if getattr(parameter, "quant_state", None) is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    numbers: torch.Tensor = dequantize_4bit(parameter.data, parameter.quant_state)
    return numbers.float()
