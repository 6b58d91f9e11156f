"""The weights that sample: those that are trained, in the number format and in the layout that sampling reads fastest."""

import copy
import logging
import os
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn.functional import linear

from progrpo.model import LanguageModel
from progrpo.model.precision import Precision

logger = logging.getLogger(__name__)

_ROWS = 32
"""Rows that weights are packed for; what is packed for them is within a few percent of the best from 1 to 2,048."""
_MOST = 0.25
"""Of the machine's memory, for packed copies."""
_SMALL = 1 << 17
"""Weights of fewer numbers are not packed."""
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Of a packed product's difference to a plain one, as a share of its norm; a wrong layout gives about 1."""


class SamplerWeights:
    """A view of a model for sampling.

    In float32 and not packed it is the model itself. Else it is a model that shares the trained parameters, but for its
    linear layers: in bf16 they hold copies in bf16, the very numbers that autocast makes of the trained ones; packed, copies in
    oneDNN's own layout, which a product by a few rows then need not make of them first. The outputs are those of the trained
    model, in bf16 under autocast; packed, sums are taken in another order.

    Args:
        precision: of sampling, whatever that of the model is. packed: pack on a CPU, where the copies fit into memory and a
            packed product gives what a plain one does.

    Attributes:
        sampler: the model to sample from.
    """

    def __init__(self, model: LanguageModel, precision: Precision, *, packed: bool) -> None:
        self.sampler = replace(model, precision=precision)
        self._copies: list[_Packed | _Cast] = []
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        packed = packed and model.device.type == "cpu" and _fits_in_memory(model.model, dtype)
        packed = packed and _packing_holds(model.model, dtype)
        if dtype == torch.float32 and not packed:
            return
        shared = {id(tensor): tensor for tensor in (*model.model.parameters(), *model.model.buffers())}
        shadow = copy.deepcopy(model.model, shared)
        for parent in list(shadow.modules()):
            for name, module in list(parent.named_children()):
                if packed and _can_be_packed(module):
                    layer = _Packed(module, dtype)
                    setattr(parent, name, layer)
                    self._copies.append(layer)
                elif dtype != torch.float32 and isinstance(module, torch.nn.Linear):
                    self._copies += _cast(module, dtype)
        self.sampler = replace(self.sampler, model=shadow)

    @torch.no_grad()
    def sync(self, *, trained: bool) -> None:
        """Take over the trained weights.

        Args:
            trained: an optimiser has stepped: all weights that are trained are taken over. Torch counts the changes of a
                tensor, but its own fused optimisers and those of bitsandbytes do not tell it of theirs. Else those weights
                that it knows to have changed.
        """
        for one in self._copies:
            one.sync(trained=trained)


class _Packed(torch.nn.Module):
    """A linear layer whose weight is a copy in oneDNN's layout, made anew where the weight has changed."""

    def __init__(self, source: torch.nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self._source = (source,)  # in a tuple, so that it is no submodule
        self.in_features, self.out_features = source.in_features, source.out_features
        self._dtype = dtype
        self._seen: int | None = None
        self.sync()

    @property
    def weight(self) -> Tensor:
        """The trained weight, for code that looks at its shape or number format."""
        return self._source[0].weight

    @property
    def bias(self) -> Tensor | None:
        """The trained bias."""
        return self._source[0].bias

    @torch.no_grad()
    def sync(self, *, trained: bool = False) -> None:
        weight, bias = self.weight, self.bias
        version = weight._version + (0 if bias is None else bias._version)
        if version != self._seen or (trained and weight.requires_grad):
            self._packed = _pack(weight.to(self._dtype))
            self._packed_bias = None if bias is None else bias.detach().to(self._dtype)
            self._seen = version

    def forward(self, states: Tensor) -> Tensor:
        rows = states.flatten(0, -2).to(self._dtype)
        product: Tensor = _product(rows, self._packed, self._packed_bias).unflatten(0, states.shape[:-1])
        return product


class _Cast:
    """A parameter in bf16 beside the trained one."""

    def __init__(self, mine: torch.nn.Parameter, source: torch.nn.Parameter) -> None:
        self._mine, self._source, self._seen = mine, source, source._version

    def sync(self, *, trained: bool) -> None:
        if self._source._version != self._seen or (trained and self._source.requires_grad):
            self._mine.copy_(self._source)
            self._seen = self._source._version


def _cast(module: torch.nn.Linear, dtype: torch.dtype) -> list[_Cast]:
    """Give the layer parameters of its own in `dtype`; what is quantised is computed with as it is."""
    casts = []
    for name, source in list(module.named_parameters(recurse=False)):
        if source.is_floating_point():
            mine = torch.nn.Parameter(source.detach().to(dtype), requires_grad=False)
            setattr(module, name, mine)
            casts.append(_Cast(mine, source))
    return casts


def _can_be_packed(module: torch.nn.Module) -> TypeGuard[torch.nn.Linear]:
    """Whether it is a plain linear layer, for what inherits from it may compute something else; and not a small one, which the
    processor's cache holds whole: there the plain product is 5 % faster."""
    return type(module) is torch.nn.Linear and module.weight.is_floating_point() and module.weight.numel() >= _SMALL


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
    return packed


def _product(rows: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """rows [R, K] times the weight [N, K] that was packed, plus the bias: [R, N]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")
    return product


def _fits_in_memory(model: torch.nn.Module, dtype: torch.dtype) -> bool:
    """Whether the copies are at most a quarter of the machine's memory: of all there is, so that two runs decide alike."""
    numbers = sum(module.weight.numel() for module in model.modules() if _can_be_packed(module))
    fits = numbers * dtype.itemsize <= _MOST * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if not fits:
        logger.info("weights are not packed: the copies would be more than a quarter of the machine's memory")
    return fits


@torch.no_grad()
def _packing_holds(model: torch.nn.Module, dtype: torch.dtype) -> bool:
    """Whether packed products give what plain ones do, tried on one layer of each shape: these operators are torch's own, for
    its compiler, and may be missing or another in other versions and on other processors."""
    tried = {module.weight.shape: module for module in model.modules() if _can_be_packed(module)}
    generator = torch.Generator().manual_seed(0)
    for shape, module in tried.items():
        weight, bias = module.weight.to(dtype), None if module.bias is None else module.bias.to(dtype)
        rows = torch.randn(3, shape[1], generator=generator).to(dtype)
        expected = linear(rows, weight, bias).float()
        try:
            found = _product(rows, _pack(weight), bias).float()
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            logger.debug("weights are not packed: %s", error)
            return False
        if float((found - expected).norm()) > _TOLERANCE[dtype] * float(expected.norm()):
            logger.warning("engine hf: packed products of shape %s differ from plain ones; none are used", tuple(shape))
            return False
    return bool(tried)
