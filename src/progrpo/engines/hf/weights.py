"""The weights that sample: those that are trained, in half precision cast once per update instead of at every use."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from progrpo.model import LanguageModel
from progrpo.model.precision import Precision


class SamplerWeights:
    """A view of a model for sampling.

    In float32 it is the model itself. In bf16 its linear layers hold copies in bf16, the very numbers that autocast makes
    of the trained ones, and all else is shared: the outputs are those of the trained model under autocast.

    Args:
        precision: of sampling, whatever that of the model is.

    Attributes:
        sampler: the model to sample from.
    """

    def __init__(self, model: LanguageModel, precision: Precision) -> None:
        self._sources = list(model.model.parameters())
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._seen: int | None = None
        self.sampler = replace(model, precision=precision)
        if precision != "bf16":
            return
        shared = {id(tensor): tensor for tensor in (*model.model.parameters(), *model.model.buffers())}
        shadow = copy.deepcopy(model.model, shared)
        for module in shadow.modules():
            if not isinstance(module, torch.nn.Linear):
                continue
            for name, source in list(module.named_parameters(recurse=False)):
                if not source.is_floating_point():
                    continue  # quantised: it is computed with as it is
                mine = torch.nn.Parameter(source.detach().to(torch.bfloat16), requires_grad=False)
                setattr(module, name, mine)
                self._pairs.append((mine, source))
        self.sampler = replace(self.sampler, model=shadow)

    @torch.no_grad()
    def sync(self) -> None:
        """Take over the trained weights where they have changed since the last time."""
        version = sum(source._version for source in self._sources)
        if version == self._seen:
            return
        for mine, source in self._pairs:
            mine.copy_(source)
        self._seen = version
