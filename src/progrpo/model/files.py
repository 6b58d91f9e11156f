"""Where a model's files are, and why they cannot be used: in one line, and within seconds."""

import functools
import hashlib
import json
import logging
import os
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from progrpo.errors import ModelError
from progrpo.model import gguf, layouts

logger = logging.getLogger(__name__)

EMBEDDED = "embedded:"
ADAPTER = "adapter_config.json"
"""Makes a folder that of an adapter, whose base model it names."""

_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json")
_HUB_LIMIT_S = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", "2"))
"""How long the hub may take to say whether it has a model. Its own client tries for more than a minute."""
_UNREADABLE = (ImportError, OSError, ValueError, RuntimeError, LookupError, EOFError, pickle.UnpicklingError)
"""What Transformers and torch raise on files that are damaged, no model's, or of a model that needs more packages."""
_EXPECTED = "expected a Hugging Face model folder, a GGUF file, or a hub id that this machine can reach"


def resolve_path(path: str) -> str:
    """Turn "embedded:NAME" into the folder inside the package, and check that what can only be a folder, or a GGUF file, is
    one.

    Raises:
        ModelError: no such embedded model; or a folder or file that is missing or holds no model.
    """
    if path.startswith(EMBEDDED):
        root = Path(__file__).parent.parent / "embedded"
        folder = root / path.removeprefix(EMBEDDED)
        if not (folder / "config.json").is_file():
            known = sorted(child.name for child in root.glob("*") if (child / "config.json").is_file())
            raise ModelError(f"model {path!r}: not in the package; embedded models: {', '.join(known) or 'none'}")
        return str(folder)
    folder = Path(path).expanduser()
    if gguf.is_gguf(path):
        _require_gguf(path, folder)
        return str(folder)
    if path.startswith((".", "/", "~")) or folder.exists() or not _is_hub_id(path):
        folder = layouts.model_within(folder)
        _require_model_folder(path, folder)
        return str(folder)
    return path


def source(path: str) -> tuple[str, dict[str, Any]]:
    """What `from_pretrained` is given: a folder or hub id, and `local_files_only` where the hub's cache must do; or the folder
    of a GGUF file, and `gguf_file`.

    Raises:
        ModelError: see `resolve_path`; or the hub has no such model or cannot be reached, and its cache has none either.
    """
    resolved = resolve_path(path)
    if gguf.is_gguf(resolved):
        return gguf.source(Path(resolved))
    if Path(resolved).is_dir():
        return resolved, {}
    from huggingface_hub import constants, try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(path, "config.json"), str)
    if constants.HF_HUB_OFFLINE:
        fault, reached = "HF_HUB_OFFLINE is set and the hub's cache does not hold it", False
    else:
        fault, reached = _asked_hub(path, constants.ENDPOINT)
    if reached and not fault:
        return path, {}
    if cached and not reached:
        if not constants.HF_HUB_OFFLINE:
            logger.warning("%s: %s; taking the files of its cache", path, fault)
        return path, {"local_files_only": True}
    raise ModelError(f"model {path!r}: there is no folder of this name{_nearest(Path(path))}, and {fault}; {_EXPECTED}")


def base_of(path: str) -> str:
    """The folder or hub id of the model beneath, where `path` is a folder with an adapter; else `path`.

    Raises:
        ModelError: the adapter names no base model.
    """
    file = Path(resolve_path(path)) / ADAPTER
    if not file.is_file() or (file.parent / "config.json").is_file():
        return path
    with named_failure(path):
        base = json.loads(file.read_text("utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(f"model {path!r}: {ADAPTER} names no base model (base_model_name_or_path)")
    return str(base)


def tokenizer_source(path: str) -> tuple[str, dict[str, Any]]:
    """`source` of a model's tokenizer: of a folder with an adapter alone that of its base model, but where verl left one."""
    base, folder = base_of(path), Path(resolve_path(path))
    if base == path or any((folder / name).is_file() for name in _TOKENIZERS):
        return source(path)
    beside = folder.parent / "huggingface"
    return (str(beside), {}) if any((beside / name).is_file() for name in _TOKENIZERS) else source(base)


_TEXT_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_PLACES = 64


def fingerprint(path: str) -> str | None:
    """What tells a local model from others: a hash of the files that say how text becomes tokens and prompts (JSON, chat
    templates, vocabularies), of its base model where it is an adapter, and, without reading the weights whole, of the name and
    size of each of their files, its first and last MiB (the former holds every tensor's name and shape) and 64 KiB at 64 places
    between, at even distances. None for a hub id."""
    folder = Path(resolve_path(path))
    inside = sorted(one for pattern in ("*.safetensors", "*.bin") for one in folder.glob(pattern))
    files = [folder] if gguf.is_gguf(folder) else inside
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(2**20)
            digest.update(f"{file.name} {size}".encode() + head)
            for place in range(_PLACES):
                opened.seek(place * size // _PLACES)
                digest.update(opened.read(2**16))
            opened.seek(max(0, size - 2**20))
            digest.update(opened.read())
    if folder.is_dir():
        for file in sorted(one for pattern in _TEXT_FILES for one in folder.glob(pattern)):
            digest.update(file.name.encode() + file.read_bytes())
        if (base := base_of(path)) != path:
            digest.update((fingerprint(base) or base).encode())
    return digest.hexdigest()


@contextmanager
def named_failure(path: str) -> Iterator[None]:
    """Turn whatever reading a model's files raises into a `ModelError` of one line that names the model and the file."""
    from safetensors import SafetensorError

    try:
        yield
    except ModelError:
        raise
    except (*_UNREADABLE, SafetensorError) as error:
        raise ModelError(_failure(path, error)) from error
    except Exception as error:
        if type(error) is not Exception:  # the class that the Rust tokenizers raise
            raise
        raise ModelError(_failure(path, error)) from error


def require_readable(path: str) -> None:
    """Raises ModelError if a file of weights in a local folder is cut short; only the files' heads are read."""
    folder = Path(resolve_path(path))
    damaged = _damaged(folder) if folder.exists() else None
    if damaged is not None:
        raise ModelError(
            f"model {path!r}: {damaged[0]} cannot be read ({damaged[1]}): cut short? Copy or download it again"
        )


def _failure(path: str, error: Exception) -> str:
    lines = str(error).strip().split("\n")
    said = lines[0].rstrip(".") or type(error).__name__
    folder = Path(resolve_path(path))
    damaged = _damaged(folder) if folder.exists() else None
    if damaged is not None:
        return f"model {path!r}: {damaged[0]} cannot be read ({damaged[1]}): cut short? Copy or download it again"
    return f"model {path!r}: cannot be loaded: {said}; {_EXPECTED}"


def _damaged(folder: Path) -> tuple[Path, str] | None:
    """The first file of weights that its format's reader refuses, and what it says."""
    from safetensors import SafetensorError, safe_open

    if gguf.is_gguf(folder):
        fault = gguf.damaged(folder)
        return None if fault is None else (folder, fault)
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            return file, str(error).split("\n")[0]
    return None


def _require_gguf(path: str, file: Path) -> None:
    if not file.is_file():
        beside = [one.name for one in file.parent.glob("*") if gguf.is_gguf(one)]
        near = get_close_matches(file.name, beside, n=1, cutoff=0.6) or beside[:1]
        hint = f" (did you mean {file.parent / near[0]}?)" if near else ""
        raise ModelError(f"model {path!r}: no such file{hint}; {_EXPECTED}")


def _require_model_folder(path: str, folder: Path) -> None:
    if command := layouts.merge_command(folder):
        raise ModelError(
            f"model {path!r}: its weights are in parts, one for each process that saved them. Merge them: {command}"
        )
    if (folder / "config.json").is_file() or (folder / ADAPTER).is_file():
        return
    if not folder.exists():
        raise ModelError(f"model {path!r}: no such folder{_nearest(folder)}; {_EXPECTED}")
    if not folder.is_dir():
        raise ModelError(f"model {path!r}: is a file; {_EXPECTED}")
    numbered = [one.name for one in layouts.by_number(folder, "checkpoint-")]  # of TRL: the latest
    inside = numbered[-1:] or sorted(one.parent.name for one in folder.glob("*/config.json"))
    checkpoints = sorted(folder.glob("checkpoints/*/config.json"))
    if checkpoints:
        hint = f": it is a run directory; give one of its checkpoints, for instance {checkpoints[-1].parent}"
    else:
        hint = f"; did you mean {folder / inside[0]}?" if inside else ""
    raise ModelError(f"model {path!r}: expected a Hugging Face model folder, but it holds no config.json{hint}")


def _nearest(folder: Path) -> str:
    """A folder beside the missing one that is called nearly so, in words."""
    beside = [child.name for child in folder.parent.glob("*") if (child / "config.json").is_file()]
    near = get_close_matches(folder.name, beside, n=1, cutoff=0.6)
    return f" (did you mean {folder.parent / near[0]}?)" if near else ""


def _is_hub_id(path: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return True


@functools.cache
def _asked_hub(name: str, endpoint: str) -> tuple[str, bool]:
    """What speaks against loading a hub id ("" for nothing), and whether the hub has answered at all.

    The question is put once, without the retries of the hub's client, in a thread: looking up a host has no time limit.
    """
    answers: list[tuple[str, bool]] = []
    thread = threading.Thread(target=lambda: answers.append(_ask_hub(name, endpoint)), daemon=True)
    thread.start()
    thread.join(1.2 * _HUB_LIMIT_S)
    limit = f"{_HUB_LIMIT_S:g} s (HF_HUB_ETAG_TIMEOUT=10 waits longer)"
    return answers[0] if answers else (f"{endpoint} does not answer within {limit}", False)


def _ask_hub(name: str, endpoint: str) -> tuple[str, bool]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    # Errors of the connection are those of the HTTP library beneath, which changes with the hub's version.
    broken: tuple[type[BaseException], ...] = (OSError, RuntimeError, *HfHubHTTPError.__bases__)
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json", endpoint=endpoint), timeout=_HUB_LIMIT_S)
    except GatedRepoError:
        return "on the hub it is gated: accept its terms there and log in with `hf auth login`", True
    except RepositoryNotFoundError:
        return f"{endpoint} has no such model (or a private one: log in with `hf auth login`)", True
    except EntryNotFoundError:
        return f"the repository of this name at {endpoint} holds no config.json", True
    except broken as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 429:  # too many requests: the hub's client waits as long as it is told to
            return "", True
        said = f"answers with status {status}" if status else f"cannot be reached ({str(error).splitlines()[0]:.120})"
        return f"{endpoint} {said}", False
    return "", True
