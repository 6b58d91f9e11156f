"""The model that is trained, lent to an engine that runs it in another way."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from progrpo import attention
from progrpo.model import LanguageModel


@contextmanager
def lent(model: LanguageModel) -> Iterator[None]:
    """The model as Transformers made it, in evaluation mode; attention and mode are afterwards what they were."""
    module, was_training = model.model, model.model.training
    with attention.uninstalled(module):
        name = module.config._attn_implementation
        try:
            module.eval()
            yield
        finally:
            if module.config._attn_implementation != name:
                module.set_attn_implementation(name)
            module.train(was_training)


@contextmanager
def rounded(model: LanguageModel) -> Iterator[None]:
    """Weights in bf16 where the precision is bf16: the paged cache and flash attention know no autocast."""
    kept = [(parameter, parameter.data) for parameter in model.model.parameters() if model.precision == "bf16"]
    try:
        for parameter, data in kept:
            parameter.data = data.to(torch.bfloat16)
        if model.device.type == "cuda":  # the streams of continuous batching do not wait for what writes the weights
            torch.cuda.synchronize(model.device)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data
