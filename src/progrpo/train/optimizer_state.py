"""An optimiser's state between processes of any number: torch's distributed checkpoint.

Each process writes its part; whoever reads takes the parts of every tensor that it needs. Parameters go by their names.
"""

from pathlib import Path
from typing import Any

import torch
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

_KEY = "optimizer"


def save_optimizer(trained: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the state of a sharded optimiser; every process has to call it.

    Args:
        trained: holds all parameters that the optimiser steps.
    """
    checkpoint.save({_KEY: get_optimizer_state_dict(trained, optimizer)}, checkpoint_id=folder)


def load_optimizer(trained: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read what `save_optimizer` wrote, into an optimiser that may be sharded otherwise, or not at all."""
    state = {_KEY: get_optimizer_state_dict(trained, optimizer)}
    checkpoint.load(state, checkpoint_id=folder)
    set_optimizer_state_dict(trained, optimizer, optim_state_dict=state[_KEY])


def scatter_optimizer(trained: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give a sharded optimiser its part of a state that `Optimizer.state_dict` gave where it was whole."""
    names = {id(parameter): name for name, parameter in trained.named_parameters()}
    ordered = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    by_name: dict[str, Any] = {
        "state": {ordered[number]: values for number, values in state["state"].items()},
        "param_groups": [
            group | {"params": [ordered[number] for number in group["params"]]} for group in state["param_groups"]
        ],
    }
    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(trained, optimizer, optim_state_dict=by_name, options=options)
