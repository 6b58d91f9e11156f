"""Settings under the names that people bring from TRL and verl, and what they are called here."""

TRL = {
    "num_generations": "batch.group",
    "generation_batch_size": "batch.prompts (problems of a rollout, not completions: divide by batch.group)",
    "per_device_train_batch_size": "batch.micro_tokens (tokens of one forward pass; it does not change the gradient)",
    "per_device_eval_batch_size": "evaluate.at_a_time (problems, not completions)",
    "gradient_accumulation_steps": "nothing: batch.minibatch_prompts says how many problems make an optimiser step, and its "
    "passes follow from batch.micro_tokens",
    "steps_per_generation": "batch.minibatch_prompts (problems of an optimiser step)",
    "num_iterations": "nothing: each rollout is used once, in batch.prompts / batch.minibatch_prompts steps",
    "learning_rate": "optim.lr",
    "lr_scheduler_type": "optim.schedule",
    "warmup_steps": "optim.warmup_steps",
    "warmup_ratio": "optim.warmup_steps (a number of steps)",
    "max_grad_norm": "optim.grad_clip",
    "weight_decay": "optim.weight_decay",
    "adam_beta1": "optim.betas",
    "adam_beta2": "optim.betas",
    "adam_epsilon": "optim.eps",
    "max_completion_length": "sampling.max_new_tokens",
    "max_prompt_length": "data.max_prompt_tokens",
    "max_steps": "steps",
    "num_train_epochs": "epochs",
    "beta": "method.kl_coef",
    "epsilon": "method.clip_low and method.clip_high",
    "epsilon_high": "method.clip_high",
    "delta": "method.dual_clip",
    "scale_rewards": "method.scale",
    "loss_type": "method.aggregate (group_token, token, sequence, fixed), or another method: progrpo list methods",
    "importance_sampling_level": "method=gspo",
    "mask_truncated_completions": "method.truncated=drop",
    "reward_funcs": "reward, with reward.parts for several (reward=combined)",
    "reward_weights": "reward.parts, a weight each (reward=combined)",
    "output_dir": "out",
    "run_name": "out (the directory's name is the run's)",
    "report_to": "record.trackers",
    "save_steps": "checkpoint.every",
    "save_total_limit": "checkpoint.keep",
    "load_best_model_at_end": "checkpoint.best, the measure it is best by: it is kept beside the latest",
    "metric_for_best_model": "checkpoint.best",
    "greater_is_better": "checkpoint.mode",
    "push_to_hub": "nothing: `progrpo push RUN OWNER/NAME` when the run is over",
    "hub_model_id": "nothing: `progrpo push RUN OWNER/NAME` when the run is over",
    "eval_on_start": "evaluate.at_start",
    "eval_steps": "evaluate.every",
    "eval_strategy": "evaluate.every",
    "logging_steps": "nothing: every step is logged",
    "log_completions": "record.rollouts_every",
    "bf16": "model.precision=bf16",
    "fp16": "nothing: fp16 rounds log-probs too coarsely and its gradients underflow; model.precision=bf16",
    "gradient_checkpointing": "model.gradient_checkpointing",
    "use_vllm": "engine=vllm (progrpo list engines)",
    "model_name_or_path": "model.path",
    "model_init_kwargs": "model.precision, model.attention",
    "attn_implementation": "model.attention",
    "peft_config": "model.lora",
    "lora_r": "model.lora.r",
    "chat_template_kwargs": "model.chat_template_kwargs",
    "dataset_config": "task=hub (with task.config)",
    "dataset_train_split": "task=hub (with task.split)",
    "dataset_test_split": "task=hub (with task.test_split)",
    "dataset_name": "task=hub (with task.dataset; files: task.train; published data: progrpo list tasks)",
    "resume_from_checkpoint": "--resume",
    "shuffle_dataset": "data.shuffle",
}
"""What TRL's GRPOConfig and the arguments of transformers call it."""
VERL = {
    "actor_rollout_ref.rollout.n": "batch.group",
    "actor_rollout_ref.rollout.temperature": "sampling.temperature",
    "actor_rollout_ref.rollout.top_p": "sampling.top_p",
    "actor_rollout_ref.rollout.top_k": "sampling.top_k",
    "actor_rollout_ref.rollout.name": "engine",
    "actor_rollout_ref.rollout.val_kwargs.n": "evaluate.n",
    "actor_rollout_ref.model.path": "model.path",
    "actor_rollout_ref.model.lora_rank": "model.lora.r",
    "actor_rollout_ref.model.enable_gradient_checkpointing": "model.gradient_checkpointing",
    "actor_rollout_ref.actor.optim.lr": "optim.lr",
    "actor_rollout_ref.actor.optim.optimizer": "optim.name (adamw, adamw_8bit, sgd, adafactor, muon)",
    "actor_rollout_ref.actor.optim.lr_warmup_steps": "optim.warmup_steps",
    "actor_rollout_ref.actor.optim.weight_decay": "optim.weight_decay",
    "actor_rollout_ref.actor.grad_clip": "optim.grad_clip",
    "actor_rollout_ref.actor.ppo_mini_batch_size": "batch.minibatch_prompts",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": "batch.micro_tokens",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": "batch.micro_tokens",
    "actor_rollout_ref.actor.clip_ratio": "method.clip_low and method.clip_high",
    "actor_rollout_ref.actor.clip_ratio_low": "method.clip_low",
    "actor_rollout_ref.actor.clip_ratio_high": "method.clip_high",
    "actor_rollout_ref.actor.clip_ratio_c": "method.dual_clip",
    "actor_rollout_ref.actor.entropy_coeff": "method.entropy_coef",
    "actor_rollout_ref.actor.kl_loss_coef": "method.kl_coef",
    "actor_rollout_ref.actor.use_kl_loss": "method.kl_coef (0 is none)",
    "actor_rollout_ref.actor.loss_agg_mode": "method.aggregate",
    "algorithm.adv_estimator": "method",
    "algorithm.kl_ctrl.kl_coef": "method.kl_coef",
    "algorithm.norm_adv_by_std_in_grpo": "method.scale",
    "data.train_batch_size": "batch.prompts",
    "data.train_files": "task.train (several: task=mixture)",
    "data.val_files": "task.test",
    "data.apply_chat_template_kwargs": "model.chat_template_kwargs",
    "data.prompt_key": "task.prompt_key",
    "data.max_prompt_length": "data.max_prompt_tokens",
    "data.max_response_length": "sampling.max_new_tokens",
    "data.filter_overlong_prompts": "data.long_prompts=drop",
    "trainer.total_training_steps": "steps",
    "trainer.total_epochs": "epochs",
    "trainer.save_freq": "checkpoint.every",
    "trainer.test_freq": "evaluate.every",
    "trainer.logger": "record.trackers",
    "trainer.project_name": "record.project",
    "trainer.experiment_name": "out",
    "trainer.default_local_dir": "out",
    "trainer.n_gpus_per_node": "nothing: torchrun --nproc-per-node N",
    "trainer.nnodes": "nothing: torchrun --nnodes N",
    "trainer.resume_mode": "--resume",
}
"""What verl's configuration calls it."""


def ours(name: str) -> str:
    """One sentence on a setting of TRL or verl; "" for any other name.

    Args:
        name: dotted, as it was given; of TRL's, which are flat, the last part counts.
    """
    if name in VERL:
        return _sentence(name, "verl", VERL[name])
    last = name.rpartition(".")[2]
    if last in TRL:
        return _sentence(name, "TRL", TRL[last])
    return ""


def _sentence(name: str, host: str, here: str) -> str:
    return f"{name!r} is {host}'s name; here it is {here}"
