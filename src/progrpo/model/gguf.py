"""Models in one GGUF file, as llama.cpp has them: Transformers reads weights, configuration and tokenizer out of it.

The weights are de-quantised to float32, and from then on the model is as any other: it trains, and its checkpoints are Hugging
Face folders with safetensors. Needs the extra `gguf`.
"""

import copy
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from progrpo.errors import ConfigError, ModelError

SUFFIX = ".gguf"
_MAGIC = b"GGUF"


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


def dequantized(*, in_4bit: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained` for weights as plain numbers, whatever kernels there are for packed ones.

    Raises:
        ConfigError: they are to be packed otherwise.
    """
    if in_4bit:
        raise ConfigError(
            "model.load_in_4bit packs weights as they are read from a Hugging Face folder, and model.path is a GGUF file; save "
            "it as a folder first (a checkpoint is one), or leave load_in_4bit out"
        )
    import transformers

    kind = getattr(transformers, "GgufConfig", None)  # without it Transformers knows no packed weights of GGUF
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def unmark(model: Any) -> None:
    """Take from a de-quantised model the mark of how it was read: `save_pretrained` refuses what is marked."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.remove_quantization_config(model)


def read_config(file: Path) -> Any:
    """The configuration in the file. It is read once as long as the file does not change: the vocabulary stands before it, and
    takes seconds."""
    return copy.deepcopy(_config(str(file), *_version(file)))


def read_tokenizer(file: Path, **options: Any) -> Any:
    """The tokenizer in the file, likewise."""
    return copy.deepcopy(_tokenizer(str(file), *_version(file), tuple(sorted(options.items()))))


def _version(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _config(file: str, size: int, changed: int) -> Any:
    from transformers import AutoConfig

    folder, where = source(Path(file))
    return AutoConfig.from_pretrained(folder, **where)


@lru_cache(maxsize=4)
def _tokenizer(file: str, size: int, changed: int, options: tuple[tuple[str, Any], ...]) -> Any:
    from transformers import AutoTokenizer

    folder, where = source(Path(file))
    return AutoTokenizer.from_pretrained(folder, **where, **dict(options))
