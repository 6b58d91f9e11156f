"""Attention that follows a layout (who sees whom), plugged into the attention interface of Transformers' models."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from progrpo.errors import ModelError

LAYOUT = "progrpo_layout"
"""The keyword under which a layout travels through a model's forward to its attention layers."""

_PREFIX = "progrpo_over_"
_KNOWN = frozenset({"is_causal", "use_cache", "position_ids", "cache_position", "output_attentions", "return_dict"})


class Layout(Protocol):
    """What an attention layer does with the tokens of one forward pass.

    `window`: the layer's tokens see so many tokens at most, themselves and those just before them; None for all of them.
    """

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "L H D"],
        key: Float[Tensor, "L K D"],
        value: Tensor,
        scale: float,
        window: int | None = None,
    ) -> Float[Tensor, "L H D"]: ...


def install(model: Any) -> None:
    """Let the model's attention layers follow a layout where a forward pass brings one, and be as before elsewhere.

    Raises:
        ModelError: the model does not use Transformers' attention interface.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = model.config._attn_implementation
    if plain.startswith(_PREFIX):
        return
    if plain not in ALL_ATTENTION_FUNCTIONS or plain not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise ModelError(f"attention {plain!r} cannot be extended")
    name = _PREFIX + plain
    ALL_ATTENTION_FUNCTIONS.register(name, partial(_attention, plain=ALL_ATTENTION_FUNCTIONS[plain]))
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[plain])
    model.set_attn_implementation(name)


def uninstall(model: Any) -> None:
    """Undo `install`."""
    name = model.config._attn_implementation
    if name.startswith(_PREFIX):
        model.set_attn_implementation(name.removeprefix(_PREFIX))


@contextmanager
def uninstalled(model: Any) -> Iterator[None]:
    """The model as Transformers made it, for code that looks at the name of its attention."""
    name = model.config._attn_implementation
    uninstall(model)
    try:
        yield
    finally:
        if name.startswith(_PREFIX):
            install(model)


def arguments(layout: Layout, device: torch.device) -> dict[str, Any]:
    """Keyword arguments that make a forward pass of an installed model follow the layout."""
    # A mask that is four-dimensional already is passed through: none is built, and the layout reads none.
    return {LAYOUT: layout, "attention_mask": torch.zeros(1, 1, 1, 1, device=device), "use_cache": False}


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plain: Callable[..., Any],
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention function: query [1, H, L, D], key and value [1, K, L, D] -> [1, L, H, D]."""
    layout: Layout | None = kwargs.pop(LAYOUT, None)
    if layout is None:
        result: tuple[Tensor, None] = plain(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return result
    window: int | None = kwargs.pop("sliding_window", None)
    if unknown := sorted(name for name, argument in kwargs.items() if argument is not None and name not in _KNOWN):
        raise ModelError(f"its attention asks for {', '.join(unknown)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kind, dtype = query.device.type, query.dtype
    cast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
    q, k, v = (values[0].transpose(0, 1).to(cast_dtype) for values in (query, key, value))  # [L, heads, D]
    return layout.attend(module.layer_idx, q, k, v, scale, window)[None].to(dtype), None
