"""What the backward pass finds of the forward pass."""

from typing import Any


def recompute_activations(model: Any) -> None:
    """Keep no activations within a layer for the backward pass."""
    # Transformers 5 renames the method; the old name warns.
    enable = getattr(model, "activation_checkpointing_enable", None)
    if enable is None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        enable(activation_checkpointing_kwargs={"use_reentrant": False})
