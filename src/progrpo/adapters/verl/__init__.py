"""Any method that verl can honour inside verl's own trainer, by verl's plug-in entry point: installing progrpo is all.

    python -m verl.trainer.main_ppo trainer.v1.trainer_mode=progrpo algorithm.adv_estimator=progrpo \\
        +algorithm.progrpo.name=progrpo +algorithm.progrpo.alpha=0.3 ...

    plugin    what the entry point `verl.plugins` loads in every process of verl, and says aloud if it cannot
    trainer   verl's trainers, which keep the prompts' log-probs that verl computes and throws away
    losses    policy losses of methods that change the loss of a token: policy_loss.loss_mode=progrpo_cispo
    settings  which method, and what verl's own settings say
    rollout   verl's columns as the methods see them

Only `plugin`, `trainer` and `losses` import verl. What is honoured and refused, and how verl differs: docs/adapters.md.
"""
