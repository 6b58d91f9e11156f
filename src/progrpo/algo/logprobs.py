"""Log-probabilities and entropies aligned to their own token: the only place with a shift by one."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import nll_loss
from torch.utils.checkpoint import checkpoint

from progrpo.algo.distributions import Further
from progrpo.algo.shapes import require_shape
from progrpo.errors import ShapeError

Head = Callable[[Tensor], Tensor]
NOTHING = Further()


def token_logprobs(
    logits: Float[Tensor, "N S V"], token_ids: Int[Tensor, "N S"], *, temperature: float = 1.0
) -> Float[Tensor, "N S"]:
    """log softmax(logits / temperature) of each token, read at the position before it.

    Args:
        temperature: > 0.

    Returns:
        float32; entry [n, t] belongs to token t. Position 0 has no condition and holds 0. Gradient flows into `logits`.

    Raises:
        ShapeError: shapes disagree.
    """
    require_shape(logits=(logits, (None, None, None)), token_ids=(token_ids, tuple(logits.shape[:2])))
    values = gather_logprobs(logits[:, :-1], token_ids[:, 1:], temperature)
    return torch.cat([values.new_zeros(values.shape[0], 1), values], dim=1)


def gather_logprobs(
    logits: Float[Tensor, "*rows V"], targets: Int[Tensor, "*rows"], temperature: float = 1.0
) -> Float[Tensor, "*rows"]:
    """log softmax(logits / temperature) at `targets`, where logits row i is the distribution of target i. float32."""
    scaled = logits if temperature == 1 else logits.float() / temperature
    # One kernel each way, which reads half precision and computes in float32.
    logprobs = scaled.log_softmax(dim=-1, dtype=torch.float32)
    return -nll_loss(logprobs.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)


def distribution_entropy(logits: Float[Tensor, "*rows V"], temperature: float = 1.0) -> Float[Tensor, "*rows"]:
    """Entropy of softmax(logits / temperature) in nats, in [0, log V]; a -inf logit contributes 0. float32."""
    logprobs = (logits.float() / temperature).log_softmax(dim=-1)
    return -torch.where(logprobs == -torch.inf, 0.0, logprobs.exp() * logprobs).sum(dim=-1)


class HeadValues(NamedTuple):
    """What one pass of the head gives of each scored token; float32, 0 where masked.

    Attributes:
        logprobs: of the token itself, with gradient.
        entropies: in nats, of the distribution it was drawn from; None unless asked for.
        top_logprobs: of the likeliest tokens in its place, likeliest first, with gradient; None unless asked for.
        further: what else was asked for, by name (see `Further`).
    """

    logprobs: Float[Tensor, "N S"]
    entropies: Float[Tensor, "N S"] | None
    top_logprobs: Float[Tensor, "N S K"] | None
    further: dict[str, Float[Tensor, "N S"]]


def head_logprobs(
    hidden: Float[Tensor, "N S D"],
    token_ids: Int[Tensor, "N S"],
    mask: Bool[Tensor, "N S"],
    head: Head,
    *,
    temperature: float = 1.0,
    entropies: bool = False,
    entropy_grad: bool = False,
    previous: Int[Tensor, "N S"] | None = None,
    chunk_rows: int = 4096,
) -> tuple[Float[Tensor, "N S"], Float[Tensor, "N S"] | None]:
    """The first two of `head_values`: log-probs and, if asked for, entropies."""
    values = head_values(
        hidden,
        token_ids,
        mask,
        head,
        temperature=temperature,
        entropies=entropies,
        entropy_grad=entropy_grad,
        previous=previous,
        chunk_rows=chunk_rows,
    )
    return values.logprobs, values.entropies


def head_values(
    hidden: Float[Tensor, "N S D"],
    token_ids: Int[Tensor, "N S"],
    mask: Bool[Tensor, "N S"],
    head: Head,
    *,
    temperature: float = 1.0,
    entropies: bool = False,
    entropy_grad: bool = False,
    top: int = 0,
    further: Further = NOTHING,
    previous: Int[Tensor, "N S"] | None = None,
    chunk_rows: int = 4096,
) -> HeadValues:
    """`token_logprobs` of the masked tokens alone, without ever holding [N, S, V].

    The head runs on the rows that are scored, `chunk_rows` at a time; in training the logits of each chunk are
    recomputed in the backward pass instead of kept, where there is more than one.

    Args:
        hidden: last hidden states, position t before token t+1. mask: True on tokens to score; False at position 0.
        previous: the token before each one, as a position in the flattened [N * S], where that is not the column before
            (on a packed sequence the first token of a completion follows the last of its prompt).
        head: hidden rows [M, D] -> logits [M, V].
        entropies: also give the entropy in nats of the distribution each scored token was drawn from; without gradient
            unless `entropy_grad`.
        top: also give the log-probs of so many likeliest tokens in the place of each; 0 for none.
        further: what else to give of each distribution.

    Returns:
        Gradient flows into `hidden` and the head.

    Raises:
        ShapeError: shapes disagree, or position 0 is asked for and no `previous` names what is before it.
    """
    require_shape(
        hidden=(hidden, (None, None, None)),
        token_ids=(token_ids, tuple(hidden.shape[:2])),
        mask=(mask, tuple(hidden.shape[:2])),
        **({} if previous is None else {"previous": (previous, tuple(hidden.shape[:2]))}),
    )
    if previous is None and bool(mask[:, 0].any()):
        raise ShapeError("mask: position 0 has no token before it and cannot be scored, expected False there")
    row, column = mask.nonzero(as_tuple=True)
    before = row * mask.shape[1] + column - 1 if previous is None else previous[row, column]
    states = hidden.flatten(0, 1).index_select(0, before)  # [M, D]
    targets = token_ids[row, column]

    def chunk(states: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        logits = head(states)
        entropy = (
            distribution_entropy(logits if entropy_grad else logits.detach(), temperature) if entropies else targets
        )
        likeliest = targets
        if top:
            scaled = logits if temperature == 1 else logits.float() / temperature
            likeliest = scaled.log_softmax(dim=-1, dtype=torch.float32).topk(min(top, logits.shape[-1]), dim=-1).values
        of_targets = gather_logprobs(logits, targets, temperature)
        return of_targets, entropy, likeliest, *further.values(logits, targets, temperature)

    recompute = torch.is_grad_enabled() and states.shape[0] > chunk_rows
    pieces = [
        checkpoint(chunk, piece, target, use_reentrant=False) if recompute else chunk(piece, target)
        for piece, target in zip(torch.split(states, chunk_rows), torch.split(targets, chunk_rows), strict=True)
    ]
    empty = torch.zeros(mask.shape, dtype=torch.float32, device=hidden.device)

    def placed(which: int) -> Tensor:
        values = torch.cat([piece[which] for piece in pieces])
        return empty.new_zeros(*mask.shape, *values.shape[1:]).index_put((row, column), values)

    return HeadValues(
        placed(0),
        placed(1) if entropies else None,
        placed(2) if top else None,
        {name: placed(3 + place) for place, name in enumerate(further.names)},
    )
