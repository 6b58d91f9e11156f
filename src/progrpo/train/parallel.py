"""The trained model in several processes: replicated (DDP) or sharded (FSDP2), and what sampling needs of a sharded one.

What is wrapped is the `Scorer`, through whose forward every pass goes. Gradients are *summed* over the processes: the
weights of the sequences are those of the whole optimiser step (docs/scaling.md).
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import model_validator
from torch import Tensor

from progrpo.engines import Engine
from progrpo.errors import ConfigError
from progrpo.model import LanguageModel
from progrpo.processes import Processes
from progrpo.settings import Settings

_NO_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(torch.nn.parallel.DistributedDataParallel).parameters
    else "broadcast_buffers": False
}
"""Buffers never change, and passes without gradient need not be as many in each process. (Torch renames the argument.)"""

Mode = Literal["none", "ddp", "fsdp2"]


class ParallelSettings(Settings):
    """How several processes (torchrun, accelerate launch, srun) hold the model; `parallel=fsdp2` is short for the mode."""

    mode: Literal["auto", "none", "ddp", "fsdp2"] = "auto"
    """ddp: each process holds all weights and the optimiser. fsdp2: each holds its part of both, and gathers a layer's
    weights while it computes with them. none: one process. auto: none where there is one, else ddp."""
    reshard_after_forward: bool = True
    """fsdp2: give a layer's gathered weights back after its forward pass and gather them again in the backward pass; false
    keeps them, which is faster and takes the memory of the whole model."""
    mixed_precision: bool = False
    """fsdp2 with model.precision=bf16: gather weights in bf16, half of what is exchanged; gradients are still summed in
    float32. Norms and embeddings are then rounded to bf16, too, which they are not without: `sampler/gap` says by how much
    log-probs move."""
    cpu_offload: bool = False
    """fsdp2 on GPUs: keep weights, gradients and optimiser in the machine's memory; the optimiser then steps on the CPU."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value

    def resolve(self, processes: Processes) -> Mode:
        """The mode for so many processes.

        Raises:
            ConfigError: several processes and `none`.
        """
        if self.mode == "auto":
            return "none" if processes.count == 1 else "ddp"
        if self.mode == "none" and processes.count > 1:
            raise ConfigError(
                f"parallel=none, but {processes.count} processes were started: each would train a model of its own. Start one, "
                "or set parallel=ddp or fsdp2"
            )
        if self.mode == "ddp" and processes.count == 1:
            return "none"
        return self.mode


class Parallel:
    """How the model is spread over the processes of a run.

    Attributes:
        processes: of the run. mode: "none", "ddp" or "fsdp2".
    """

    def __init__(self, settings: ParallelSettings, processes: Processes) -> None:
        self.processes = processes
        self.mode: Mode = settings.resolve(processes)
        self._settings = settings

    @property
    def sharded(self) -> bool:
        return self.mode == "fsdp2"

    def wrap(self, scorer: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        """The module to call for a pass. Afterwards the model's parameters may be other objects (DTensors)."""
        if self.mode == "ddp":
            wrapped = torch.nn.parallel.DistributedDataParallel(
                scorer,
                device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None,
                **_NO_BUFFERS,
            )
            wrapped.register_comm_hook(None, _sum_over_processes)
            return wrapped
        return self._shard(scorer, device) if self.sharded else scorer

    def frozen(self, scorer: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        """The same for a model that is not trained: sharded where the policy is."""
        return self._shard(scorer, device) if self.sharded else scorer

    def _shard(self, scorer: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import (
            CPUOffloadPolicy,
            FSDPModule,
            MixedPrecisionPolicy,
            OffloadPolicy,
            fully_shard,
        )
        from torch.distributed.tensor import DTensor

        _join_alone(device)
        mesh = init_device_mesh(device.type, (self.processes.count,))
        offload = CPUOffloadPolicy() if self._settings.cpu_offload else OffloadPolicy()
        rounded = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        for module in (*layers(scorer), scorer):
            for parameter in module.parameters():  # whole for this moment alone; those within are shards already
                if not isinstance(parameter, DTensor) and parameter.is_floating_point():
                    parameter.data = parameter.data.to(device, torch.float32)
            fully_shard(
                module,
                mesh=mesh,
                reshard_after_forward=self._settings.reshard_after_forward,
                offload_policy=offload,
                mp_policy=rounded if self._settings.mixed_precision else MixedPrecisionPolicy(),
            )
        for module in scorer.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        return scorer

    def accumulating(self, module: torch.nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a micro-batch: gradients are exchanged with the last one."""
        if self.mode == "ddp" and not last:
            assert isinstance(module, torch.nn.parallel.DistributedDataParallel)
            return module.no_sync()
        return nullcontext()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add up the gradients of parameters that lie outside the wrapped module (a method's net)."""
        if self.processes.count == 1:
            return
        for parameter in parameters:
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)

    def full_tensor(self, tensor: Tensor) -> Tensor:
        """A tensor that may be sharded, whole; every process has to call it."""
        from torch.distributed.tensor import DTensor

        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _sum_over_processes(_: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    future: torch.futures.Future[torch.Tensor] = (
        dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])
    )
    return future


def layers(scorer: torch.nn.Module) -> list[torch.nn.Module]:
    """The decoder layers of a model: the modules of its longest ModuleList."""
    lists = [module for module in scorer.modules() if isinstance(module, torch.nn.ModuleList)]
    longest = max(lists, key=len) if lists else torch.nn.ModuleList()
    return list(longest)


def _join_alone(device: torch.device) -> None:
    """FSDP2 with one process, to measure it against plain training, needs a group of one."""
    if not dist.is_initialized():
        store = dist.HashStore()
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=0, world_size=1)


class SamplingCopy:
    """The whole model beside a sharded one, for an engine that samples in this process.

    Attributes:
        model: to sample from (see `progrpo.model.shards.load_to_shard`).
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._targets = dict(model.model.named_parameters(remove_duplicate=False))

    @torch.no_grad()
    def take(self, trained: torch.nn.Module, parallel: Parallel) -> None:
        """Gather the trained weights, one parameter after the other; every process has to call it."""
        for name, parameter in trained.named_parameters(remove_duplicate=False):
            if parameter.requires_grad:  # what is frozen was copied when this was made
                self._targets[name].copy_(parallel.full_tensor(parameter))


def sync(engine: Engine, model: LanguageModel, version: int, parallel: Parallel, sampling: SamplingCopy | None) -> None:
    """Bring the trained weights to the engine."""
    source = model.model if sampling is None else sampling.model.model
    if sampling is not None:
        sampling.take(model.model, parallel)
    # One whole tensor at a time; an engine that samples from the trained model itself reads none of them.
    tensors = ((name, parallel.full_tensor(parameter)) for name, parameter in source.named_parameters())
    engine.update_weights(tensors, version=version)
