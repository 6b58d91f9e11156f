"""A Hugging Face causal model with its tokenizer, cut in two: the hidden states, and the head that makes logits of them."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo import attention, model_checks
from progrpo.attention import Layout
from progrpo.errors import ConfigError, DataError, ModelError
from progrpo.model import gguf, lora
from progrpo.model.activations import recompute_activations
from progrpo.model.chat import DEFAULT_CHAT, Chat, TemplateVariables
from progrpo.model.files import base_of, named_failure, resolve_path, source, tokenizer_source
from progrpo.model.lora import LoraSettings
from progrpo.model.precision import Precision
from progrpo.model.quantized import in_4bit, keep_unpacked
from progrpo.model.tokenizer import decode, encode_prompt, end_of_turn, notes, require_embedded
from progrpo.settings import Settings
from progrpo.types import Message

logger = logging.getLogger(__name__)


class ModelSettings(Settings):
    path: str = Field(min_length=1, examples=["Qwen/Qwen2.5-0.5B-Instruct"])
    """A Hugging Face folder or hub id, a GGUF file (FILE.gguf, needs the extra `gguf`), or "embedded:countdown", the model that
    ships in the package."""
    precision: Precision = "fp32"
    """bf16 runs the forward and backward passes under autocast; weights and optimiser stay float32 in both. fp16 is refused:
    without loss scaling its small gradients become 0."""
    device: str = "auto"
    """A torch device, or "auto": the first GPU, else the CPU."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""
    attention: str | None = None
    """Attention implementation as Transformers names them ("sdpa", "eager", "flash_attention_2"); None: its default."""
    share_prompts: bool = True
    """Run a group's prompt once for its completions, in sampling and in training. Checked against plain passes when the
    model is loaded, and off with a warning where it does not hold; false always takes plain passes."""
    lora: LoraSettings | None = None
    """Train a low-rank adapter instead of the weights, for instance {r: 16}; needs the extra `lora`."""
    load_in_4bit: bool = False
    """Hold the frozen weights in 4 bits (QLoRA, NF4) by bitsandbytes; only with `lora`, and not sharded."""
    pad_token: str | None = None
    """Filler for a tokenizer that names none; it is never attended to nor trained on, so the end token will do."""
    system_prompt: str | None = None
    """A system message before every chat that has none of its own, in training and evaluation alike; None leaves it to the
    chat template."""
    chat_template_kwargs: TemplateVariables = Field(default_factory=dict)
    """Variables of the model's chat template, for instance {enable_thinking: false}. Said where the template names none so."""

    @property
    def chat(self) -> Chat:
        """How prompts are rendered."""
        return Chat(system_prompt=self.system_prompt, template_kwargs=self.chat_template_kwargs)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LanguageModel:
    """The policy as engines and training see it.

    Attributes:
        model: the Transformers model, on `device`. tokenizer: its tokenizer.
        stop_ids: tokens that end a completion: the model's and the tokenizer's end tokens, and the one with which the chat
            template ends a turn. pad_id: filler, never attended to.
        positions: tokens of prompt and completion together that the model can tell apart; None where it sets no limit.
        split: whether `hidden` really stops before the head (see `hidden`).
        shares_prompts: whether `hidden` may be given a layout (see `progrpo.attention`).
        chat: how prompts are rendered.
        border: the most tokens of a row, where all rows of a pass would change beyond (see `model_checks.rope_border`).
    """

    model: Any
    tokenizer: Any
    device: torch.device
    precision: Literal["fp32", "bf16"]
    stop_ids: frozenset[int]
    pad_id: int
    positions: int | None
    split: bool
    shares_prompts: bool
    chat: Chat = DEFAULT_CHAT
    border: int | None = None

    def hidden(self, input_ids: Tensor, *, layout: Layout | None = None, **kwargs: Any) -> Tensor:
        """Last hidden states [n, S, D] of the tokens; `head` turns rows of them into logits.

        Args:
            layout: who sees whom, if not every token those before it in its row; only where `shares_prompts`.

        A model whose logits are not its output embedding times these states (checked at load) gives its logits here,
        and `head` passes them through: right for every architecture, lean for nearly all.

        Raises:
            DataError: a row goes beyond `border`.
        """
        if self.border is not None:
            model_checks.require_within(self.border, input_ids, kwargs.get("position_ids"))
        if layout is not None:
            kwargs |= attention.arguments(layout, self.device)
        if self.split:
            states: Tensor = self.model.base_model(input_ids=input_ids, **kwargs).last_hidden_state
            return states
        logits: Tensor = self.model(input_ids=input_ids, **kwargs).logits
        return logits

    def head(self, states: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        if not self.split:
            return states
        logits: Tensor = self.model.get_output_embeddings()(states)
        return logits

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The number format of forward passes."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            yield

    def encode_prompt(self, prompt: str | Sequence[Message]) -> Tensor:
        """Token ids [Q] of a prompt (see the function of this name)."""
        return encode_prompt(self.tokenizer, prompt, self.chat)

    def decode(self, token_ids: Tensor, ends: Collection[int] = ()) -> str:
        """The text of a completion, its special tokens included, without end tokens (`ends` being more of them) and filler."""
        return decode(self.tokenizer, token_ids.tolist(), {*self.stop_ids, self.pad_id, *ends})


def load_tokenizer(settings: ModelSettings) -> Any:
    """The tokenizer alone.

    Raises:
        ModelError: no such folder or hub id, no tokens in it, or no token to pad with.
    """
    path, where = tokenizer_source(settings.path)
    with named_failure(settings.path):
        extra = {"pad_token": settings.pad_token} if settings.pad_token else {}
        tokenizer = gguf.read_tokenizer(path, where, **extra)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        # What Transformers makes of a folder without a tokenizer's files.
        raise ModelError(
            f"{settings.path}: the tokenizer has no tokens but special ones; expected tokenizer.json, or the vocabulary in the "
            "files of its kind: copy or download the model's tokenizer into the folder"
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{settings.path}: the tokenizer has no pad token; name one with model.pad_token, for instance "
            f"model.pad_token='{tokenizer.eos_token}': padding is never attended to nor trained on"
        )
    return tokenizer


def replaced_pad(settings: ModelSettings) -> frozenset[int]:
    """The id of the tokenizer's own pad token where `model.pad_token` puts another in its place: nothing uses it any more, so
    that the model need not embed it."""
    if not settings.pad_token:
        return frozenset()
    path, where = tokenizer_source(settings.path)
    with named_failure(settings.path):
        pad_id = gguf.read_tokenizer(path, where).pad_token_id
    return frozenset() if pad_id is None else frozenset({pad_id})


def load_model(
    settings: ModelSettings, *, again: bool = False, adapter: Path | None = None, merge: bool = False
) -> LanguageModel:
    """Load model and tokenizer in float32 and check that they can be trained.

    Args:
        adapter: a checkpoint with the adapter to go on with, where `settings.lora` says that one is trained.
        merge: of a folder with an adapter take its base model with the adapter added, so that all of it can be trained.
        again: the model has been loaded before in this process: what was said of its tokenizer then is not said again.

    Raises:
        ModelError: no such folder or hub id, files that cannot be read or do not fit the configuration, a model that is not
            causal, no end-of-text token, no token to pad with, or tokens without an embedding.
        ConfigError: the device is not there.
    """
    from transformers import AutoModelForCausalLM

    added = lora.folder_to_merge(settings.path) if merge and settings.lora is None else None
    path, where = source(base_of(settings.path) if added else settings.path)
    device = pick_device(settings.device)
    extra: dict[str, Any] = {} if settings.attention is None else {"attn_implementation": settings.attention}
    if settings.load_in_4bit:
        adapted = settings.lora is not None or (base_of(settings.path) != settings.path and not merge)
        extra |= in_4bit(device, adapter=adapted, precision=settings.precision)
    extra |= gguf.dequantized(where, in_4bit=settings.load_in_4bit)
    tokenizer = load_tokenizer(settings)
    with named_failure(settings.path), model_checks.no_load_report():
        gguf.require_rope(path, where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **where, **extra
        )
    model, report = loaded
    model_checks.require_fit(report, settings.path)
    gguf.unmark(model, where)
    if added:
        model = lora.with_adapter_added(model, added)
    if settings.load_in_4bit:
        keep_unpacked(model)
    else:
        model.to(device)
    if settings.gradient_checkpointing:
        recompute_activations(model)
    wrapped = wrap_model(
        model,
        tokenizer,
        device=device,
        precision=settings.precision,
        share_prompts=settings.share_prompts,
        name=settings.path,
        unused=replaced_pad(settings),
        quiet=again,
        chat=settings.chat,
    )
    if settings.lora is not None:
        lora.attach(model, settings.lora, resolve_path(settings.path))
        if adapter is not None:
            lora.read_adapter(model, adapter)
    return wrapped


def wrap_model(
    model: Any,
    tokenizer: Any,
    *,
    device: torch.device,
    precision: Literal["fp32", "bf16"] = "fp32",
    share_prompts: bool = True,
    name: str = "model",
    unused: Collection[int] = (),
    quiet: bool = False,
    chat: Chat = DEFAULT_CHAT,
) -> LanguageModel:
    """Bind an already built model and a tokenizer that can pad (see `load_model` for the errors).

    Args:
        unused: ids of tokens that no text will hold. quiet: say nothing of the tokenizer's conventions.
    """
    require_embedded(tokenizer, model.get_input_embeddings().weight.shape[0], name, unused)
    stop_ids = stop_ids_of(model, tokenizer, name)
    if not quiet:
        for note in notes(tokenizer, stop_ids, chat):
            logger.warning("%s: %s", name, note)
    try:
        turn = end_of_turn(tokenizer, chat)
    except DataError:  # said above
        turn = None
    model_checks.require_causal(model, device, name)
    model_checks.switch_off_dropout(model, device, name)
    split = model_checks.head_is_separate(model, device, name)
    bf16 = precision == "bf16"
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        precision=precision,
        stop_ids=stop_ids if turn is None else stop_ids | {turn},
        pad_id=tokenizer.pad_token_id,
        positions=model_checks.positions(model.config),
        split=split,
        shares_prompts=share_prompts and split and model_checks.shares_prompts(model, device, bf16=bf16, name=name),
        chat=chat,
        border=model_checks.told_border(model.config, name),
    )


def pick_device(name: str) -> torch.device:
    """Raises ConfigError if `name` is no torch device or is not on this machine."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"model.device: {name!r} cannot be used here ({error}); auto picks one that can") from None
    return device


def count_parameters(path: str, adapter: LoraSettings | None = None) -> Mapping[str, int]:
    """Sizes that a plan needs, from the configuration alone: no weights are read.

    Args:
        adapter: what alone is trained of the model, if not all of it.

    Raises:
        ModelError: no such folder or hub id.
    """
    from transformers import AutoModelForCausalLM

    config = config_of(path)
    text = config.get_text_config()
    with named_failure(path), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        total = sum(parameter.numel() for parameter in model.parameters())
        if adapter is not None:
            lora.attach(model, adapter, path)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return {
        "parameters": total,
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "layers": text.num_hidden_layers,
        "width": text.hidden_size,
        "vocabulary": text.vocab_size,
        "cache_per_token": 2 * text.num_hidden_layers * heads * head_width,
    }


def known_positions(path: str) -> int | None:
    """`LanguageModel.positions` of a model, from the configuration alone.

    Raises:
        ModelError: no such folder or hub id.
    """
    config = config_of(path)
    model_checks.told_border(config, path)
    return model_checks.positions(config)


def config_of(path: str) -> Any:
    """Raises ModelError if there is no such folder or hub id."""
    source_path, where = source(base_of(path))
    with named_failure(path):
        return gguf.read_config(source_path, where)


def stop_ids_of(model: Any, tokenizer: Any, name: str) -> frozenset[int]:
    """The end tokens of a model and its tokenizer. Raises ModelError if there are none."""
    stop_ids: set[int] = set()
    configured = getattr(model.config, "eos_token_id", None) or model.config.get_text_config().eos_token_id
    for value in (tokenizer.eos_token_id, configured, model.generation_config.eos_token_id):
        stop_ids.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    if not stop_ids:
        raise ModelError(
            f"{name}: no end-of-text token, so no completion could ever end; set eos_token in the tokenizer's "
            "tokenizer_config.json or eos_token_id in the model's generation_config.json"
        )
    return frozenset(stop_ids)
