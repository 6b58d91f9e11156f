"""Frozen weights in 4 bits (QLoRA, NF4) by bitsandbytes."""

from importlib.util import find_spec
from typing import Any

import torch

from progrpo.errors import ConfigError


def in_4bit(device: torch.device, *, adapter: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Args:
        adapter: whether one is trained.

    Raises:
        ConfigError: there is none to train, no GPU, or no bitsandbytes.
    """
    if not adapter:
        raise ConfigError(
            "model.load_in_4bit: weights in 4 bits cannot be trained; set model.lora={r: 16} to train an adapter"
        )
    if device.type != "cuda":
        raise ConfigError(f"model.load_in_4bit needs a GPU, and the device is {device}; leave it out here")
    if find_spec("bitsandbytes") is None:
        raise ConfigError("model.load_in_4bit needs the package bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantized, "device_map": {"": device}}
