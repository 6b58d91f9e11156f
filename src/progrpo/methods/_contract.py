"""The names a method may define, and the tensors it may ask for; what they mean stands at the head of the package."""

HOOKS: dict[str, str] = {
    "shape_reward": "shape_reward(batch, params) -> rewards [P, G]: once per rollout, before the advantages",
    "advantages": "advantages(batch, params) -> Advantages: once per rollout, no gradient",
    "sequence_keep": "sequence_keep(batch, params) -> bool [P, G]: sequences to train on; the others leave the "
    "denominators too",
    "reweight": "reweight(step, params) -> Reweighted: once per optimiser step, no gradient",
    "clip_range": "clip_range(step, params) -> (low, high): of the importance ratio, floats or [K, S]",
    "token_loss": "token_loss(micro, surrogate, params) -> [M, S] objective to be maximised, in place of the surrogate",
    "extra_loss": "extra_loss(micro, params) -> scalar to be minimised beside it, with gradient",
    "group_loss": "group_loss(micro, params) -> scalar to be minimised, with gradient: in place of all of the above",
}
"""The eight hooks in the order they run: name -> signature. Each default is GRPO's."""

NEEDABLE = {
    "prompt_logprobs": "[P, Q] of the rollout",
    "entropies": "[N, S] of the rollout",
    "entropy_gradients": "[N, S] of the rollout: what pushing up a token does to the entropy of its distribution",
    "certainties": "[N, S] of the rollout: how far each distribution is from the uniform one",
    "raw_logits": "[N, S] of the rollout: the tokens' own, before the temperature",
    "proxy_logprobs": "[N, S] of the rollout: log-probs once the least likely tokens are taken out; which, says `min_p`",
    "nucleus_entropies": "[N, S] of the rollout, and with gradient in the training pass: entropies of the likeliest tokens "
    "alone; which, says `nucleus`",
    "sampled_entropies": "of each token, from the engine while it samples: what `sample` reads",
    "token_temperatures": "an engine that draws each token at a temperature of its own",
    "sampled_logprobs": "log-probs of the policy that sampled, from the engine, as the old ones: completions of earlier "
    "rollouts keep theirs",
    "verdicts": "[P][G] of the rollout: canonical forms, extracted answers, parts of rewards",
    "token_texts": "[N] rows of texts of the rollout: what each token of a completion spells by itself",
    "answer_logprobs": "[N, A] of the rollout: log-probs of the problem's answer where the completion would give its own, by "
    "a pass of its own; where that is, says `answer_after`",
    "refresh": "log-probs (and entropies) of the policy as it is before each optimiser step, in `StepBatch`",
    "refresh_advantages": "likewise, and this method's advantages, or what it adds, computed from them",
    "ref_logprobs": "[N, S] under the model as it was before training",
    "values": "[N, S] of the method's net at the rollout: net(states before each token) -> one number each",
    "entropy_grad": "entropies with gradient in the training pass",
    "top_logprobs": "log-probs of the likeliest tokens in each place in the training pass, with gradient; how many says "
    "`top_tokens`",
    "token_states": "hidden states before the completions' tokens in the training pass, with gradient",
    "prompt_states": "mean hidden states of the prompts in the training pass, with gradient",
    "whole_groups": "a group's completions all in one micro-batch",
}

OTHERS = {
    "Params": "a subclass of progrpo.methods.Params",
    "PRESETS": "{preset: {key: value}}",
    "NEEDS": "a frozenset of names from NEEDABLE",
    "needs": "needs(params) -> a frozenset of names from NEEDABLE",
    "check": "check(params, group) -> list of warnings",
    "ON_POLICY": "a sentence",
    "OFF_POLICY": "a sentence",
    "SURROGATE": "True or False",
    "TOKEN_LEVEL": "True or False",
    "FROM_VERDICTS": "True or False",
    "ALARMS": "{metric: Alarm}",
    "rounds": "rounds(params) -> int",
    "samples": "samples(params) -> text or None",
    "sample": "sample(problems, generate, params) -> SampledGroups",
    "pool": "pool(params) -> 'step' or 'micro'",
    "top_tokens": "top_tokens(params) -> int",
    "min_p": "min_p(params) -> float",
    "nucleus": "nucleus(params) -> progrpo.algo.distributions.Nucleus",
    "answer_after": "answer_after(params) -> text, or None for the end of the completion",
    "net": "net(width, params) -> torch module",
    "net_lr_factor": "net_lr_factor(params) -> float",
    "add_to": "add_to(advantages, batch, params) -> Advantages",
}
"""What a method may define beside its hooks: name -> what it is."""
