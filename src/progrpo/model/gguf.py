"""Models in one GGUF file, as llama.cpp has them: Transformers reads weights, configuration and tokenizer out of it.

The weights are de-quantised to float32, and from then on the model is as any other: it trains, and its checkpoints are Hugging
Face folders with safetensors. Needs the extra `gguf`.
"""

import copy
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from progrpo.errors import ConfigError, ModelError

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_SCALES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that scale rotary embeddings."""


def is_gguf(path: str | Path) -> bool:
    """Whether a path names such a file; it need not be there."""
    return str(path).lower().endswith(SUFFIX)


def source(file: Path) -> tuple[str, dict[str, Any]]:
    """What `from_pretrained` is given.

    Raises:
        ModelError: the package `gguf` is missing.
    """
    if find_spec("gguf") is None:
        raise ModelError(f"model {str(file)!r}: reading GGUF needs the package gguf: pip install 'progrpo[gguf]'")
    return str(file.parent), {"gguf_file": file.name}


def damaged(file: Path) -> str | None:
    """What is wrong with the file as far as its first bytes tell; None where nothing is."""
    with file.open("rb") as opened:
        head = opened.read(len(_MAGIC))
    return None if head == _MAGIC else "does not begin as GGUF files do"


def dequantized(where: Mapping[str, Any], *, in_4bit: bool) -> dict[str, Any]:
    """More arguments of `from_pretrained`, beside those of `where`: weights as plain numbers, whatever kernels there are for
    packed ones. None for what is no GGUF file.

    Raises:
        ConfigError: they are to be packed otherwise.
    """
    if "gguf_file" not in where:
        return {}
    if in_4bit:
        raise ConfigError(
            "model.load_in_4bit packs weights as they are read from a Hugging Face folder, and model.path is a GGUF file; save "
            "it as a folder first (a checkpoint is one), or leave load_in_4bit out"
        )
    import transformers

    kind = getattr(transformers, "GgufConfig", None)  # without it Transformers knows no packed weights of GGUF
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def unmark(model: Any, where: Mapping[str, Any]) -> None:
    """Take from a de-quantised model the mark of how it was read: `save_pretrained` refuses what is marked."""
    quantizer = getattr(model, "hf_quantizer", None) if "gguf_file" in where else None
    if quantizer is not None:
        quantizer.remove_quantization_config(model)


def read_config(path: str, where: Mapping[str, Any]) -> Any:
    """The configuration by what `files.source` says. That of a GGUF file is read once as long as the file does not change: its
    vocabulary stands in between, and takes seconds.

    Raises:
        ModelError: see `require_rope`.
    """
    from transformers import AutoConfig

    if "gguf_file" not in where:
        return AutoConfig.from_pretrained(path, **where)
    require_rope(path, where)
    return copy.deepcopy(_config(path, where["gguf_file"], _version(path, where)))


def require_rope(path: str, where: Mapping[str, Any]) -> None:
    """Check that rotary embeddings that a GGUF file scales are scaled in the configuration that Transformers makes of it.

    Raises:
        ModelError: they are not: it would be another model.
    """
    if "gguf_file" not in where:
        return
    file, version = where["gguf_file"], _version(path, where)
    scaled = _scaled_rope(path, file, version)
    if scaled is not None and not _is_scaled(_config(path, file, version)):
        raise ModelError(
            f"model {str(Path(path) / file)!r}: its rotary embeddings are scaled ({scaled}), and Transformers does not read "
            "how from a GGUF file: it would be another model; take the Hugging Face folder or id of the model"
        )


def read_tokenizer(path: str, where: Mapping[str, Any], **options: str) -> Any:
    """The tokenizer by what `files.tokenizer_source` says, likewise."""
    from transformers import AutoTokenizer

    if "gguf_file" not in where:
        return AutoTokenizer.from_pretrained(path, **where, **options)
    return copy.deepcopy(_tokenizer(path, where["gguf_file"], _version(path, where), tuple(sorted(options.items()))))


def _version(path: str, where: Mapping[str, Any]) -> tuple[int, int]:
    found = (Path(path) / where["gguf_file"]).stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _scaled_rope(folder: str, file: str, version: tuple[int, int]) -> str | None:
    """The key or the tensor by which rotary embeddings are scaled; None where they are not.

    Raises:
        ModelError: the file is damaged.
    """
    from gguf import GGUFReader, GGUFValueType

    try:
        reader = GGUFReader(Path(folder) / file)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ModelError(
            f"model {str(Path(folder) / file)!r}: its head cannot be read ({error}): copy or download it again"
        ) from error
    for key, field in reader.fields.items():
        if key.endswith(".rope.scaling.type") and field.types[0] == GGUFValueType.STRING:
            value = bytes(field.parts[-1]).decode()
            if value != "none":
                return f"{key}={value}"
        # Without a kind, llama.cpp scales linearly.
        elif key.endswith((".rope.scaling.factor", ".rope.scale_linear")) and field.parts[-1][0] not in (0, 1):
            return f"{key}={field.parts[-1][0]}"
    return next((tensor.name for tensor in reader.tensors if tensor.name.endswith(_SCALES)), None)


@lru_cache(maxsize=4)
def _config(folder: str, file: str, version: tuple[int, int]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, gguf_file=file)


def _is_scaled(config: Any) -> bool:
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    sets = [rope, *(value for value in rope.values() if isinstance(value, Mapping))]
    return any(one.get("rope_type") not in (None, "default") for one in sets)


@lru_cache(maxsize=4)
def _tokenizer(folder: str, file: str, version: tuple[int, int], options: tuple[tuple[str, str], ...]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, gguf_file=file, **dict(options))
