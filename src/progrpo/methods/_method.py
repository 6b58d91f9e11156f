"""A method chosen and set up: its hooks behind one face, each with GRPO as its default."""

from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from progrpo.algo.aggregate import sequence_weights, weighted_sum
from progrpo.algo.distributions import Further
from progrpo.algo.divergence import kl_estimate
from progrpo.algo.surrogate import clipped_surrogate
from progrpo.errors import ConfigError
from progrpo.methods import _results
from progrpo.methods._data import Advantages, Alarm, MicroView, Reweighted, StepBatch, dropped, without_truncated
from progrpo.methods._params import Pool, base_advantages
from progrpo.methods._sampling import Generate, Problems, SampledGroups
from progrpo.plural import counted
from progrpo.types import RolloutBatch

PER_TOKEN = "method {name}: add needs advantages of whole sequences, and this method gives each token its own"


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A method chosen and set up; nobody asks its name again.

    Attributes:
        own_needs: of the method alone; `needs` has those of what is added to it, too.
        added: the method whose `add_to` follows this one's advantages (`method.add`); None without.
        state: what the method remembers, kept in the checkpoint.
    """

    name: str
    module: ModuleType
    params: Any
    own_needs: frozenset[str]
    added: "Method | None" = None
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        return self.own_needs | (self.added.needs if self.added is not None else frozenset())

    @property
    def refreshes(self) -> bool:
        """Whether the policy is read anew before the later optimiser steps of a rollout."""
        return not self.needs.isdisjoint({"refresh", "refresh_advantages"})

    @property
    def rounds(self) -> int:
        """How often problems may be taken for one batch."""
        hook = self._hook("rounds")
        return int(hook(self.params)) if hook else 1

    @property
    def samples(self) -> str | None:
        """In words, how it samples otherwise than GRPO, and what would switch that off; None where it does not."""
        hook = self._hook("samples")
        text: str | None = hook(self.params) if hook else None
        return text

    def sample(self, problems: Problems, generate: Generate) -> SampledGroups:
        """The batch of a rollout, of a method that samples it in its own way."""
        made = self._hook("sample")(problems, generate, self.params)
        return _results.as_sampled(made, problems.size, generate.group, self._where("sample"))

    def remember(self, advantages: Advantages) -> None:
        """Keep what the method remembers after a rollout."""
        self.state.update(advantages.state or {})

    @property
    def pool(self) -> Pool:
        """Where it takes statistics over tokens."""
        hook = self._hook("pool")
        place: Pool = hook(self.params) if hook else "step"
        return place

    @property
    def top_tokens(self) -> int:
        """How many of the likeliest tokens in each place the training pass gives the log-probs of."""
        return int(self._hook("top_tokens")(self.params)) if "top_logprobs" in self.own_needs else 0

    @property
    def answer_after(self) -> str | None:
        """The text after which a completion gives its answer; None where all of it comes before."""
        hook = self._hook("answer_after")
        text: str | None = hook(self.params) if hook else None
        return text

    @property
    def further(self) -> Further:
        """What a pass is to give of each token's distribution beside its log-prob and entropy."""
        needs = self.needs
        return Further(
            entropy_gradients="entropy_gradients" in needs,
            certainties="certainties" in needs,
            raw_logits="raw_logits" in needs,
            proxy_logprobs=float(self._hook("min_p")(self.params)) if "proxy_logprobs" in self.own_needs else None,
            nucleus_entropies=self._hook("nucleus")(self.params) if "nucleus_entropies" in self.own_needs else None,
        )

    @property
    def net_lr_factor(self) -> float:
        """The learning rate of its net, as a multiple of the model's."""
        hook = self._hook("net_lr_factor")
        return float(hook(self.params)) if hook else 1.0

    @property
    def alarms(self) -> dict[str, Alarm]:
        """Of the method and of what is added."""
        alarms: dict[str, Alarm] = getattr(self.module, "ALARMS", {})
        return alarms | (self.added.alarms if self.added is not None else {})

    def advantages(self, batch: RolloutBatch) -> Advantages:
        """Reward shaping, the method's advantages or GRPO's, what `method.add` adds, and which sequences are dropped or
        left out; in this order.

        What is added follows the method's own normalisation and is not normalised itself; dropped sequences get none.
        """
        shaped, keep_hook = self._shaped(batch), self._hook("sequence_keep")
        where = self._where("sequence_keep")
        keep = _results.as_kept(keep_hook(shaped, self.params), batch, where) if keep_hook else None
        advantages = dropped(self._with_added(self._own_advantages(shaped), batch), keep)
        return without_truncated(advantages, batch.truncated) if self.params.truncated == "drop" else advantages

    def renewed_advantages(self, before: Advantages, then: RolloutBatch, now: RolloutBatch) -> Advantages:
        """The advantages of some problems before a later optimiser step of their rollout.

        What needs "refresh_advantages" (the method, or what is added) is computed from the policy as it is now; the rest,
        and which sequences are dropped, stays as it was.

        Args:
            before: of these problems, as they were. then, now: these problems, under the policy that sampled and as it is.
        """
        added_anew = self.added is not None and "refresh_advantages" in self.added.needs
        if "refresh_advantages" in self.own_needs:
            renewed = self._own_advantages(self._shaped(now))
        elif added_anew and before.plain is not None:
            renewed = replace(before, values=before.plain)
        else:
            return before
        renewed = replace(renewed, left_out=before.left_out)
        return dropped(self._with_added(renewed, now if added_anew else then), before.keep)

    def reweight(self, step: StepBatch) -> Reweighted:
        hook = self._hook("reweight")
        return _results.as_reweighted(hook(step, self.params), step, self._where("reweight")) if hook else Reweighted()

    def clip_range(self, step: StepBatch) -> tuple[float | Tensor, float | Tensor]:
        """How far below and above 1 the importance ratio counts; floats, or [K, S]."""
        hook = self._hook("clip_range")
        if hook is None:
            return self.params.clip_low, self.params.clip_high
        return _results.as_range(hook(step, self.params), step, self._where("clip_range"))

    def weights(
        self, lengths: Int[Tensor, "P G"], longest: int, kept: Bool[Tensor, "P G"] | None = None
    ) -> Float[Tensor, "P G"]:
        """One weight per sequence of an optimiser step; `longest` is the run's completion limit in tokens, `kept` the
        sequences that were not dropped."""
        fixed = self.params.fixed_length or longest
        return sequence_weights(lengths, how=self.params.aggregate, fixed_length=fixed, kept=kept)

    def loss(
        self,
        micro: MicroView,
        low: float | Tensor,
        high: float | Tensor,
        token_weights: Float[Tensor, "M S"] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss of a micro-batch, to be minimised, and its part that is the (negative) objective; scalars.

        loss = - sum_n w[n] sum_t u[n,t] J[n,t] + kl_coef KL - entropy_coef H + extra

        KL and H are means over all tokens of the step's sequences, those too that `reweight` does not keep: as in verl,
        TRL and the released code of the methods that keep some.
        """
        if group_loss := self._hook("group_loss"):
            loss = _results.as_scalar(group_loss(micro, self.params), self._where("group_loss"))
            return loss + self._regularisers(micro), loss
        objective = clipped_surrogate(
            micro.logprobs,
            micro.old_logprobs,
            micro.advantages,
            clip_low=low,
            clip_high=high,
            dual_clip=self.params.dual_clip,
        )
        if token := self._hook("token_loss"):
            objective = _results.as_objective(token(micro, objective, self.params), micro, self._where("token_loss"))
        if token_weights is not None:
            objective = objective * token_weights
        loss = -weighted_sum(objective, micro.mask, micro.weights)
        total = loss + self._regularisers(micro)
        if extra := self._hook("extra_loss"):
            total = total + _results.as_scalar(extra(micro, self.params), self._where("extra_loss"))
        return total, loss

    @property
    def may_skip_zero(self) -> bool:
        """Whether a sequence with advantage 0 has no gradient, so that it may stay out of the passes."""
        more = any(self._hook(name) for name in ("token_loss", "extra_loss", "group_loss"))
        return not more and not self.regularised

    @property
    def regularised(self) -> bool:
        """Whether a penalty or a bonus acts on every token."""
        return bool(self.params.kl_coef or self.params.entropy_coef)

    @property
    def idle_on_policy(self) -> bool:
        """Whether the first optimiser step of a rollout has nothing of it."""
        return self._hook("OFF_POLICY") is not None

    def make_net(self, width: int) -> torch.nn.Module | None:
        """The method's own module, or None."""
        hook = self._hook("net")
        net: torch.nn.Module | None = hook(width, self.params) if hook else None
        return net

    def check(self, group: int, steps_per_rollout: int | None = None, *, ahead: bool = False) -> list[str]:
        """The method's warnings about its settings at this group size, and those of what is added.

        Args:
            steps_per_rollout: optimiser steps; None where nothing is trained. ahead: rollouts are of an older policy.
        """
        hook, on_policy, off_policy = self._hook("check"), self._hook("ON_POLICY"), self._hook("OFF_POLICY")
        warnings = list(hook(self.params, group)) if hook else []
        if steps_per_rollout is not None and on_policy is not None and steps_per_rollout > 1:
            warnings.append(f"{counted(steps_per_rollout, 'optimiser step')} per rollout: {on_policy}")
        if off_policy is not None and steps_per_rollout == 1 and not ahead:
            warnings.append(f"1 optimiser step per rollout: {off_policy}")
        if self.added is not None and self._hook("advantages") is None:  # else nobody knows how it normalises
            normal = {name: getattr(self.params, name) for name in ("scale", "ddof", "eps")}
            warnings += replace(self.added, params=self.added.params.model_copy(update=normal)).check(group)
        return warnings

    def _shaped(self, batch: RolloutBatch) -> RolloutBatch:
        hook = self._hook("shape_reward")
        if hook is None:
            return batch
        shaped = _results.as_rewards(hook(batch, self.params), batch, self._where("shape_reward"))
        return batch if shaped is batch.rewards else replace(batch, rewards=shaped)  # a copy reads every field

    def _own_advantages(self, shaped: RolloutBatch) -> Advantages:
        hook = self._hook("advantages")
        if hook is None:
            return Advantages(values=base_advantages(shaped, self.params))
        return _results.as_advantages(hook(shaped, self.params), shaped, self._where("advantages"))

    def _with_added(self, plain: Advantages, batch: RolloutBatch) -> Advantages:
        if self.added is None:
            return plain
        if plain.tokens is not None:
            raise ConfigError(PER_TOKEN.format(name=self.name))
        more = self.added.module.add_to(plain.values, batch, self.added.params)
        more = _results.as_advantages(more, batch, self.added._where("add_to"))
        stats, columns = {**plain.stats, **more.stats}, {**plain.columns, **more.columns}
        state = plain.state if more.state is None else {**(plain.state or {}), **more.state}
        return replace(plain, values=more.values, plain=plain.values, state=state, stats=stats, columns=columns)

    def _regularisers(self, micro: MicroView) -> Tensor:
        penalty = micro.logprobs.new_zeros(())
        mask = micro.mask if micro.all_mask is None else micro.all_mask
        weights = micro.weights if micro.all_weights is None else micro.all_weights
        if self.params.kl_coef and micro.ref_logprobs is not None:
            divergence = kl_estimate(micro.logprobs, micro.ref_logprobs, kind=self.params.kl)
            penalty = penalty + self.params.kl_coef * weighted_sum(divergence, mask, weights)
        if self.params.entropy_coef and micro.entropies is not None:
            penalty = penalty - self.params.entropy_coef * weighted_sum(micro.entropies, mask, weights)
        return penalty

    def _hook(self, name: str) -> Any:
        return getattr(self.module, name, None)

    def _where(self, hook: str) -> str:
        return f"method {self.name!r}: {hook}"
