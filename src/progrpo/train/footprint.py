"""What each device holds while a run goes on, predicted from the settings and the model's configuration alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from progrpo.engines import sampling_precision
from progrpo.errors import ConfigError
from progrpo.plural import counted
from progrpo.train.parallel import Mode
from progrpo.train.settings import RunSettings

GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Bytes on each device.

    Attributes:
        weights, gradients, optimizer: of training, in float32 but for an optimiser in 8 bits. reference: the model before
            training, for a method that asks for it. sampler: weights that sample beside those that are trained.
        gathered: of a sharded model, the layers and embeddings that are whole while they compute.
        activations: kept for the backward pass, and logits. cache: keys and values while sampling.
        tokens: of one pass. rows: completions sampled side by side.
    """

    weights: float
    gradients: float
    optimizer: float
    reference: float
    sampler: float
    gathered: float
    activations: float
    cache: float
    tokens: int
    rows: int

    @property
    def resident(self) -> float:
        """Held all the time."""
        return self.weights + self.gradients + self.optimizer + self.reference + self.sampler

    def peak(self, *, cache_stays: bool) -> float:
        """The most at a time.

        Args:
            cache_stays: whether the sampler's cache is kept during training (engine hf on CUDA).
        """
        training = self.activations + self.gathered
        return self.resident + (training + self.cache if cache_stays else max(training, self.cache))


def footprint(
    settings: RunSettings, size: Mapping[str, int], *, mode: Mode, count: int, reference: bool, device: torch.device
) -> Footprint:
    """Predict what one of `count` processes holds on its device.

    Args:
        size: see `progrpo.model.count_parameters`. reference: whether the method compares with the model before training.

    Activations are an estimate: per layer and token about 16 vectors of the model's width, or one where they are recomputed.
    """
    parameters, trained, batch = size["parameters"], size["trained"], settings.batch
    adapter = trained if trained < parameters else 0
    per_weight = 0.56 if settings.model.load_in_4bit else 4  # NF4 with its scales, a share of them in 8 bits
    sharded = mode == "fsdp2"
    parts = count if sharded else 1
    samples_in = sampling_precision(settings.engine, settings.model.precision)
    value, sampled = (2 if one == "bf16" else 4 for one in (settings.model.precision, samples_in))
    longest = settings.data.max_prompt_tokens + settings.sampling.max_new_tokens
    tokens = max(batch.micro_tokens, longest)
    kept = 1 if settings.model.gradient_checkpointing else 16
    head = min(tokens, 4096) * size["vocabulary"] * 4 * 3
    here = -(-batch.prompts // count)  # problems that one process samples
    rows = min(settings.engine.params.get("max_rows", 256), here * batch.group)
    prompts = min(here, 2 * max(1, rows // batch.group))
    embeddings = size["vocabulary"] * size["width"]
    layer = (parameters - embeddings) / max(1, size["layers"])
    # Copies of the linear layers: in bf16, and packed by engine `hf`.
    packed = device.type == "cpu" and settings.engine.name == "hf" and settings.engine.params.get("packed", True)
    copied = (sampled == 2 or packed) and not settings.model.load_in_4bit
    sampler = sampled * parameters if copied else 0
    if sharded:
        # A whole copy, its embeddings in float32; in bf16 it has these layers itself.
        sampler = value * parameters + (4 - value) * embeddings + (sampler if packed or sampled != value else 0)
    return Footprint(
        weights=(per_weight * parameters + 4 * adapter) / parts,
        gradients=4 * trained / parts,
        optimizer=settings.optim.state_bytes * trained / parts,
        reference=4 * parameters / parts if reference and not adapter else 0,
        sampler=sampler,
        gathered=4 * (embeddings + 2 * layer) if sharded and count > 1 else 0,
        activations=tokens * size["layers"] * size["width"] * kept * value + head,
        cache=(rows * settings.sampling.max_new_tokens + prompts * settings.data.max_prompt_tokens)
        * size["cache_per_token"]
        * sampled,
        tokens=tokens,
        rows=rows,
    )


def device_memory(device: torch.device) -> int:
    """Bytes of the device: of a GPU its own, else of the machine."""
    if device.type == "cuda":
        total: int = torch.cuda.get_device_properties(device).total_memory
        return total
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe(one: Footprint, *, mode: Mode, count: int, device: torch.device, shared_by: int) -> list[str]:
    """The footprint in words, and whether it fits.

    Args:
        device: of this process. shared_by: processes that share its memory (on CPU all of this machine's).
    """
    parts = {
        "weights": one.weights,
        "gradients": one.gradients,
        "optimiser": one.optimizer,
        "reference model": one.reference,
        "weights that sample": one.sampler,
        "gathered layers": one.gathered,
        f"activations of {counted(one.tokens, 'token')} a pass": one.activations,
        f"cache of {counted(one.rows, 'row')}": one.cache,
    }
    cuda = device.type == "cuda"
    peak, there = one.peak(cache_stays=cuda) * shared_by, device_memory(device)
    spread = "one process" if count == 1 and mode == "none" else f"{mode}, {counted(count, 'process')}"
    shown = " + ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items() if size)
    fits = "fits" if peak <= 0.95 * there else "DOES NOT FIT"
    kind = "this GPU has" if cuda else "this machine has"
    return [
        f"memory per process ({spread}), GiB: {shown}; cache and activations "
        + ("add up" if cuda else "are not held at the same time"),
        f"memory: about {peak / GIB:.2f} GiB{f' in {shared_by} processes' if shared_by > 1 else ''}, {kind} {there / GIB:.1f}: "
        f"{fits}",
    ]


def require_sampling_copy(one: Footprint, mode: Mode, engine: str, device: torch.device) -> None:
    """Raises ConfigError where a sharded model's whole copy for sampling cannot be held beside the shards."""
    there = device_memory(device)
    if mode == "fsdp2" and one.resident > there:
        raise ConfigError(
            f"engine {engine!r} samples from a whole copy of the model beside the shards: {one.resident / GIB:.1f} GiB in all, "
            f"more than the {there / GIB:.1f} of {device}. Start more processes, or set model.precision=bf16, on a CPU "
            "engine.packed=false; an engine that samples from weights of its own on other devices is vLLM's server: "
            "engine.name=vllm engine.mode=server"
        )
