"""What else a pass of the head can give of the distribution that each token was drawn from, computed where it is asked for."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Nucleus:
    """The likeliest tokens of a distribution.

    Attributes:
        mass: in (0, 1], what their probabilities sum to at least, or less than.
        crossing: with the token that reaches the mass, so that one is always in; without it the nucleus may be empty.
    """

    mass: float
    crossing: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Further:
    """Which of the values below are wanted of each scored token, all at the sampling temperature but the raw logits.

    Attributes:
        entropy_gradients: `entropy_gradient`. certainties: `certainty`.
        raw_logits: the logit of the token itself, before the temperature.
        proxy_logprobs: `proxy_logprob` with this min-p, in (0, 1]; None for none.
        nucleus_entropies: `nucleus_entropy` of this nucleus; None for none. With gradient.
    """

    entropy_gradients: bool = False
    certainties: bool = False
    raw_logits: bool = False
    proxy_logprobs: float | None = None
    nucleus_entropies: Nucleus | None = None

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """What is wanted, in the order in which `values` gives it."""
        flags = ("entropy_gradients", "certainties", "raw_logits")
        numbers = ("proxy_logprobs", "nucleus_entropies")
        return tuple(
            name
            for name in (*flags, *numbers)
            if (getattr(self, name) if name in flags else getattr(self, name) is not None)
        )

    @property
    def with_gradient(self) -> "Further":
        """What of it the training pass gives, too."""
        return Further(nucleus_entropies=self.nucleus_entropies)

    def values(
        self, logits: Float[Tensor, "M V"], targets: Int[Tensor, " M"], temperature: float
    ) -> tuple[Float[Tensor, " M"], ...]:
        """float32, one tensor for each of `names`; gradient flows into `logits` from the nucleus' entropy alone."""
        if not self:
            return ()
        logprobs = (logits.float() / temperature).log_softmax(dim=-1)
        constant = logprobs.detach()
        values_by_name: dict[str, Tensor] = {}
        if self.entropy_gradients:
            values_by_name["entropy_gradients"] = entropy_gradient(constant, targets)
        if self.certainties:
            values_by_name["certainties"] = certainty(constant)
        if self.raw_logits:
            values_by_name["raw_logits"] = logits.detach().float().gather(1, targets[:, None])[:, 0]
        if self.proxy_logprobs is not None:
            values_by_name["proxy_logprobs"] = proxy_logprob(constant, targets, min_p=self.proxy_logprobs)
        if self.nucleus_entropies is not None:
            values_by_name["nucleus_entropies"] = nucleus_entropy(logprobs, self.nucleus_entropies)
        return tuple(values_by_name[name] for name in self.names)


def entropy_gradient(logprobs: Float[Tensor, "M V"], targets: Int[Tensor, " M"]) -> Float[Tensor, " M"]:
    """How the entropy of a distribution changes when its own token is pushed up along the gradient of its log-prob.

        dH/dη = Σ_v p_v² (log p_v + H) − p (log p + H)

    Source: arXiv:2602.03392. Of a softmax of free logits it is exact to first order.

    Args:
        logprobs: log softmax of each row; -inf for what is never drawn. targets: the tokens.

    Returns:
        In nats, any sign.
    """
    p = logprobs.exp()
    entropy = -torch.where(p > 0, p * logprobs, 0.0).sum(dim=-1)
    each = torch.where(p > 0, p * (logprobs + entropy[:, None]), 0.0)
    return (p * each).sum(dim=-1) - each.gather(1, targets[:, None])[:, 0]


def certainty(logprobs: Float[Tensor, "M V"]) -> Float[Tensor, " M"]:
    """How far each distribution is from the uniform one, up to the constant log V.

        c = log Σ_v exp z_v − mean_v z_v = − mean_v log p_v = KL(uniform ‖ p) + log V

    Args:
        logprobs: log softmax of each row; a row with a -inf has an infinite certainty.

    Returns:
        In nats, >= log V.
    """
    return -logprobs.mean(dim=-1)


def proxy_logprob(logprobs: Float[Tensor, "M V"], targets: Int[Tensor, " M"], *, min_p: float) -> Float[Tensor, " M"]:
    """Log-prob of each token once the noise below it is taken out: tokens below `min_p` times the likeliest, renormalised.

        p̃_v = p_v / Σ { p_u : p_u >= κ max p }  where p_v >= κ max p, else 0

    Source: arXiv:2510.03222.

    Args:
        logprobs: log softmax of each row. targets: the tokens. min_p: κ, in (0, 1].

    Returns:
        In nats, <= 0 and not below the token's own log-prob; -inf of a token that is taken out.
    """
    kept = logprobs >= logprobs.amax(dim=-1, keepdim=True) + math.log(min_p)
    mass = logprobs.masked_fill(~kept, -torch.inf).logsumexp(dim=-1)
    index = targets[:, None]
    renormalised = logprobs.gather(1, index)[:, 0] - mass
    return renormalised.clamp(max=0.0).masked_fill(~kept.gather(1, index)[:, 0], -torch.inf)


def nucleus_entropy(logprobs: Float[Tensor, "M V"], nucleus: Nucleus) -> Float[Tensor, " M"]:
    """Entropy of each distribution cut to its nucleus and renormalised.

        H' = − Σ_{v in V'} q_v log q_v,   q_v = p_v / Σ_{u in V'} p_u,   V' the nucleus

    Source: arXiv:2509.25133. Ties at the edge of the nucleus go to the earlier token.

    Args:
        logprobs: log softmax of each row.

    Returns:
        In nats, >= 0, 0 of an empty nucleus; with gradient into `logprobs`, none through the choice of the nucleus.
    """
    with torch.no_grad():
        ordered, order = logprobs.exp().sort(dim=-1, descending=True, stable=True)
        sums = ordered.cumsum(dim=-1)
        within = (sums - ordered if nucleus.crossing else sums) < nucleus.mass
        inside = torch.zeros_like(logprobs, dtype=torch.bool).scatter(1, order, within)
        inside = inside & (logprobs > -torch.inf)
        empty = ~inside.any(dim=-1, keepdim=True)
    # A row without any is taken whole, so that its softmax is one; what comes of it is not read.
    cut = logprobs.masked_fill(~(inside | empty), -torch.inf).log_softmax(dim=-1)
    return -torch.where(inside, cut.exp() * cut.masked_fill(~inside, 0.0), 0.0).sum(dim=-1)
