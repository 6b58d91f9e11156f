"""What vLLM is started with, in either mode: a folder that says what the model is, and arguments."""

from pathlib import Path
from typing import Any

from progrpo.engines.vllm.params import VllmParams
from progrpo.model import LanguageModel

BACKEND = "progrpo"
"""The name under which the transfer of weights is registered with vLLM (see transfer.py)."""

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
"""Set where the user has not: vLLM's own loop in the trainer's process, no report of usage sent anywhere, no thread bound to a
core (on a CPU it would take the trainer's), and less talk."""

_CPU_BLOCK = 32
"""Tokens of a cache block on a CPU: at vLLM's 128 the prompts of a group would rarely share one."""


def write_description(model: LanguageModel, folder: Path) -> None:
    """Configuration and tokenizer of a model, without weights: these are sent."""
    plain = type(model.model.config).from_dict(model.model.config.to_dict())
    plain.dtype = "float32" if model.precision == "fp32" else "bfloat16"
    plain.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def arguments(model: LanguageModel, params: VllmParams) -> dict[str, Any]:
    """Arguments of vLLM's engine by name, `params.arguments` included."""
    cpu = model.device.type == "cpu"
    cache_gib = params.cache_gib if params.cache_gib is not None else (1.0 if cpu else None)
    length = params.max_model_len or model.positions
    chosen: dict[str, Any] = {
        "dtype": "float32" if model.precision == "fp32" else "bfloat16",
        "load_format": "dummy",
        "enforce_eager": cpu or not params.cuda_graphs,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "max_num_seqs": params.max_rows,
        "seed": 0,
        **({} if length is None else {"max_model_len": length}),
        **({} if cache_gib is None else {"kv_cache_memory_bytes": int(cache_gib * 2**30)}),
    }
    if cpu:
        # A prompt that is cut in two draws from a generator whose offset is set back, which a CPU's has not: an error in vLLM.
        chosen |= {"block_size": _CPU_BLOCK, "enable_chunked_prefill": False}
        chosen["max_num_batched_tokens"] = max(8192, length or 0)
    else:
        chosen["gpu_memory_utilization"] = params.memory_fraction
    return chosen | dict(params.arguments)
