"""Any method that TRL can honour inside TRL's GRPOTrainer: the same six lines, and the name of the method.

    from progrpo.adapters.trl import ProGRPOConfig, ProGRPOTrainer

    trainer = ProGRPOTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        reward_funcs=reward,
        args=ProGRPOConfig(output_dir="out", method="progrpo", method_params={"alpha": 0.3}),
        train_dataset=dataset,
    )
    trainer.train()

What is honoured and what is refused, how TRL differs and the versions tested: docs/adapters.md. What it costs: a method that
computes from the log-probs of a rollout (`progrpo` does) takes them from the pass that TRL makes for its old log-probs, widened
to the prompt. TRL makes none where a generation batch is used up by one optimiser step (its default) and vLLM's importance
correction is off; then one more forward pass without gradient is made per rollout, and logged once.
"""

import logging
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from progrpo.adapters._rows import correct_of
from progrpo.adapters.trl import host, settings
from progrpo.adapters.trl.rollout import (
    GenerationBatch,
    Scored,
    cut_scored,
    known_prompt_tokens,
    loss_of,
    make_rollout,
    total_rewards,
    truncated_of,
)
from progrpo.algo.surrogate import log_ratio
from progrpo.errors import ConfigError, HostError
from progrpo.methods import Advantages, MicroView
from progrpo.methods.step import clip_bounds
from progrpo.seeds import derive_seed
from progrpo.types import RolloutBatch

try:
    from trl import GRPOConfig, GRPOTrainer
    from trl import __version__ as _version
except ImportError as error:
    raise HostError(f"trl cannot be imported ({error}): pip install 'progrpo[trl]'") from error

host.check(GRPOTrainer, GRPOConfig, _version)
from progrpo.adapters.trl.config import ProGRPOConfig  # noqa: E402 - gives fields other defaults that `check` has found

logger = logging.getLogger(__name__)


class ProGRPOTrainer(GRPOTrainer):
    """GRPOTrainer whose advantages, and with loss_from="method" whose loss, are a method's.

    Takes GRPOTrainer's arguments, `args` being a ProGRPOConfig. The method sees whole groups, wherever their completions
    are, and rewards as the reward functions gave them.

    Raises:
        ConfigError: `args` is another config, no reward function has the name of `correct_by`, or the model takes images.
    """

    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "progrpo"]

    def __init__(self, model: Any, reward_funcs: Any = None, args: Any = None, *more: Any, **named: Any) -> None:
        if args is None:
            path = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "model")
            args = ProGRPOConfig(f"{path.split('/')[-1]}-ProGRPO")
        if not isinstance(args, ProGRPOConfig):
            raise ConfigError(
                f"args: expected a ProGRPOConfig, got {type(args).__name__}; it takes all fields of GRPOConfig and `method`"
            )
        self._chosen = args.choose()
        self._method = self._chosen.method
        self._own_loss = self._chosen.loss_from == "method"
        self._rollouts: dict[str, GenerationBatch] = {}
        self._listening = False
        self._scored: Scored | None = None
        self._rewards_per_func: Tensor | None = None
        super().__init__(model, reward_funcs, args, *more, **named)
        self._refuse()
        if self._own_loss:
            # The method leaves them out of the loss; TRL would also hide them from the pass that scores them.
            self.mask_truncated_completions = False
        if self._chosen.reads_logprobs and not self._host_scores:
            logger.warning(
                "method %s computes from the log-probs of a rollout and TRL makes no scoring pass with these settings: one "
                "more forward pass without gradient is made per rollout",
                self._method.name,
            )
        for text in self._method.check(args.num_generations, args.optimiser_steps):
            logger.warning("%s", text)

    # --- the rollout ---

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        """TRL's, kept: [N, F] of all processes, nan where a function returned None."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._rewards_per_func = rewards.detach()
        return rewards

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *more: Any, **named: Any
    ) -> Any:
        """TRL's; of the pass for old log-probs what the method reads is kept, prompts and entropies included."""
        if not self._listening:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *more, **named
            )
        self._listening = False
        wide = input_ids.shape[1] - 1 if "prompt_logprobs" in self._method.needs else logits_to_keep
        named["compute_entropy"] = "entropies" in self._method.needs
        logprobs, entropies, aux = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, wide, *more, **named
        )
        self._scored = cut_scored(logprobs.detach(), entropies, logits_to_keep)
        return logprobs[:, -logits_to_keep:], entropies, aux

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """TRL's, with the method's advantages."""
        self._scored = self._rewards_per_func = None
        self._listening = self._host_scores
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._listening or ("old_per_token_logps" in output) != self._host_scores:
            raise HostError(
                f"trl {_version}: the pass for old log-probs was not made when the adapter expects it, or made when not; "
                f"pip install 'trl=={host.TESTED[-1]}'"
            )
        if self._scored is None and self._chosen.reads_logprobs:
            self._score(output)
        mode = "train" if self.model.training else "eval"
        group = int(self.num_generations if mode == "train" else self.num_generations_eval)
        batch = self._whole_batch(output, group)
        if self._own_loss:
            advantages = self._method.advantages(batch)
            self._rollouts[mode] = self._decide(batch, advantages, output)
        else:
            plain = self.accelerator.gather(output["advantages"]).float().cpu().view(-1, group)
            advantages = settings.advantages_from(self._method, batch, plain)
        self._put(output, advantages, mode)
        return output

    @property
    def _host_scores(self) -> bool:
        """Whether TRL makes a pass for old log-probs."""
        every = self.args.steps_per_generation * self.num_iterations
        corrected = self.use_vllm and self.vllm_importance_sampling_correction
        return bool(self.args.gradient_accumulation_steps % every != 0 or corrected)

    def _score(self, output: dict[str, Any]) -> None:
        """The pass that TRL does not make; no random number of the run is used up by it."""
        mask = output["completion_mask"]
        training = self.model.training
        size = self.args.per_device_train_batch_size if training else self.args.per_device_eval_batch_size
        devices = [mask.device] if mask.device.type == "cuda" else []
        self._listening = True
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
                torch.cat([output["prompt_mask"], mask], dim=1),
                mask.shape[1],
                batch_size=size,
            )

    def _whole_batch(self, output: dict[str, Any], group: int) -> RolloutBatch:
        """All groups of all processes, on the CPU."""
        completion_mask = output["completion_mask"]
        counted = completion_mask * output["tool_mask"] if "tool_mask" in output else completion_mask
        mask = self._everyones(counted).bool()
        ends = [*self.eos_token_ids, self._tokenizer.pad_token_id]
        truncated = truncated_of(output["completion_ids"], completion_mask, ends)
        assert self._rewards_per_func is not None
        per_function = self._rewards_per_func.float().cpu()
        rewards = total_rewards(per_function, self.reward_weights.float().cpu()).view(-1, group)
        by = self.args.correct_by
        deciding = rewards if by is None else per_function[:, self.reward_func_names.index(by)].view(-1, group)
        scored, tokens = self._scored, mask
        logprobs = torch.zeros(tokens.shape) if scored is None else self._everyones(scored.logprobs)
        entropies = None if scored is None or scored.entropies is None else self._everyones(scored.entropies)
        prompts = prompt_mask = None
        if scored is not None and scored.prompt_logprobs is not None:
            known = known_prompt_tokens(output["prompt_mask"])
            # The completions of a group have one prompt: its first row stands for it.
            prompt_mask = self._everyones(known, left=True).bool()[::group]
            prompts = self._everyones(scored.prompt_logprobs, left=True)[::group].masked_fill(~prompt_mask, 0.0)
        reference = output.get("ref_per_token_logps")
        return RolloutBatch(
            rewards=rewards,
            correct=correct_of(deciding, ~rewards.isnan(), above=self.args.correct_above),
            truncated=self.accelerator.gather(truncated).cpu().view(-1, group),
            lengths=mask.sum(dim=1).view(-1, group),
            mask=mask,
            old_logprobs=logprobs.masked_fill(~mask, 0.0),
            entropies=None if entropies is None else entropies.masked_fill(~mask, 0.0),
            prompt_logprobs=prompts,
            prompt_mask=prompt_mask,
            ref_logprobs=None if reference is None else self._everyones(reference).masked_fill(~mask, 0.0),
        )

    def _everyones(self, values: Tensor, *, left: bool = False) -> Tensor:
        """[B, T] of each process -> [N, S] on the CPU, float32 or integer; padded with 0 on the right or the left."""
        values = values.detach().float() if values.is_floating_point() else values.int()
        padded = self.accelerator.pad_across_processes(values, dim=1, pad_index=0, pad_first=left)
        gathered: Tensor = self.accelerator.gather(padded)
        return gathered.cpu()

    def _decide(self, batch: RolloutBatch, advantages: Advantages, output: dict[str, Any]) -> GenerationBatch:
        ratio = output.get("importance_sampling_ratio")  # [B, T], or [B, 1] of whole sequences
        corrections = None
        if ratio is not None:
            corrections = self._everyones(ratio.expand(output["completion_mask"].shape))
        return make_rollout(
            self._method,
            batch,
            advantages,
            longest=self.max_completion_length,
            seed=derive_seed("trl", self.args.seed, self._step),
            on_policy="old_per_token_logps" not in output,
            corrections=corrections,
        )

    def _put(self, output: dict[str, Any], advantages: Advantages, mode: str) -> None:
        """Into what TRL shuffles and cuts: this process's advantages, and the number of each sequence among all."""
        count, width = output["completion_mask"].shape
        device, first = output["advantages"].device, self.accelerator.process_index * count
        mine = slice(first, first + count)
        values = advantages.values.flatten() if advantages.tokens is None else advantages.tokens[:, :width]
        output["advantages"] = values[mine].to(device, output["advantages"].dtype)
        output["progrpo_rows"] = torch.arange(first, first + count, device=device)
        logged = self._logs["advantages"]
        for _ in range(min(len(logged), advantages.values.numel())):
            logged.pop()
        logged.extend(advantages.values.flatten().tolist())
        for name, mean in advantages.stats.items():
            if mean.value is not None:
                self._metrics[mode][name].append(mean.value)

    # --- the loss ---

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        if not self._own_loss:
            theirs: Tensor = super()._compute_loss(model, inputs)
            return theirs
        mode = "train" if self.model.training else "eval"
        rollout, rows = self._rollouts[mode], inputs["progrpo_rows"].cpu()
        logprobs, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].shape[1],
            compute_entropy=True,
        )
        loss, view = loss_of(self._method, rollout, rows, logprobs, entropies)
        self._note(view, rollout, rows, entropies, mode)
        # Losses add up to that of the generation batch; gradients are averaged over processes and summed over the micro-batches
        # of an optimiser step, of which the batch has several, or a part.
        share = self.args.steps_per_generation / self.current_gradient_accumulation_steps if mode == "train" else 1.0
        whole: Tensor = loss * (share * self.accelerator.num_processes)
        return whole

    def _note(self, view: MicroView, rollout: GenerationBatch, rows: Tensor, entropies: Tensor, mode: str) -> None:
        """TRL's metrics of a micro-batch, under TRL's names: means over the tokens that are trained on."""
        low, high = clip_bounds(rollout.decided, rows, view.logprobs.device)
        ratio = log_ratio(view.logprobs.detach(), view.old_logprobs).exp()
        below = (ratio < 1 - low) & (view.advantages < 0)
        above = (ratio > 1 + high) & (view.advantages > 0)
        wide = pad(entropies.detach().float(), (0, ratio.shape[1] - entropies.shape[1]))
        means = {
            "entropy": wide,
            "clip_ratio/low_mean": below,
            "clip_ratio/high_mean": above,
            "clip_ratio/region_mean": below | above,
        }
        if view.ref_logprobs is not None:
            difference = view.ref_logprobs - view.logprobs.detach()
            means["kl"] = difference.exp() - difference - 1
        mask = view.mask
        sums = torch.stack(
            [*(torch.where(mask, value.float(), 0.0).sum() for value in means.values()), mask.float().sum()]
        )
        totals = self.accelerator.reduce(sums, reduction="sum")
        for name, total in zip(means, totals, strict=False):
            self._metrics[mode][name].append((total / totals[-1].clamp(min=1.0)).item())

    def _refuse(self) -> None:
        """What only the finished trainer tells.

        Raises:
            ConfigError: naming it.
        """
        by = self.args.correct_by
        if by is not None and by not in self.reward_func_names:
            raise ConfigError(
                f"correct_by={by!r}: no reward function has this name; expected one of {', '.join(self.reward_func_names)}"
            )
        if self._is_vlm:
            raise ConfigError("the model takes images, and the adapter knows text alone; use a causal language model")
        if not self._own_loss:
            return
        if self.aux_loss_enabled:
            raise ConfigError(
                "router_aux_loss_coef: a method's own loss has no load-balancing term; set it to 0.0, or take TRL's loss with "
                "loss_from='trl'"
            )
        corrected = self.use_vllm and self.vllm_importance_sampling_correction
        if corrected and hasattr(self._method.module, "group_loss"):
            raise ConfigError(
                f"method {self._method.name}: its loss is of whole completions and has no place for vLLM's importance "
                "correction; set vllm_importance_sampling_correction=False"
            )
