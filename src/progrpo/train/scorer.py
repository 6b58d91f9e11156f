"""The one door to the model: every pass of the trainer, with gradient or without, is the `forward` of this module.

DDP and FSDP2 act when the forward of the module they wrap is called. So the whole pass, from token ids to log-probs, lies in
one forward, and nothing in `train` calls the model around it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo.algo.distributions import Further
from progrpo.algo.logprobs import NOTHING, head_values
from progrpo.model import LanguageModel
from progrpo.train.micro_batch import MicroBatch


class Forwarded(NamedTuple):
    """One pass over a micro-batch. A tuple, because FSDP2 looks for the tensors of its results in tuples and not in classes.

    Attributes:
        logprobs, entropies: [B, L] of the scored tokens; entropies are None unless asked for.
        states: [B, L, D] last hidden states.
        top_logprobs: [B, L, K] of the likeliest tokens in each place; None unless asked for.
        further: [B, L] what else was asked for, by name.
    """

    logprobs: Float[Tensor, "B L"]
    entropies: Float[Tensor, "B L"] | None
    states: Float[Tensor, "B L D"]
    top_logprobs: Float[Tensor, "B L K"] | None = None
    further: dict[str, Float[Tensor, "B L"]] = {}  # noqa: RUF012 - never written to


class Scorer(torch.nn.Module):
    """Log-probs of the tokens of a micro-batch under a model, at the sampling temperature.

    Args:
        model: its parameters are this module's. temperature: logits are divided by it.
    """

    def __init__(self, model: LanguageModel, temperature: float) -> None:
        super().__init__()
        self.model = model.model
        self._language_model = model
        self._temperature = temperature

    def forward(
        self,
        micro: MicroBatch,
        scored: Bool[Tensor, "B L"],
        *,
        entropies: bool = False,
        entropy_grad: bool = False,
        top: int = 0,
        further: Further = NOTHING,
    ) -> Forwarded:
        """Score the tokens `scored` of a micro-batch.

        Args:
            entropies: also give the entropy of the distribution of each scored token; with gradient if `entropy_grad`.
            top: also give the log-probs of so many likeliest tokens in each place.
            further: what else to give of each distribution.
        """
        model = self._language_model
        with model.computing():
            # No attention mask: the padding stands on the right, where a causal model does not look.
            states = model.hidden(micro.tokens, position_ids=micro.positions, layout=micro.layout, use_cache=False)
            values = head_values(
                states,
                micro.tokens,
                scored,
                model.head,
                temperature=self._temperature,
                entropies=entropies or entropy_grad,
                entropy_grad=entropy_grad,
                top=top,
                further=further,
                previous=micro.previous,
            )
        return Forwarded(values.logprobs, values.entropies, states, values.top_logprobs, values.further)
