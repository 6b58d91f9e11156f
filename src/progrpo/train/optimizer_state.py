"""An optimiser's state between processes of any number: torch's distributed checkpoint.

Each process writes its part; whoever reads takes the parts of every tensor that it needs. Parameters go by their names.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from progrpo.errors import CheckpointError

if TYPE_CHECKING:  # it takes half a second, and a run in one process needs none of it
    from torch.distributed.checkpoint import CheckpointException

_KEY = "optimizer"


def save_optimizer(trained: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the state of a sharded optimiser; every process has to call it.

    Args:
        trained: holds all parameters that the optimiser steps.

    Raises:
        What the first process that could not write its part has met: an OSError, or torch's RuntimeError in its place. All
        processes raise it.
    """
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    state = {_KEY: get_optimizer_state_dict(trained, optimizer)}
    try:
        checkpoint.save(state, checkpoint_id=folder)
    except checkpoint.CheckpointException as error:  # no Exception, and its text holds every process's traceback
        raise _first(error) from error


def load_optimizer(trained: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read what `save_optimizer` wrote, into an optimiser that may be sharded otherwise, or not at all.

    Raises:
        CheckpointError: it cannot be read, or belongs to other parameters.
    """
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    state = {_KEY: get_optimizer_state_dict(trained, optimizer)}
    try:
        checkpoint.load(state, checkpoint_id=folder)
    except checkpoint.CheckpointException as error:
        cause = _first(error)
        said = str(cause).split("\n")[0] or "cut short"
        raise CheckpointError(
            f"{folder}: the optimiser's state cannot be read ({type(cause).__name__}: {said}); remove the checkpoint, to go on "
            "from the one before it"
        ) from error
    set_optimizer_state_dict(trained, optimizer, optim_state_dict=state[_KEY])


def _first(error: "CheckpointException") -> BaseException:
    """The error of the lowest process among those that failed."""
    return error.failures[min(error.failures)][0]


def scatter_optimizer(trained: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give a sharded optimiser its part of a state that `Optimizer.state_dict` gave where it was whole."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

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
