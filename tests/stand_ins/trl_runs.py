"""Tiny trainings by TRL, watched: what it sampled, and the loss of every micro-batch with the weights it saw."""

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoTokenizer, PrinterCallback, Qwen2Config, Qwen2ForCausalLM

from progrpo.adapters.trl import ProGRPOTrainer
from progrpo.adapters.trl.config import ProGRPOConfig
from progrpo.algo.logprobs import token_logprobs
from progrpo.methods import Method
from progrpo.methods.step import decide, make_step, micro_loss, micro_view
from progrpo.model.files import resolve_path
from progrpo.types import RolloutBatch

PROMPTS = ("1 2=3:", "7 8=1:", "4 4 5=9:")
"""Of different lengths, so that TRL pads the shorter on the left. The first is always answered correctly, the second never."""
GROUP, LIMIT = 4, 6


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve_path("embedded:countdown"))


def tiny_model(dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    words = tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words),
            num_key_value_heads=1,
            max_position_embeddings=64,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            attention_dropout=dropout,
            **shape,
        )
    )
    with torch.no_grad():  # as it starts, all tokens are all but equally likely
        model.lm_head.weight.mul_(20.0)
    return model


def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    fixed = {PROMPTS[0]: 1.0, PROMPTS[1]: 0.0}
    return [
        fixed.get(prompt, float(zlib.crc32(text.encode()) % 2))
        for prompt, text in zip(prompts, completions, strict=True)
    ]


@dataclass
class Seen:
    """What a training did.

    Attributes:
        outputs: of each generation batch, as TRL made it. batches: as the method saw it.
        losses: of each micro-batch. weights: what the model's weights were then.
        final: weights at the end. history: TRL's rows of metrics.
    """

    trainer: Any
    outputs: list[dict[str, Any]] = field(default_factory=list)
    batches: list[RolloutBatch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    final: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    trainer_class: type = ProGRPOTrainer,
    config_class: type = ProGRPOConfig,
    *,
    prepare: Callable[[Any], None] = lambda trainer: None,
    funcs: Any = reward,
    more: dict[str, Any] | None = None,
    copies: int = 1,
    dropout: float = 0.0,
    **settings: Any,
) -> Seen:
    """Train a tiny model on the prompts, `copies` of them.

    `prepare` is given the trainer before; `more` goes to the trainer, `settings` to its config.
    """
    with tempfile.TemporaryDirectory() as folder:
        chosen = {
            "output_dir": folder,
            "use_cpu": True,
            "bf16": False,
            "per_device_train_batch_size": 6,
            "gradient_accumulation_steps": 2,
            "num_generations": GROUP,
            "max_completion_length": LIMIT,
            "learning_rate": 3e-2,
            "max_steps": 1,
            "logging_steps": 1,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "shuffle_dataset": False,
        }
        model = tiny_model(dropout)
        if settings.get("beta"):  # TRL loads its reference from where the model is from
            model.save_pretrained(f"{folder}/model")
            model.config._name_or_path = f"{folder}/model"
        trainer = trainer_class(
            model=model,
            reward_funcs=funcs,
            args=config_class(**(chosen | settings)),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS * copies]),
            processing_class=tokenizer(),
            **(more or {}),
        )
        trainer.remove_callback(PrinterCallback)
        seen = Seen(trainer)
        _watch(trainer, seen)
        prepare(trainer)
        trainer.train()
    seen.final = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    seen.history = trainer.state.log_history
    return seen


def _watch(trainer: Any, seen: Seen) -> None:
    generate, compute = trainer._generate_and_score_completions, trainer._compute_loss

    def generated(inputs: Any) -> Any:
        output = generate(inputs)
        seen.outputs.append({name: value.clone() for name, value in output.items() if isinstance(value, Tensor)})
        return output

    def computed(model: Any, inputs: Any) -> Any:
        seen.weights.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        loss = compute(model, inputs)
        seen.losses.append(loss.item())
        return loss

    trainer._generate_and_score_completions, trainer._compute_loss = generated, computed
    if hasattr(trainer, "_whole_batch"):
        whole = trainer._whole_batch

        def kept(*arguments: Any) -> RolloutBatch:
            batch: RolloutBatch = whole(*arguments)
            seen.batches.append(batch)
            return batch

        trainer._whole_batch = kept


def recorded(
    output: dict[str, Any], weights: dict[str, Tensor], rewards: Tensor
) -> tuple[RolloutBatch, Tensor, Tensor]:
    """The rollout that TRL sampled, scored by our functions row by row and without padding.

    Args:
        rewards: [P, G]; above 0 is correct.
    Returns:
        The batch, and with the gradient of `weights`' model [N, S] log-probs and entropies.
    """
    model = tiny_model()
    model.load_state_dict(weights)
    count, width = output["completion_ids"].shape
    logprobs, entropies = torch.zeros(count, width), torch.zeros(count, width)
    prompts, known = torch.zeros(count, output["prompt_ids"].shape[1]), output["prompt_mask"].clone() * 0
    tool = output.get("tool_mask", torch.ones(count, width))
    mask = (output["completion_mask"] * tool).bool()
    for row in range(count):
        prompt = output["prompt_ids"][row][output["prompt_mask"][row].bool()]
        completion = output["completion_ids"][row][output["completion_mask"][row].bool()]
        ids = torch.cat([prompt, completion])[None]
        with torch.no_grad():
            logits = model(ids).logits
        scores, first = token_logprobs(logits, ids)[0], len(prompt)
        logprobs[row, : len(completion)] = scores[first:]
        distribution = logits[0, first - 1 : -1].log_softmax(dim=-1)
        entropies[row, : len(completion)] = -(distribution.exp() * distribution).sum(dim=-1)
        prompts[row, 1:first], known[row, 1:first] = scores[1:first], 1
    shape, ends = rewards.shape, torch.tensor(tokenizer().eos_token_id)
    lengths = output["completion_mask"].sum(dim=1)
    last = output["completion_ids"].gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
    group = shape[1]
    return (
        RolloutBatch(
            rewards=rewards,
            correct=rewards > 0,
            truncated=(last != ends).view(shape),
            lengths=mask.sum(dim=1).view(shape),
            mask=mask,
            old_logprobs=logprobs.masked_fill(~mask, 0.0),
            entropies=entropies.masked_fill(~mask, 0.0),
            prompt_logprobs=prompts[::group],
            prompt_mask=known[::group].bool(),
        ),
        logprobs,
        entropies,
    )


def our_loss(method: Method, batch: RolloutBatch, logprobs: Tensor, entropies: Tensor, **more: Any) -> float:
    """What progrpo's own step makes of it, in one micro-batch; `more` goes to the batch."""
    batch = replace(batch, **more)
    step = make_step(batch, method.advantages(batch), slice(0, len(batch.rewards)), seed=0)
    decided = decide(method, step, longest=LIMIT, skip_zero=False)
    place = torch.arange(len(batch.mask))
    view = micro_view(step, decided, place, logprobs=logprobs, entropies=entropies)
    return float(micro_loss(method, view, decided, place)[0])
