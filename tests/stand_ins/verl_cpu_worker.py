"""verl's extension of vLLM's workers, for vLLM built for CPUs: weights stay where verl's loader finds them."""

from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from vllm import _custom_ops


class Worker(vLLMColocateWorkerExtension):
    """oneDNN packs the weights away when a model is loaded, and a later load would find none."""

    def __new__(cls, **named: Any) -> Any:
        _custom_ops._supports_onednn = False
        return super().__new__(cls, **named)
