"""The policy being trained: its passes, its optimiser, and the net a method brings."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from progrpo.algo.distributions import Further
from progrpo.algo.logprobs import NOTHING
from progrpo.model import LanguageModel
from progrpo.processes import ALONE
from progrpo.train.micro_batch import MicroBatch
from progrpo.train.optimizer_state import load_optimizer, save_optimizer, scatter_optimizer
from progrpo.train.optimizers import make_optimizer
from progrpo.train.parallel import Parallel, ParallelSettings
from progrpo.train.passes import Passes, SequenceScores, SharedMicroBatch
from progrpo.train.rows import TokenRows, pools
from progrpo.train.schedule import make_schedule
from progrpo.train.scorer import Forwarded, Scorer
from progrpo.train.settings import OptimSettings


class Policy:
    """Model, optimiser and learning-rate schedule.

    Args:
        steps: of the whole run, for the schedule.
        net: a module of the method's own; its parameters follow the model's in the optimiser, at `net_lr_factor` times the
            learning rate, and its gradient is clipped by itself.
        parallel: how the model is spread over several processes; None for one.
    """

    def __init__(
        self,
        model: LanguageModel,
        optim: OptimSettings,
        *,
        steps: int,
        temperature: float,
        net: Any = None,
        net_lr_factor: float = 1.0,
        parallel: Parallel | None = None,
    ) -> None:
        self.model = model
        self.net = None if net is None else net.to(model.device)
        self.parallel = parallel or Parallel(ParallelSettings(), ALONE)
        self.processes = self.parallel.processes
        self.scorer = self.parallel.wrap(Scorer(model, temperature), model.device)
        self._passes = Passes(model, self.scorer, self.processes)
        self._grad_clip = optim.grad_clip
        self.parameters = [parameter for parameter in model.model.parameters() if parameter.requires_grad]
        self._net_parameters = [] if self.net is None else list(self.net.parameters())
        groups: list[dict[str, Any]] = [{"params": self.parameters}]
        if self._net_parameters:
            groups.append({"params": self._net_parameters, "lr": optim.lr * net_lr_factor})
        self.optimizer = make_optimizer(groups, optim, model.model)
        self._trained = torch.nn.ModuleDict({"model": model.model} | ({} if self.net is None else {"net": self.net}))
        self.schedule = make_schedule(self.optimizer, optim, steps)
        self.model.model.train()

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def logprobs(self, micro: MicroBatch) -> Float[Tensor, "M S"]:
        """Log-prob of each completion token at the sampling temperature, as completion columns; with gradient."""
        return micro.as_columns(self.forward(micro).logprobs)

    def forward(
        self, micro: MicroBatch, *, entropy_grad: bool = False, top: int = 0, further: Further = NOTHING
    ) -> Forwarded:
        """One pass with gradient over the completions of a micro-batch."""
        return self._passes.forward(micro, micro.scored, entropy_grad=entropy_grad, top=top, further=further)

    def keep_step(self, micro: MicroBatch) -> None:
        """A pass that adds nothing to the gradient, where other processes need one of this process."""
        forwarded = self.forward(micro)
        (0.0 * (forwarded.logprobs.sum() + forwarded.states.sum())).backward()

    def score(
        self,
        rows: TokenRows,
        index: Tensor,
        *,
        columns: int,
        budget: int,
        entropies: bool,
        prompts: bool,
        further: Further = NOTHING,
        values: bool = False,
    ) -> SequenceScores:
        """See `Passes.score`; `values` are those of the method's net."""
        return self._passes.score(
            rows,
            index,
            columns=columns,
            budget=budget,
            entropies=entropies,
            prompts=prompts,
            further=further,
            net=self.net if values else None,
        )

    def shared_micro_batches(
        self, rows: TokenRows, index: Tensor, columns: int, budget: int, *, keep_groups_together: bool = False
    ) -> Iterator[SharedMicroBatch]:
        """This process's share (see `Passes.shared_micro_batches`); to be forwarded inside `accumulating`."""
        return self._passes.shared_micro_batches(
            rows, index, columns, budget, keep_groups_together=keep_groups_together
        )

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Around the passes of a micro-batch: with the last one gradients are summed over the processes."""
        return self.parallel.accumulating(self.scorer, last)

    def pools(
        self, rows: TokenRows, index: Tensor, budget: int, *, keep_groups_together: bool = False
    ) -> Int[Tensor, " K"]:
        """The micro-batch that each of the sequences falls into (see `progrpo.train.rows.pools`)."""
        return pools(
            rows, index, budget=budget, share=self.model.shares_prompts, keep_groups_together=keep_groups_together
        )

    def zero_grad(self) -> None:
        """Set every gradient to 0 (not None: a step in which no sequence has an advantage still decays momentum)."""
        for parameter in (*self.parameters, *self._net_parameters):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()

    def step(self) -> None:
        """One optimiser and schedule step."""
        self.optimizer.step()
        self.schedule.step()

    def clip_gradient(self) -> float:
        """Clip the norm of the model's gradient, and of the net's, to `optim.grad_clip`; the model's norm before. inf or nan
        if either gradient is."""
        self.parallel.sum_gradients(self._net_parameters)
        norm = float(self.parallel.full_tensor(torch.nn.utils.clip_grad_norm_(self.parameters, self._grad_clip)))
        if not self._net_parameters:
            return norm
        net_norm = float(torch.nn.utils.clip_grad_norm_(self._net_parameters, self._grad_clip))
        return norm if net_norm < float("inf") else net_norm

    def whole_weights(self, *, only_trained: bool) -> dict[str, Tensor] | None:
        """The model's weights on the CPU in the main process, {} in the others; None where the model holds them whole.

        They are gathered one after the other, so that no process but the main one holds more than one of them whole. Every
        process has to call it.
        """
        if not self.parallel.sharded:
            return None
        weights: dict[str, Tensor] = {}
        names: dict[int, str] = {}
        for name, tensor in self.model.model.state_dict(keep_vars=True).items():
            if only_trained and not tensor.requires_grad:
                continue
            first = names.setdefault(id(tensor), name)  # one that is tied is gathered once
            gathered = self.parallel.full_tensor(tensor.detach()) if first == name else None
            if self.processes.main:
                weights[name] = weights[first] if gathered is None else gathered.cpu()
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Optimiser (where it is not sharded, see `save_shards`), schedule and net."""
        optimizer = {} if self.parallel.sharded else {"optimizer": self.optimizer.state_dict()}
        net = {} if self.net is None else {"net": self.net.state_dict()}
        return {**optimizer, "schedule": self.schedule.state_dict(), **net}

    def save_shards(self, folder: Path) -> None:
        """Write a sharded optimiser by torch's distributed checkpoint, each process its part; nothing for a whole one."""
        if self.parallel.sharded:
            save_optimizer(self._trained, self.optimizer, folder)

    def load_state_dict(self, state: dict[str, Any], *, shards: Path) -> None:
        """Put back what `state_dict` gave and `save_shards` wrote, by however many processes it was."""
        if self.net is not None:
            self.net.load_state_dict(state["net"])
        if "optimizer" not in state:
            load_optimizer(self._trained, self.optimizer, shards)
        elif self.parallel.sharded:
            scatter_optimizer(self._trained, self.optimizer, state["optimizer"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
