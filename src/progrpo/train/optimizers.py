"""The optimisers that `optim.name` chooses: torch's, and one with its state in 8 bits."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch

from progrpo.errors import ConfigError
from progrpo.train.settings import OptimSettings

Groups = Sequence[dict[str, Any]]


def make_optimizer(groups: Groups, optim: OptimSettings, model: Any) -> torch.optim.Optimizer:
    """The chosen optimiser over parameter groups, whose own "lr" goes before `optim.lr`.

    Args:
        groups: that of the model's trained parameters, and that of the net which a method brings, if it does.
        model: whose embeddings and head are no matrices to Muon.

    Raises:
        ConfigError: see `require_optimizer`; or the model has no matrix for Muon.
    """
    return _MAKE[optim.name](list(groups), optim, model)


def _adamw(groups: Groups, optim: OptimSettings, model: Any) -> torch.optim.Optimizer:
    """Decoupled weight decay (arXiv:1711.05101)."""
    return torch.optim.AdamW(
        groups,
        lr=optim.lr,
        betas=optim.betas,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        fused=groups[0]["params"][0].device.type in ("cpu", "cuda"),
    )


def _adamw_8bit(groups: Groups, optim: OptimSettings, model: Any) -> torch.optim.Optimizer:
    """AdamW whose two means are kept in 8 bits, in blocks with a scale each (arXiv:2110.02861), by bitsandbytes."""
    require_optimizer(optim)
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(
        groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay
    )
    return optimizer


def require_optimizer(optim: OptimSettings) -> None:
    """Raises ConfigError if the chosen optimiser cannot work here: its package is missing, or torch is too old for it."""
    if optim.name == "muon" and not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"optim.name=muon needs torch 2.9 or later, and this is {torch.__version__}; take optim.name=adamw"
        )
    if optim.name == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise ConfigError(
            "optim.name=adamw_8bit needs the package bitsandbytes: pip install 'progrpo[bitsandbytes]'; optim.name=adafactor "
            "keeps less, and needs none"
        )


def _sgd(groups: Groups, optim: OptimSettings, model: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum or 0.0, weight_decay=optim.weight_decay)


def _adafactor(groups: Groups, optim: OptimSettings, model: Any) -> torch.optim.Optimizer:
    """The mean of squares of a matrix by its rows and columns (arXiv:1804.04235); a step is relative to the size of what it
    steps, as torch has it: lr · max(0.001, RMS(W)), lr at most 1/√t."""
    return torch.optim.Adafactor(groups, lr=optim.lr, weight_decay=optim.weight_decay)


def _muon(groups: Groups, optim: OptimSettings, model: Any) -> torch.optim.Optimizer:
    return MuonWithAdamW(groups, optim, model)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices within the layers, AdamW for all else: embeddings, head, norms, biases, stacked experts, and the
    net of a method; as Muon's authors do (kellerjordan.github.io/posts/muon).

    A matrix's momentum is orthogonalised, and scaled by 0.2 √max(rows, columns) (arXiv:2502.16982): its entries then move as
    far as AdamW would move them, so that one learning rate and one decay serve both.

    Of the groups that it is given each becomes one or two, with the same settings: the matrices first.
    """

    def __init__(self, groups: Groups, optim: OptimSettings, model: Any) -> None:
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        outer = {id(parameter) for end in ends if end is not None for parameter in end.parameters()}
        trained = groups[0]["params"]
        matrices = [one for one in trained if one.ndim == 2 and id(one) not in outer]
        held = set(map(id, matrices))
        rest = [one for one in trained if id(one) not in held]
        others = [*([groups[0] | {"params": rest}] if rest else []), *groups[1:]]
        if not matrices:
            raise ConfigError(
                "optim.name=muon: the model trains no matrix within its layers, which is what Muon steps; take optim.name=adamw"
            )
        muon = torch.optim.Muon(
            [groups[0] | {"params": matrices}],
            lr=optim.lr,
            momentum=0.95 if optim.momentum is None else optim.momentum,
            weight_decay=optim.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self._parts: list[torch.optim.Optimizer] = [muon, *([_adamw(others, optim, model)] if others else [])]
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Both step the groups, and keep the state, of this optimiser."""
        start = 0
        for part in self._parts:
            part.param_groups = self.param_groups[start : start + len(part.param_groups)]
            part.state = self.state
            start += len(part.param_groups)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of each."""
        for part in self._parts:
            part.step()


_MAKE = {"adamw": _adamw, "adamw_8bit": _adamw_8bit, "sgd": _sgd, "adafactor": _adafactor, "muon": _muon}
