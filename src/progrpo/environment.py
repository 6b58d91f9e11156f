"""What a reader needs to run something again: versions, device, threads, seed, command, commit, and the problems' hash."""

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from progrpo.model import pick_device
from progrpo.processes import launched
from progrpo.types import Problem


def environment(device: str, seed: int) -> dict[str, Any]:
    """Versions, platform, device (a torch device or "auto"), threads of each process, processes, seed, command and commit."""
    packages = ("progrpo", "torch", "transformers", "tokenizers", "accelerate", "math-verify", "numpy")
    return {
        "versions": {name: version(name) for name in packages if installed(name)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "processes": launched().count,
        "seed": seed,
        "command": _command(sys.argv),
        "git_commit": _git_commit(),
    }


def _command(words: Sequence[str]) -> list[str]:
    """The command as it can be given again: `python -m PACKAGE` where a package was started so."""
    program, *arguments = words
    if Path(program).name == "__main__.py":
        return ["python", "-m", Path(program).parent.name, *arguments]
    return list(words)


def digest(problems: Sequence[Problem]) -> str:
    """A hash of the problems, in order: ids, prompts, golds, and what the reward reads (tests, options, numbers)."""
    sha = hashlib.sha256()
    for problem in problems:
        row = [problem.id, problem.prompt, problem.answer, problem.info, *problem.accepted]
        # ASCII: a lone surrogate, legal in JSON, is no character that could be encoded.
        sha.update(json.dumps(row, ensure_ascii=True, sort_keys=True, default=_plain).encode())
    return sha.hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def installed(name: str) -> bool:
    """Whether a package is installed, without importing it."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _device_name(name: str) -> str:
    device = pick_device(name)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def _git_commit() -> str | None:
    """The commit of the source tree this package runs from; None for an installed wheel."""
    here = Path(__file__).resolve()
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    return _git(here.parent, "rev-parse", "HEAD") if tracked else None


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() or None if process.returncode == 0 else None
