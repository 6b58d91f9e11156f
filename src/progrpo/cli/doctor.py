"""The verb `doctor`: what this machine can do."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.distributed as dist
import typer

from progrpo import plugins
from progrpo.cli import output
from progrpo.errors import SandboxError
from progrpo.processes import launched
from progrpo.sandbox.isolation import describe, require_isolation

_PACKAGES = ("progrpo", "torch", "transformers", "tokenizers", "math-verify", "pyarrow")
_OPTIONAL = (
    *("peft", "bitsandbytes", "accelerate"),
    *("tensorboard", "wandb", "trackio"),
    *("vllm", "trl", "verl"),
    "sentence-transformers",
)


def run_doctor() -> None:
    """Tell it, for all processes in the main one where a launcher has started several."""
    here = launched()
    if not here.main:
        return
    facts = _facts(here.count)
    lines = [f"{key:<12} {value}" for key, value in facts.items()]
    output.show(facts, lambda: typer.echo("\n".join(lines)))


def _facts(processes: int) -> dict[str, str]:
    """What is told, by its first word."""
    facts = {"python": f"{platform.python_version()} on {platform.platform()}"}
    facts |= {name: _version(name) or "missing" for name in _PACKAGES}
    facts["optional"] = ", ".join(f"{name} {_version(name) or '-'}" for name in _OPTIONAL)
    facts["cpu"] = f"{torch.get_num_threads()} threads"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(index))
        facts[f"gpu {index}"] = f"{properties.name}, {total:.0f} GiB, {free:.0f} of them free"
    if not torch.cuda.is_available():
        facts["gpu"] = "none: training runs on the CPU"
    facts["processes"] = _processes(processes)
    facts["sandbox"] = _sandbox()
    return facts | {package: ", ".join(plugins.names(package)) for package in plugins.PACKAGES}


def _processes(count: int) -> str:
    """How many a launcher has started, and what they could exchange tensors by."""
    backends = {"gloo (CPU)": dist.is_available() and dist.is_gloo_available()}
    backends["nccl (GPUs)"] = dist.is_available() and dist.is_nccl_available()
    launcher = (
        "one, no launcher (torchrun, accelerate launch, srun)" if count == 1 else f"{count}, as the launcher says"
    )
    return f"{launcher}; " + ", ".join(f"{name} {'there' if there else '-'}" for name, there in backends.items())


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
