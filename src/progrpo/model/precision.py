"""The number format of forward and backward passes, and why float16 is none of them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

_HALF = frozenset({"fp16", "float16", "torch.float16", "half", "16", "16-mixed"})
"""What others call it."""


def _not_float16(value: Any) -> Any:
    if str(value).lower() in _HALF:
        raise ValueError(
            f"{value} (float16) is refused: its gradients need loss scaling, which is not done here, since below 6e-8 they "
            "become 0 and above 65,504 infinite. bf16 has the range of float32 in the same memory; a GPU without it takes fp32"
        )
    return value


Precision = Annotated[Literal["fp32", "bf16"], BeforeValidator(_not_float16)]
