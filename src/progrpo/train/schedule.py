"""The learning rate over the steps, `optim.schedule`: as transformers has it, whose module also imports all that its own
trainer may need (peft, bitsandbytes, datasets, where they are installed)."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from progrpo.train.settings import OptimSettings


def make_schedule(optimizer: Optimizer, optim: OptimSettings, steps: int) -> LambdaLR:
    """The schedule of a run of so many optimiser steps.

    Step s in 0, 1, ... has lr times s/w within the w steps of warm-up; after them, with r = (s - w)/(steps - w),

        constant 1      linear max(0, 1 - r)      cosine max(0, (1 + cos(πr))/2)
    """
    # A partial is an object, not a function: the state of a schedule has an empty entry for it.
    factor = partial(_factor, kind=optim.schedule, warmup=optim.warmup_steps, steps=steps)
    return LambdaLR(optimizer, factor)


def _factor(step: int, *, kind: str, warmup: int, steps: int) -> float:
    if step < warmup:
        return float(step) / float(max(1, warmup))
    if kind == "constant":
        return 1.0
    left = max(1, steps - warmup)
    if kind == "linear":
        return max(0.0, float(steps - step) / float(left))
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (float(step - warmup) / float(left)))))
