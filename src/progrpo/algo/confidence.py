"""How sure a model was of a text: the length-normalised likelihood of its least certain tokens."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.algo.shapes import require_shape

Rounding = Literal["ceil", "floor", "round"]


def sequence_confidence(
    logprobs: Float[Tensor, "N S"],
    mask: Bool[Tensor, "N S"],
    *,
    fraction: float = 0.2,
    entropy: Float[Tensor, "N S"] | None = None,
    rounding: Rounding = "ceil",
    mean: Literal["geometric", "arithmetic"] = "geometric",
) -> Float[Tensor, " N"]:
    """Average the probabilities of each sequence's least likely tokens.

        c(x) = exp( 1/|T| * sum over t in T of log p(x_t | x_<t) ),   T = the k lowest log p,   k = max(1, ceil(0.2 n))

    Source: arXiv:2602.05281, Eq. 5 (prompts), Eq. 6 (completions), Eq. 12 (the set T). The paper leaves open: the
    rounding of 20 % of n tokens (Sec. 3.2 "approximately"; the code of the 80/20 paper it cites takes the ceiling, and
    so do we); whether T goes by lowest probability (title, Alg. 1, Eq. 12: the default) or by highest entropy
    (Sec. 3.2: give `entropy`); and the mean (Eq. 5/6 geometric: the default; App. A.5 and Fig. 8 speak of an average of
    probabilities: "arithmetic").

    Args:
        logprobs: log-probability of each token itself, <= 0 (-inf allowed: the confidence is then 0 if in T).
        mask: True on the tokens that count; masked positions may hold anything.
        fraction: share of tokens in T, in (0, 1]; 1 gives plain length normalisation.
        entropy: entropy of the distribution each token was drawn from; T is then the k highest.
        rounding: of fraction * n to k, never below 1. "round" goes half to even.
        mean: "geometric" exp(mean log p), or "arithmetic" mean p.

    Returns:
        One value in [0, 1] per row, float32, without gradient. Ties go to the earlier token. A row without a valid
        token gives nan.

    Raises:
        ShapeError: shapes disagree.
        ValueError: fraction outside (0, 1].
    """
    average = _low_average(logprobs, mask, fraction, entropy, rounding, mean)
    return average.exp() if mean == "geometric" else average


def sequence_log_confidence(
    logprobs: Float[Tensor, "N S"],
    mask: Bool[Tensor, "N S"],
    *,
    fraction: float = 0.2,
    entropy: Float[Tensor, "N S"] | None = None,
    rounding: Rounding = "ceil",
    mean: Literal["geometric", "arithmetic"] = "geometric",
) -> Float[Tensor, " N"]:
    """The logarithm of `sequence_confidence`, in nats, <= 0; without the detour over a probability that may underflow.

    With fraction=1 and the geometric mean it is the mean log-probability of all tokens. Arguments, nan and errors are those
    of `sequence_confidence`; no gradient.
    """
    average = _low_average(logprobs, mask, fraction, entropy, rounding, mean)
    return average if mean == "geometric" else average.log()


def sequence_logprob(logprobs: Float[Tensor, "N S"], mask: Bool[Tensor, "N S"]) -> Float[Tensor, " N"]:
    """Log-probability of each whole sequence given its prompt.

        log p(x) = sum_t log p(x_t | x_<t)

    Args:
        logprobs: log-probability of each token itself. mask: True on the tokens that count; the rest may hold anything.

    Returns:
        In nats, <= 0, float32, without gradient. A row without a valid token gives nan.

    Raises:
        ShapeError: shapes disagree.
    """
    require_shape(logprobs=(logprobs, (None, None)), mask=(mask, tuple(logprobs.shape)))
    total = logprobs.detach().float().masked_fill(~mask, 0.0).sum(dim=1)
    return total.masked_fill(~mask.any(dim=1), torch.nan)


def _low_average(
    logprobs: Tensor,
    mask: Tensor,
    fraction: float,
    entropy: Tensor | None,
    rounding: Rounding,
    mean: Literal["geometric", "arithmetic"],
) -> Tensor:
    """[N] the mean log-probability ("geometric") or probability of each row's least certain tokens."""
    require_shape(logprobs=(logprobs, (None, None)), mask=(mask, tuple(logprobs.shape)))
    if entropy is not None:
        require_shape(entropy=(entropy, tuple(logprobs.shape)))
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: expected a value in (0, 1], got {fraction}")
    values = logprobs.detach().float()
    counts = low_count(mask.sum(dim=1), fraction=fraction, rounding=rounding)  # [N]
    width = min(max(1, int(counts.max())) if counts.numel() else 1, values.shape[1])
    if entropy is None:
        # Which of two equal log-probs is taken changes no sum, so a partial sort will do.
        chosen = values.masked_fill(~mask, torch.inf).topk(width, dim=1, largest=False).values  # [N, K]
    else:
        key = (-entropy.detach().float()).masked_fill(~mask, torch.inf)
        chosen = values.gather(1, key.sort(dim=1, stable=True).indices[:, :width])  # [N, K]
    kept = torch.arange(width, device=values.device)[None, :] < counts[:, None]
    terms = chosen if mean == "geometric" else chosen.exp()
    return terms.masked_fill(~kept, 0.0).sum(dim=1) / counts  # 0/0 = nan for a row without a token


def low_count(lengths: Int[Tensor, " N"], *, fraction: float, rounding: Rounding) -> Int[Tensor, " N"]:
    """The size k of T for each length n: max(1, round(fraction * n)), and 0 for an empty row.

    The product is taken in float64 and its float residue removed: 0.2 * 35 is 7.000000000000001, whose ceiling is 8.
    """
    exact = (lengths.double() * fraction * 1e9).round() / 1e9
    rounded = {"ceil": exact.ceil, "floor": exact.floor, "round": exact.round}[rounding]()
    return rounded.long().clamp(min=1).minimum(lengths.long())
