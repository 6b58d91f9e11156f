"""RLVR training of language models that keeps exploring: ProGRPO (arXiv:2602.05281) and its rivals.

The equations are pure functions of tensors, for use in any trainer; `train` is the loop of Algorithm 1. Names are
imported on first use, so that `import progrpo` itself costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "sequence_confidence": "progrpo.algo.confidence",
    "group_advantages": "progrpo.algo.advantages",
    "reweight_advantages": "progrpo.algo.reweight",
    "confidence_shift": "progrpo.algo.reweight",
    "clipped_surrogate": "progrpo.algo.surrogate",
    "sequence_weights": "progrpo.algo.aggregate",
    "weighted_sum": "progrpo.algo.aggregate",
    "token_logprobs": "progrpo.algo.logprobs",
    "train": "progrpo.train.loop",
    "load_settings": "progrpo.train.settings",
}

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'progrpo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
