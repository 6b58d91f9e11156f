"""The words of the project as data: problem, verdict, completion, group, rollout batch.

Per-token tensors are aligned to their own token everywhere: `logprobs[t]` is the log-probability *of token t*. Three
names, three meanings: `sampler_logprobs` are the engine's, `old_logprobs` the trainer's at rollout time (the engine's where
both are one computation), `logprobs` those of now, with gradient.
P problems, G group size, N = P*G sequences in group order (sequence n = p*G + g), S padded completion length.
Importing this module does not import torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Status = Literal["correct", "wrong", "no_answer", "timeout", "crashed", "bad_gold"]
STATUSES: tuple[Status, ...] = get_args(Status)
FAILURES: frozenset[Status] = frozenset({"timeout", "crashed", "bad_gold"})
"""Statuses that say nothing of the completion: the verifier or the problem failed."""

Finish = Literal["stop", "length"]
"""How a completion ended: an end token was sampled, or it was cut at the limit."""

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """A metric as a sum and its count, divided once, when written; sums of ratios are exact, means of means are not."""

    total: float
    count: float

    def __add__(self, other: "WeightedMean") -> "WeightedMean":
        return WeightedMean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float | None:
        """total / count; None where nothing was counted."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One row of a task.

    Attributes:
        id: unique within its task and split.
        prompt: plain text, or chat messages ({"role", "content"}) for the model's own chat template.
        answer: the gold answer as text; None where the verifier needs none.
        accepted: further gold answers, any of which counts as well; a reward judges each of `each_gold`.
        info: whatever else the reward wants to know (for instance the numbers of a countdown problem).
        place: where it was read, in words ("problems.jsonl, line 12"), for messages; "" where nobody wrote it down.
        facts: small JSON values that evaluations keep beside the problem and measures may read: "category", "contest",
            "solutions" (how many canonical solutions there are), ...
    """

    id: str
    prompt: "str | tuple[Message, ...]"
    answer: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()

    @property
    def each_gold(self) -> "tuple[Problem, ...]":
        """This problem once for each accepted answer, which is then its only one."""
        golds = () if self.answer is None else (self.answer, *self.accepted)
        return tuple(replace(self, answer=gold, accepted=()) for gold in golds) if self.accepted else (self,)

    @property
    def answer_text(self) -> str | None:
        """All accepted answers for a reader: "1/2 or 0.5"; None without an answer."""
        return None if self.answer is None else " or ".join((self.answer, *self.accepted))


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a verifier says of one completion. A verifier's failure is not the model's failure: see `status`.

    Attributes:
        status: `correct | wrong | no_answer | timeout | crashed | bad_gold`.
        reward: any float; "correct" is `status`, never a test on this number.
        extracted: the answer as found in the text.
        canonical: for tasks that can decide it, a form that equal solutions share; counts distinct solutions.
        detail: why, in words, for the report.
        parts: rewards that `reward` is made of, by name and before their weights; empty for a plain reward.
        seconds: wall-clock time the verdict took.
    """

    status: Status
    reward: float
    extracted: str | None = None
    canonical: str | None = None
    detail: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def correct(self) -> bool:
        return self.status == "correct"

    @property
    def failed(self) -> bool:
        """Whether this says nothing of the completion (see `FAILURES`)."""
        return self.status in FAILURES


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Completion:
    """One sampled completion. Token ids come out of the engine and go into training; text is never re-tokenised.

    Attributes:
        seed: of this completion alone; the same (model, prompt, seed) gives the same tokens in any batch, up to the
            rounding of the forward pass (in bf16 a batch of another size may turn a near-tie).
        text: what the tokens spell, special tokens included, without end tokens and filler.
        token_ids: the sampled tokens, the one that ended it included where `finish` is "stop"; -1 where an endpoint gave the
            text of a token alone (engine openai, for evaluations).
        finish: "stop" (an end token or the last of a stop string was sampled) or "length" (cut at the limit).
        sampler_logprobs: the engine's log-probability of each sampled token at the sampling temperature, before top-p/top-k.
        logprobs_of: which distribution that is: "tempered" as just said, or "drawn", the one the token was drawn from, what
            top-p and top-k left and renormalised (all that vLLM gives where they truncate); or "unknown": they are nan.
        entropies: entropy of the distribution each token was drawn from, in nats, likewise before top-p/top-k; None where
            the engine does not give them.
        entropy_gradients: dH/dη of each token's distribution when its own token is pushed up along the gradient of its
            log-probability: −p(log p + H) + Σ_v p_v²(log p_v + H), in nats. An update with ∂J/∂log p = g changes the
            entropy by g times this to first order (arXiv:2602.03392). None where the engine does not give them.
        raw_logprobs, raw_entropies: the same at temperature 1; None where nobody asked for them.
        policy_version: optimiser steps behind the weights it was sampled from.
        trained: tokens that are trained on; False on a prefix that was fed and not sampled (whose other numbers are 0). None:
            all.
    """

    seed: int
    text: str
    finish: Finish
    token_ids: "Int[Tensor, ' T']"
    sampler_logprobs: "Float[Tensor, ' T']"
    entropies: "Float[Tensor, ' T'] | None" = None
    entropy_gradients: "Float[Tensor, ' T'] | None" = None
    raw_logprobs: "Float[Tensor, ' T'] | None" = None
    raw_entropies: "Float[Tensor, ' T'] | None" = None
    policy_version: int = 0
    logprobs_of: Literal["tempered", "drawn", "unknown"] = "tempered"
    trained: "Bool[Tensor, ' T'] | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenTemperatures:
    """A temperature for each token, by the entropy H of its distribution (at the sampling temperature T, in nats).

        T (1 + strength · h),   h = (log H − centre)/above where that is positive, (log H − centre)/below elsewhere, in [−1, 1]

    Attributes:
        strength: in [0, 1). above, below: not 0; with below < 0 what is more certain than the centre is drawn hotter, too.
    """

    strength: float
    centre: float
    above: float
    below: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenStatistics:
    """What one completion's tokens say of the policy (arXiv:2602.05281, Figs. 3, 4, 8). None where it has no token.

    Attributes:
        probability: mean probability of the sampled tokens.
        low_probability: mean probability of the 20 % least likely of them (rounded up, at least 1).
        confidence: c(o), the geometric mean of the same (Eq. 6).
        entropy: mean entropy of the distributions they were drawn from, full vocabulary, in nats per token; None where the
            engine does not give it.
    """

    probability: float
    low_probability: float
    confidence: float
    entropy: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One judged completion as an evaluation keeps it.

    Attributes:
        tokens: number of tokens, the end token included.
        tempered: token statistics at the sampling temperature. raw: at temperature 1. Both before top-p and top-k;
            None where they were not recorded.
    """

    text: str
    status: Status
    finish: Literal["stop", "length"] = "stop"
    tokens: int = 0
    seed: int = 0
    extracted: str | None = None
    canonical: str | None = None
    detail: str = ""
    tempered: TokenStatistics | None = None
    raw: TokenStatistics | None = None

    @property
    def correct(self) -> bool:
        return self.status == "correct"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemResult:
    """The judged completions of one problem, in the order of their sample index: what measures measure.

    Attributes:
        problem: its id. prompt, answer, facts: see `Problem`.
        measures: values already measured, by name.
    """

    problem: str
    prompt: "str | tuple[Message, ...]" = ""
    answer: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.samples)

    @property
    def correct(self) -> int:
        """How many samples are correct."""
        return sum(sample.correct for sample in self.samples)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """The G completions of one problem with their verdicts.

    Attributes:
        prompt_ids: the tokens the model was fed.
        prompt_logprobs: log-probability of each prompt token; position 0 has no condition and holds 0. None where
            nobody asked for it.
    """

    problem: Problem
    prompt_ids: "Int[Tensor, ' Q']"
    prompt_logprobs: "Float[Tensor, ' Q'] | None"
    completions: tuple[Completion, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RolloutBatch:
    """What the advantage hook of a method sees: whole groups, before any update.

    Attributes:
        rewards: [P, G] any scale; nan where the verifier failed to judge (see `judged`).
        correct: [P, G] the verdicts; where there is none, what all others of the group are (so that a failed verdict
            never makes a group mixed), and False in a group without any.
        truncated: [P, G] cut at the length limit.
        lengths: [P, G] completion tokens, those included that are not trained on.
        mask: [N, S] True on completion tokens that are trained on (all but a prefix that a method fed, see
            `Completion.trained`); column t is the completion's token t, rows are padded on the right.
        old_logprobs: [N, S] the trainer's, under the policy that sampled (or, where the needs name "refresh_advantages",
            under the policy just before a later optimiser step); 0 where masked.
        entropies: [N, S] likewise, in nats; None unless the method's needs name it.
        prompt_logprobs: [P, Q] and prompt_mask: [P, Q] (False on padding and on the first token); None likewise.
        ref_logprobs: [N, S] under the model before training; None likewise. values: [N, S] of the method's net; likewise.
        entropy_gradients: [N, S] see `Completion`; None where the engine gives none.
        certainties, raw_logits, proxy_logprobs, nucleus_entropies: [N, S] of the distribution that each token was drawn from
            (see `progrpo.algo.distributions.Further`); None unless the method's needs name them.
        sampler_logprobs: [N, S] as the engine reported them, whoever scored since.
        importance: [N, S] >= 0, factors of each token's objective that make up for a sampler apart from the trainer
            (`algo.off_policy`); None without a correction.
        verdicts: [P][G] as the verifier gave them; () unless the method's needs name it.
        token_texts: [N] what each token of a completion spells by itself; () unless the method's needs name it.
        answer_logprobs: [N, A] log-probs of the problem's answer in the place of the completion's, under the policy that
            sampled, and answer_mask: [N, A]; None likewise.
        replayed: [P, G] completions of earlier rollouts, whose `old_logprobs` are not of the policy before the first optimiser
            step; None without any.
        problems: [P] ids. state: what the method remembers from rollout to rollout, to be written into.
    """

    rewards: "Float[Tensor, 'P G']"
    correct: "Bool[Tensor, 'P G']"
    truncated: "Bool[Tensor, 'P G']"
    lengths: "Int[Tensor, 'P G']"
    mask: "Bool[Tensor, 'N S']"
    old_logprobs: "Float[Tensor, 'N S']"
    entropies: "Float[Tensor, 'N S'] | None" = None
    prompt_logprobs: "Float[Tensor, 'P Q'] | None" = None
    prompt_mask: "Bool[Tensor, 'P Q'] | None" = None
    ref_logprobs: "Float[Tensor, 'N S'] | None" = None
    values: "Float[Tensor, 'N S'] | None" = None
    entropy_gradients: "Float[Tensor, 'N S'] | None" = None
    certainties: "Float[Tensor, 'N S'] | None" = None
    raw_logits: "Float[Tensor, 'N S'] | None" = None
    proxy_logprobs: "Float[Tensor, 'N S'] | None" = None
    nucleus_entropies: "Float[Tensor, 'N S'] | None" = None
    sampler_logprobs: "Float[Tensor, 'N S'] | None" = None
    importance: "Float[Tensor, 'N S'] | None" = None
    verdicts: "tuple[tuple[Verdict, ...], ...]" = ()
    token_texts: "tuple[tuple[str, ...], ...]" = ()
    answer_logprobs: "Float[Tensor, 'N A'] | None" = None
    answer_mask: "Bool[Tensor, 'N A'] | None" = None
    replayed: "Bool[Tensor, 'P G'] | None" = None
    problems: tuple[str, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> "Bool[Tensor, 'P G']":
        """[P, G] where there is a verdict."""
        return ~self.rewards.isnan()
