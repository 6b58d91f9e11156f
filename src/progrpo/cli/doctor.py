"""The verb `doctor`: what this machine can do."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch
import typer

from progrpo import plugins
from progrpo.errors import SandboxError
from progrpo.sandbox.isolation import describe, require_isolation

_PACKAGES = ("progrpo", "torch", "transformers", "tokenizers", "accelerate", "math-verify", "pyarrow")
_OPTIONAL = ("tensorboard", "wandb", "trackio", "vllm", "trl", "verl", "peft", "sentence-transformers")


def run_doctor() -> None:
    typer.echo(f"python       {platform.python_version()} on {platform.platform()}")
    for name in _PACKAGES:
        typer.echo(f"{name:<12} {_version(name) or 'missing'}")
    versions = {name: _version(name) for name in _OPTIONAL}
    typer.echo("optional     " + ", ".join(f"{name} {number or '-'}" for name, number in versions.items()))
    typer.echo(f"cpu          {torch.get_num_threads()} threads")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        typer.echo(f"gpu {index}        {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        typer.echo("gpu          none: training runs on the CPU")
    typer.echo(f"sandbox      {_sandbox()}")
    for package in plugins.PACKAGES:
        typer.echo(f"{package:<12} {', '.join(plugins.names(package))}")


def _sandbox() -> str:
    """Whether programs can be judged here; the proof takes two seconds."""
    try:
        return "programs are isolated: " + ", ".join(describe(require_isolation()))
    except SandboxError as error:
        return f"none, programs are refused (reward code): {error}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
