"""Any method that reads rewards and the sampler's log-probs inside Trinity-RFT, as an advantage function by its dotted path.

    algorithm:
      algorithm_type: grpo
      advantage_fn: progrpo.adapters.trinity.advantage.ProGRPOAdvantage
      advantage_fn_args: {name: progrpo, baseline: group_mean, skip: all_wrong, alpha: 1.0}

    advantage   Trinity's GroupAdvantage
    rollout     its experiences as the methods see them; imports nothing of Trinity

Trinity's experiences have no log-probs of prompts: baselines that read c(q) are refused.
"""
