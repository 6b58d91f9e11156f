"""verl on a machine without a GPU: a platform for its own plug-in door, and a note of what each of its steps computed.

    VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda VERL_USE_EXTERNAL_MODULES=stand_ins.verl_cpu python -m verl.trainer.main_ppo ...

verl 0.9.1 knows GPUs and NPUs alone. Where it wants a device's number it is handed torch.device("cpu"), because a tensor moved
to a number goes to an accelerator; where it wants torch.cuda it is handed torch.cpu with the few names that one lacks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry
from verl.utils import distributed

from stand_ins.verl_launch import NOTES


def _host_memory() -> ModuleType:
    """torch.cpu, whose memory nobody counts."""
    module = ModuleType("torch_cpu")
    module.__dict__.update({name: getattr(torch.cpu, name) for name in torch.cpu.__all__})
    module.is_available = lambda: False  # type: ignore[attr-defined] - asked before memory is counted
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        setattr(module, name, lambda *_: 0)
    module.mem_get_info = lambda *_: (0, 0)  # type: ignore[attr-defined]
    module.empty_cache = module.ipc_collect = lambda: None  # type: ignore[attr-defined]
    module.get_device_name = lambda *_: "CPU"  # type: ignore[attr-defined]
    return module


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """A CPU that Ray counts as a GPU, since verl's placement knows no other resource."""

    device_name = "cpu"
    vendor_name = "host"
    device_module = _host_memory()

    def is_available(self) -> bool:
        return True

    def current_device(self) -> Any:
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights go to vLLM through shared memory

    def cudart(self) -> None:
        return None


# verl would ask for "cpu:gloo,cpu:gloo", which torch refuses.
distributed.initialize_global_process_group_ray = partial(
    distributed.initialize_global_process_group_ray, backend="cpu:gloo"
)

from verl.trainer.ppo.v1 import trainer_base  # noqa: E402 - takes the function above along

_update_actor = trainer_base.PPOTrainer._update_actor


def _noted_update(self: Any, batch: Any, metrics: dict[str, Any]) -> Any:
    """verl's update of the actor, and beside it what it was given and what it logged."""
    names = ["prompts", "responses", "response_mask", "rm_scores", "log_probs", "old_log_probs", "advantages"]
    data = trainer_base.tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
    columns = {name: [row.clone() for row in data[name].unbind()] for name in names}
    keys, padding = list(batch.keys), [bool(tag.get("is_padding", False)) for tag in batch.tags]
    batch = _update_actor(self, batch, metrics)
    note = {"keys": keys, "padding": padding, "columns": columns, "metrics": dict(metrics)}
    torch.save(note, Path(os.environ[NOTES]) / f"step-{self.global_steps}.pt")
    return batch


if NOTES in os.environ:
    trainer_base.PPOTrainer._update_actor = _noted_update
