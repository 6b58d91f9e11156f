"""The policy being trained: log-probs of sequences with and without gradient, and the optimiser step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from progrpo.algo.logprobs import head_logprobs
from progrpo.model import LanguageModel
from progrpo.train.batch import MicroBatch, Rows, micro_batches
from progrpo.train.settings import OptimSettings
from progrpo.train.work import Work


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """Log-probs of whole rollouts under the current policy, without gradient, on the CPU (see `RolloutBatch`), and what
    the pass cost."""

    logprobs: Float[Tensor, "N S"]
    entropies: Float[Tensor, "N S"] | None
    prompt_logprobs: Float[Tensor, "P Q"] | None
    work: Work


class Policy:
    """Model, optimiser and learning-rate schedule.

    Args:
        steps: of the whole run, for the schedule.
    """

    def __init__(self, model: LanguageModel, optim: OptimSettings, *, steps: int, temperature: float) -> None:
        from transformers import get_scheduler

        self.model = model
        self.temperature = temperature
        self._grad_clip = optim.grad_clip
        self.parameters = [parameter for parameter in model.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=optim.lr,
            betas=optim.betas,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            fused=model.device.type in ("cpu", "cuda"),
        )
        name = "constant_with_warmup" if optim.schedule == "constant" else optim.schedule
        self.schedule = get_scheduler(
            name, self.optimizer, num_warmup_steps=optim.warmup_steps, num_training_steps=steps
        )
        self.model.model.train()

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def logprobs(self, micro: MicroBatch) -> Float[Tensor, "M S"]:
        """Log-prob of each completion token at the sampling temperature, as completion columns; with gradient."""
        values, _ = self._forward(micro, micro.scored, entropies=False)
        return micro.as_columns(values)

    @torch.no_grad()
    def score(self, rows: Rows, index: Tensor, *, columns: int, budget: int, entropies: bool, prompts: bool) -> Scores:
        """Score the sequences `index` in one pass: completions, and the prompt of the first sequence of each group."""
        count = len(index)
        position = {int(n): place for place, n in enumerate(index)}
        logprobs = torch.zeros(count, columns)
        entropy = torch.zeros(count, columns) if entropies else None
        longest = max(len(rows.prompts[int(n)]) for n in index)
        prompt = torch.zeros(count // rows.group, longest) if prompts else None
        work = Work()
        for micro in self.micro_batches(rows, index, columns, budget):
            firsts = [place for place in micro.prompts if prompts and place.first % rows.group == 0]
            scored = micro.scored.clone()
            for place in firsts:
                scored[place.row, place.column + 1 : place.column + place.length] = True
            work += replace(micro.work, head_rows=int(scored.sum()))
            values, uncertain = self._forward(micro, scored, entropies=entropies)
            places = torch.tensor([position[int(n)] for n in micro.index])
            logprobs[places] = micro.as_columns(values).cpu()
            if entropy is not None and uncertain is not None:
                entropy[places] = micro.as_columns(uncertain).cpu()
            for place in firsts if prompt is not None else ():
                own = values[place.row, place.column : place.column + place.length].cpu()
                prompt[position[place.first] // rows.group, : place.length] = own
        return Scores(logprobs=logprobs, entropies=entropy, prompt_logprobs=prompt, work=work)

    def zero_grad(self) -> None:
        """Set every gradient to 0 (not None: a step in which no sequence has an advantage still decays momentum)."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()

    def step(self) -> None:
        """One optimiser and schedule step."""
        self.optimizer.step()
        self.schedule.step()

    def clip_gradient(self) -> float:
        """Clip the whole gradient's norm to `optim.grad_clip`; the norm before. inf or nan if the gradient is."""
        return float(torch.nn.utils.clip_grad_norm_(self.parameters, self._grad_clip))

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

    def _forward(self, micro: MicroBatch, scored: Tensor, *, entropies: bool) -> tuple[Tensor, Tensor | None]:
        with self.model.computing():
            # No attention mask: the padding stands on the right, where a causal model does not look.
            states = self.model.hidden(micro.tokens, position_ids=micro.positions, layout=micro.layout, use_cache=False)
            return head_logprobs(
                states,
                micro.tokens,
                scored,
                self.model.head,
                temperature=self.temperature,
                entropies=entropies,
                previous=micro.previous,
            )

    def micro_batches(self, rows: Rows, index: Tensor, columns: int, budget: int) -> Iterator[MicroBatch]:
        """The sequences `index` in micro-batches of at most `budget` tokens on the model's device."""
        return micro_batches(
            rows,
            index,
            columns=columns,
            budget=budget,
            pad_id=self.model.pad_id,
            device=self.model.device,
            share=self.model.shares_prompts,
            half=self.model.precision == "bf16",
        )
