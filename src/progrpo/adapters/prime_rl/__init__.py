"""ProGRPO against the prompt's confidence inside prime-rl, as a custom loss.

    [trainer.loss]
    type = "custom"
    import_path = "progrpo.adapters.prime_rl.loss.progrpo_loss"
    kwargs = { alpha = 0.3, two_rewards = true }

    loss    prime-rl's own loss on shifted advantages
    shift   the shift of one sequence; imports nothing of prime-rl

A custom loss sees one sequence at a time, with its advantage and without its group: other baselines and methods are refused.
"""
