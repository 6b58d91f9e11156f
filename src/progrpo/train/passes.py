"""Forward passes of a model over micro-batches: log-probs with and without gradient, entropies, hidden states."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from progrpo.algo.distributions import Further
from progrpo.algo.logprobs import NOTHING
from progrpo.model import LanguageModel
from progrpo.processes import ALONE, Processes
from progrpo.train.micro_batch import MicroBatch, micro_batches
from progrpo.train.rows import TokenRows, cut, shortest
from progrpo.train.scorer import Forwarded
from progrpo.train.share import shares
from progrpo.train.token_counts import TokenCounts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SequenceScores:
    """Log-probs of whole rollouts under a model, without gradient, on the CPU (see `RolloutBatch`), and what the pass
    cost; `further` by name (see `Further`)."""

    logprobs: Float[Tensor, "N S"]
    entropies: Float[Tensor, "N S"] | None
    prompt_logprobs: Float[Tensor, "P Q"] | None
    values: Float[Tensor, "N S"] | None
    further: dict[str, Float[Tensor, "N S"]]
    token_counts: TokenCounts


class SharedMicroBatch(NamedTuple):
    """A micro-batch of one process.

    Attributes:
        counts: false for one that only keeps step with the other processes. last: of the pass over all of them.
    """

    micro: MicroBatch
    counts: bool
    last: bool


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes over whole rollouts, micro-batch by micro-batch.

    Attributes:
        model: how its micro-batches are cut. scorer: a `Scorer` of it, or what DDP or FSDP2 made of one.
        processes: among which the sequences of a pass are divided.
    """

    model: LanguageModel
    scorer: torch.nn.Module
    processes: Processes = ALONE

    def micro_batches(
        self, rows: TokenRows, index: Tensor, columns: int, budget: int, *, keep_groups_together: bool = False
    ) -> Iterator[MicroBatch]:
        """The sequences `index` in micro-batches of at most `budget` tokens on the model's device.

        Args:
            keep_groups_together: a group's sequences stay together, whatever the budget says.
        """
        return micro_batches(
            rows,
            index,
            columns=columns,
            budget=budget,
            pad_id=self.model.pad_id,
            device=self.model.device,
            share=self.model.shares_prompts,
            bf16=self.model.precision == "bf16",
            keep_groups_together=keep_groups_together,
        )

    def shared_micro_batches(
        self, rows: TokenRows, index: Tensor, columns: int, budget: int, *, keep_groups_together: bool = False
    ) -> Iterator[SharedMicroBatch]:
        """This process's share of `micro_batches`, and as many in each process: DDP and FSDP2 wait for one another in a pass.

        A process whose share has fewer gets the shortest sequence of the rollout for the rest, not to be counted.
        """
        if self.processes.count == 1:
            for micro in self.micro_batches(rows, index, columns, budget, keep_groups_together=keep_groups_together):
                yield SharedMicroBatch(micro, counts=True, last=True)
            return
        divided = shares(rows, index, self.processes.count, keep_groups_together=keep_groups_together)
        share = self.model.shares_prompts
        sizes = [
            len(cut(rows, part, budget=budget, share=share, keep_groups_together=keep_groups_together))
            for part in divided
        ]
        number, mine = max(sizes), self.processes.rank
        local = self.micro_batches(rows, divided[mine], columns, budget, keep_groups_together=keep_groups_together)
        for place, micro in enumerate(local):
            yield SharedMicroBatch(micro, counts=True, last=place == number - 1)
        for place in range(sizes[mine], number):
            (micro,) = self.micro_batches(rows, torch.tensor([shortest(rows)]), columns, budget)
            yield SharedMicroBatch(micro, counts=False, last=place == number - 1)

    def forward(
        self,
        micro: MicroBatch,
        scored: Tensor,
        *,
        entropies: bool = False,
        entropy_grad: bool = False,
        top: int = 0,
        further: Further = NOTHING,
    ) -> Forwarded:
        """See `Scorer.forward`."""
        forwarded: Forwarded = self.scorer(
            micro, scored, entropies=entropies, entropy_grad=entropy_grad, top=top, further=further
        )
        return forwarded

    @torch.no_grad()
    def score(
        self,
        rows: TokenRows,
        index: Tensor,
        *,
        columns: int,
        budget: int,
        entropies: bool = False,
        prompts: bool = False,
        further: Further = NOTHING,
        net: Any = None,
    ) -> SequenceScores:
        """Score the sequences `index` in one pass: completions, and the prompt of the first sequence of each group.

        Args:
            further: what else to give of each distribution.
            net: also give its value for the hidden state before each completion token.
        """
        position = {int(n): place for place, n in enumerate(index)}
        size = (len(index), columns)
        logprobs = torch.zeros(size)
        entropy, value = (torch.zeros(size) if wanted else None for wanted in (entropies, net is not None))
        others = {name: torch.zeros(size) for name in further.names}
        longest = max(len(rows.prompts[int(n)]) for n in index)
        prompt = torch.zeros(len(index) // rows.group, longest) if prompts else None
        counts = TokenCounts()
        for micro, counted, _ in self.shared_micro_batches(rows, index, columns, budget):
            if not counted:
                self.forward(micro, micro.scored, entropies=entropies, further=further)
                continue
            firsts = [place for place in micro.prompts if prompts and place.first % rows.group == 0]
            scored = micro.scored.clone()
            for place in firsts:
                scored[place.row, place.column + 1 : place.column + place.length] = True
            counts += replace(micro.token_counts, logit_rows=int(scored.sum()))
            forwarded = self.forward(micro, scored, entropies=entropies, further=further)
            places = torch.tensor([position[int(n)] for n in micro.index])
            logprobs[places] = micro.as_columns(forwarded.logprobs).cpu()
            if entropy is not None and forwarded.entropies is not None:
                entropy[places] = micro.as_columns(forwarded.entropies).cpu()
            for name, each in others.items():
                each[places] = micro.as_columns(forwarded.further[name]).cpu()
            if value is not None:
                net_values = net(token_states(micro, forwarded.states).float())
                value[places] = scatter_columns(micro, net_values).cpu()
            if prompt is not None:
                for place in firsts:
                    prompt_values = forwarded.logprobs[place.row, place.column : place.column + place.length].cpu()
                    prompt[position[place.first] // rows.group, : place.length] = prompt_values
        # Each sequence was scored in one process, and is 0 in the others.
        self.processes.sum(logprobs, entropy, value, prompt, *others.values())
        counts = sum(self.processes.gather(counts), TokenCounts())
        return SequenceScores(
            logprobs=logprobs,
            entropies=entropy,
            prompt_logprobs=prompt,
            values=value,
            further=others,
            token_counts=counts,
        )


def token_states(micro: MicroBatch, states: Float[Tensor, "B L D"]) -> Float[Tensor, "n D"]:
    """The hidden state before each scored token, in the order of `scored`; with gradient."""
    return states.flatten(0, 1).index_select(0, micro.previous[micro.scored])


def top_columns(micro: MicroBatch, values: Float[Tensor, "B L K"]) -> Float[Tensor, "M S K"]:
    """Log-probs of the likeliest tokens in each place as completion columns; keeps the gradient."""
    return torch.stack([micro.as_columns(each) for each in values.unbind(dim=-1)], dim=-1)


def scatter_columns(micro: MicroBatch, values: Float[Tensor, " n"]) -> Float[Tensor, "M S"]:
    """Values of the scored tokens, in the order of `token_states`, as completion columns; keeps the gradient."""
    empty = torch.zeros(micro.mask.shape, dtype=values.dtype, device=values.device)
    return empty.masked_scatter(micro.mask, values)


def prompt_states(micro: MicroBatch, states: Float[Tensor, "B L D"], group: int) -> Float[Tensor, "M D"]:
    """The mean hidden state of each sequence's prompt but its last token (of a prompt of one token: that token's)."""
    by_group = {
        place.first // group: states[place.row, place.column : place.column + max(1, place.length - 1)].mean(dim=0)
        for place in micro.prompts
    }
    return torch.stack([by_group[n // group] for n in micro.index.tolist()])
