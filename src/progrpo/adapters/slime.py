"""Any method with advantages of whole sequences inside slime, as its reward post-process.

    --custom-reward-post-process-path progrpo.adapters.slime.reward_post_process
    --custom-config-path progrpo.yaml        # with: progrpo: {baseline: group_mean, skip: all_wrong, alpha: 1.0}

slime gives a GRPO-like estimator one number of each sample and makes it the advantage of all its tokens; this hook sees all
samples of a rollout, with their groups and the sampler's log-probs, before they are dealt out. Nothing here imports
slime: slime imports this. What is honoured and refused: docs/adapters.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from progrpo.adapters._hosted import HostLimits, Loss, choose, probe, reads_prompts
from progrpo.adapters._rows import HostRows, advantages_of
from progrpo.errors import ConfigError, HostError
from progrpo.methods import Method

TESTED = "624b824"
"""The commit of slime whose files the contract tests were run with; slime has no releases."""

_BROADCAST = ("grpo", "gspo", "cispo")
"""Estimators of slime that make a sample's reward the advantage of its tokens, as it is."""


def reward_post_process(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """slime's hook: (raw rewards, what becomes the advantages) of the samples, in their order.

    Args:
        args: slime's; `args.progrpo` are the method's settings, as under `method` in a recipe, and `correct_above`.
        samples: of a whole rollout; each group's samples share `group_index`.

    Raises:
        ConfigError: slime cannot honour the method or contradicts its settings.
        HostError: slime's samples are not as the adapter knows them.
    """
    flat = [one for sample in samples for one in (sample if isinstance(sample, list) else [sample])]
    method, above = _method(args)
    try:
        rows = _rows(args, flat, above, prompts="prompt_logprobs" in method.needs)
    except AttributeError as error:
        raise HostError(
            f"slime: {error}; the adapter was tested with commit {TESTED}: check that one out, or report the newer one"
        ) from error
    raw = [float(value) for value in rows.rewards]
    if rows.prompt_logprobs is None and "prompt_logprobs" in method.needs and reads_prompts(method):
        raise ConfigError(
            f"method {method.name} compares with c(q), and slime's samples have no log-probs of prompts: take "
            "baseline=group_mean, or a --custom-generate-function-path that puts them into sample.metadata['prompt_logprobs'] "
            "(one per prompt token, the first None)"
        )
    if rows.logprobs is None and probe(method)[1]:
        raise ConfigError(
            f"method {method.name} computes from log-probs of completions, and slime's samples have none (rollout_log_probs)"
        )
    advantages = advantages_of(method, rows)
    assert advantages.per_sequence is not None
    return raw, advantages.per_sequence.tolist()


def _method(args: Any) -> tuple[Method, float]:
    spec = dict(getattr(args, "progrpo", None) or {})
    above = float(spec.pop("correct_above", 0.0))
    if args.advantage_estimator not in _BROADCAST:
        raise ConfigError(
            f"--advantage-estimator {args.advantage_estimator}: expected one of {', '.join(_BROADCAST)}, which make the number "
            "of each sample its advantage"
        )
    if args.normalize_advantages:
        raise ConfigError("--normalize-advantages would whiten the method's advantages over the batch; leave it out")
    fields = {
        "clip_low": ("--eps-clip", args.eps_clip),
        "clip_high": ("--eps-clip-high", args.eps_clip if args.eps_clip_high is None else args.eps_clip_high),
        "dual_clip": ("--eps-clip-c", args.eps_clip_c),
        "aggregate": ("--calculate-per-token-loss", "token" if args.calculate_per_token_loss else "sequence"),
        "kl_coef": ("--kl-loss-coef", float(args.kl_loss_coef) if args.use_kl_loss else 0.0),
        "entropy_coef": ("--entropy-coef", float(args.entropy_coef)),
    }
    limits = HostLimits(name="slime", gives=frozenset({"prompt_logprobs"}), per_token=False)
    return choose(limits, spec, Loss(fields=fields)), above


def _rows(args: Any, samples: Sequence[Any], above: float, *, prompts: bool) -> HostRows:
    identities = [sample.rollout_id for sample in samples if sample.rollout_id is not None]
    if len(set(identities)) != len(identities):
        raise ConfigError(
            "several samples share a rollout_id: the adapter knows one sample of each rollout; do not split them"
        )
    longest = max((int(sample.response_length) for sample in samples), default=0)
    shape = (len(samples), max(1, longest))
    mask, logprobs = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape)
    for number, sample in enumerate(samples):
        count = int(sample.response_length)
        mask[number, :count] = torch.tensor([1] * count if sample.loss_mask is None else sample.loss_mask).bool()
        if sample.rollout_log_probs is not None:
            logprobs[number, :count] = torch.as_tensor(sample.rollout_log_probs, dtype=torch.float32)
    known = all(sample.rollout_log_probs is not None for sample in samples)
    scored = _prompts(args, samples) if prompts else None
    return HostRows(
        groups=[sample.group_index for sample in samples],
        rewards=torch.tensor([float(sample.get_reward_value(args)) for sample in samples]),
        correct_above=above,
        mask=mask,
        truncated=torch.tensor([sample.status is type(sample.status).TRUNCATED for sample in samples]),
        logprobs=logprobs if known else None,
        prompt_logprobs=None if scored is None else scored[0],
        prompt_mask=None if scored is None else scored[1],
    )


def _prompts(args: Any, samples: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Log-probs that a generate function of the user's own has left; an engine's are of temperature 1 and all tokens."""
    prompt_rows: list[Sequence[float | None]] = []
    for sample in samples:
        metadata: Mapping[str, Any] = sample.metadata or {}
        if "prompt_logprobs" not in metadata:
            return None
        prompt_rows.append(metadata["prompt_logprobs"])
    if float(args.rollout_temperature) != 1.0 or float(args.rollout_top_p) != 1.0:
        raise ConfigError(
            f"--rollout-temperature {args.rollout_temperature}, --rollout-top-p {args.rollout_top_p}: the engine's log-probs "
            "of prompts are of temperature 1 and the whole vocabulary, those of responses are not, so that c(q) and c(o) would "
            "not be comparable; set both to 1, or take baseline=group_mean"
        )
    width = max(len(row) for row in prompt_rows)
    values, mask = torch.zeros(len(prompt_rows), width), torch.zeros(len(prompt_rows), width, dtype=torch.bool)
    for number, row in enumerate(prompt_rows):
        for place, value in enumerate(row):
            if value is not None and place > 0:
                values[number, place], mask[number, place] = value, True
    return values, mask
