"""What is verified of a model on real numbers before the code relies on it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from progrpo import attention
from progrpo.attention import packed
from progrpo.errors import DataError, ModelError

logger = logging.getLogger(__name__)

_FAULTS = (ModelError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What a model may raise that was not made for packed sequences: it then keeps to plain passes."""
_TOLERANCE = {False: 1e-3, True: 5e-2}
"""Relative error of packed against plain passes, in float32 and in half precision. An error of layout is near 1."""


def require_fit(report: Mapping[str, Any], name: str) -> None:
    """Check that the weights that were read are those of the configured model, and say which were not used.

    Args:
        report: what Transformers found while loading (`output_loading_info`); tied weights are not missing there.

    Raises:
        ModelError: a tensor of the model is not in the files, or has another shape there: it would be random.
    """
    missing, unused = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    wrong = sorted(f"{key}: {list(got)} for {list(expected)}" for key, got, expected in report["mismatched_keys"])
    remedy = "copy or download the folder again, or use the config.json that belongs to the weights"
    for what, keys in (("are not in the files", missing), ("have another shape", wrong)):
        if keys:
            raise ModelError(
                f"{name}: the weights do not fit config.json: {len(keys)} tensors {what} and would be random "
                f"({_some(keys)}); {remedy}"
            )
    if unused:
        logger.warning(
            "%s: %d tensors of its files have no place in the model and are left out (%s)",
            name,
            len(unused),
            _some(unused),
        )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


@contextmanager
def no_load_report() -> Iterator[None]:
    """Keep Transformers from logging its table of keys that do not fit: `require_fit` says it in a line."""

    def other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    loading = logging.getLogger("transformers.modeling_utils")
    loading.addFilter(other)
    try:
        yield
    finally:
        loading.removeFilter(other)


def positions(config: Any) -> int | None:
    """How many tokens of prompt and completion the model can tell apart, by its configuration; None for no limit.

    Rotary embeddings that are stretched (linear, yarn) reach as many times further as their factor says; those that change
    with the longest row of a pass are used up to where they change (see `rope_border`).
    """
    border = rope_border(config)
    config = config.get_text_config()
    limit = _given_positions(config)
    if limit is None:
        return border
    for rope in _ropes(config):
        if _kind(rope) in ("linear", "yarn") and rope.get("factor"):
            trained = rope.get("original_max_position_embeddings") or limit
            limit = max(limit, int(trained * rope["factor"]))
    return limit if border is None else min(limit, border)


def rope_border(config: Any) -> int | None:
    """The most tokens of a row for which rotary embeddings of the kinds longrope and dynamic are what they are for every
    shorter one; None for other kinds.

    Beyond, Transformers takes other frequencies for all rows of the pass, by the longest of them, and keys that are cached
    keep those they were made with: the log-probs of a completion would depend on its neighbours.
    """
    config = config.get_text_config()
    limit, borders = _given_positions(config), []
    for rope in _ropes(config):
        if _kind(rope) in ("longrope", "su"):  # su: its name in early files of Phi-3
            trained = rope.get("original_max_position_embeddings")
            borders.append(trained or getattr(config, "original_max_position_embeddings", None) or limit)
        elif "dynamic" in _kind(rope):
            borders.append(limit)
    return min((border for border in borders if border), default=None)


def told_border(config: Any, name: str) -> int | None:
    """`rope_border`, after saying, once for each model, why prompts and completions are held to it."""
    border = rope_border(config)
    if border is not None:
        _say_border(name, border)
    return border


@cache
def _say_border(name: str, border: int) -> None:
    logger.warning(
        "%s: prompt and completion are held to %d tokens together: beyond, its rotary embeddings (longrope or dynamic) change "
        "with the longest row of a pass, and the log-probs of a completion would depend on its neighbours",
        name,
        border,
    )


def require_within(border: int, input_ids: Tensor, position_ids: Tensor | None) -> None:
    """Check that no row of a pass goes beyond `border` tokens (see `rope_border`).

    Raises:
        DataError: one does.
    """
    if input_ids.is_cuda and torch.cuda.is_current_stream_capturing():  # of a graph: its positions cannot be looked at
        return
    longest = input_ids.shape[1] if position_ids is None else int(position_ids.max()) + 1
    if longest > border:
        raise DataError(
            f"a pass holds a row of {longest} tokens, and the model's rotary embeddings change beyond {border}: the log-probs "
            f"of shorter rows would change with it. Take prompts and completions of at most {border} tokens together"
        )


def _given_positions(config: Any) -> int | None:
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
    limit = next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)
    return limit if limit is not None and limit > 0 else None


def _ropes(config: Any) -> list[Mapping[str, Any]]:
    """The parameters of the rotary embeddings: one set, or one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if any(key in rope for key in ("rope_type", "type", "factor")):
        return [rope]
    return [kind for kind in rope.values() if isinstance(kind, Mapping)]


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type", rope.get("type")))


@torch.no_grad()
def require_causal(model: Any, device: torch.device, name: str) -> None:
    """Check that the logits at each position stay as they are when later tokens change.

    Raises:
        ModelError: they do not: the model sees what it is asked to predict; or they are nan.
    """
    plain = torch.arange(8, device=device) % model.config.get_text_config().vocab_size
    tokens = plain.repeat(3, 1)
    tokens[1, 4:] = (tokens[1, 4:] + 3) % model.config.get_text_config().vocab_size
    tokens[2, 7:] = (tokens[2, 7:] + 3) % model.config.get_text_config().vocab_size
    was_training = model.training
    logits = model.eval()(input_ids=tokens).logits.float()
    model.train(was_training)
    if bool(logits.isnan().any()):
        raise ModelError(f"{name}: its logits are nan; are the weights those of a diverged run, or damaged?")
    for row, known in ((1, 4), (2, 7)):
        change = logits[row] - logits[0]
        # Of the change where it must be: exactly 0 for all causal models met so far, 0.001 for a random BERT of 2 layers.
        if float(change[:known].norm()) > 1e-4 * float(change[known:].norm()):
            raise ModelError(
                f"{name}: the model is not causal: its logits change when a later token does, so that it sees the answer "
                f"in training and not in sampling; choose a decoder ({type(model).__name__} may be one with "
                "is_decoder=true in its config.json, where it was trained so)"
            )


@torch.no_grad()
def switch_off_dropout(model: Any, device: torch.device, name: str) -> None:
    """Make training see the very policy that sampled: with dropout the importance ratio is noise from the first step."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for key, value in vars(module).items():
            if "dropout" in key and isinstance(value, float):
                setattr(module, key, 0.0)
    tokens = torch.arange(8, device=device)[None, :] % model.config.get_text_config().vocab_size
    was_training = model.training
    sampled, trained = model.eval()(input_ids=tokens).logits, model.train()(input_ids=tokens).logits
    model.train(was_training)
    if not torch.allclose(sampled, trained, rtol=1e-4, atol=1e-4):
        logger.warning(
            "%s gives other logits in training than in sampling, though dropout is off; ratios are noisy", name
        )


@torch.no_grad()
def head_is_separate(model: Any, device: torch.device, name: str) -> bool:
    """Whether output embedding(base model(x)) are the model's logits."""
    tokens = torch.arange(8, device=device)[None, :] % model.config.get_text_config().vocab_size
    was_training = model.training
    model.eval()
    expected = model(input_ids=tokens).logits
    output = model.get_output_embeddings()
    base = getattr(model, model.base_model_prefix, None)
    same = False
    if output is not None and base is not None:
        states = getattr(base(input_ids=tokens), "last_hidden_state", None)
        if states is not None:
            actual = output(states)
            same = actual.shape == expected.shape and torch.allclose(actual, expected, rtol=1e-4, atol=1e-4)
    model.train(was_training)
    if not same:
        logger.warning("%s transforms its logits after the head; scoring holds the logits of whole rows", name)
    return same


def shares_prompts(model: Any, device: torch.device, *, bf16: bool, name: str) -> bool:
    """Whether a packed sequence gives what plain passes give, states and gradient; if so, its attention is set up for it.

    Two prompts with two and one completions, random tokens: each completion's states and their gradient against those
    of a pass over prompt and completion alone.
    """
    fault = _packed_fault(model, device, bf16=bf16)
    if fault is None:
        return True
    attention.uninstall(model)
    logger.warning(
        "%s: a group's prompt cannot be shared between its completions (%s); taking plain passes, which are slower",
        name,
        fault,
    )
    return False


def _packed_fault(model: Any, device: torch.device, *, bf16: bool) -> str | None:
    generator = torch.Generator().manual_seed(0)
    prompts = [_random(model, length, generator) for length in (7, 4)]
    completions = [[_random(model, length, generator) for length in lengths] for lengths in ((5, 3), (6,))]
    line, segments = packed.concatenate(prompts, completions)
    positions = torch.cat([torch.arange(s.prefix_length, s.prefix_length + s.length) for s in segments])
    watched = next((one for one in _of_text(model).parameters() if one.requires_grad and one.ndim == 1), None)
    try:
        attention.install(model)
        layout = _Noting(packed.pack(segments, device, bf16=bf16))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            shared = model.base_model(
                input_ids=line[None].to(device),
                position_ids=positions[None].to(device),
                **attention.arguments(layout, device),
            ).last_hidden_state[0]
            ours = [
                shared[segment.start : segment.start + segment.length] for segment in segments if segment.prefix_length
            ]
            theirs = [
                model.base_model(
                    input_ids=torch.cat([prompt, completion])[None].to(device), use_cache=False
                ).last_hidden_state[0, len(prompt) :]
                for prompt, group in zip(prompts, completions, strict=True)
                for completion in group
            ]
        pairs = [(torch.cat(ours).detach(), torch.cat(theirs).detach())]
        if watched is not None and shared.requires_grad:
            pairs.append((_gradient(ours, watched), _gradient(theirs, watched)))
    except _FAULTS as error:
        return f"{type(error).__name__}: {error}"
    if (fault := _window_fault(model.config, layout.windows)) is not None:
        return fault
    errors = [float((a - b).float().norm() / b.float().norm()) for a, b in pairs]
    if max(errors) < _TOLERANCE[bf16]:
        return None
    return f"states and gradient differ by {', '.join(f'{error:.1e}' for error in errors)}"


class _Noting:
    """A layout that notes the sliding window of each layer."""

    def __init__(self, layout: attention.Layout) -> None:
        self._layout = layout
        self.windows: dict[int, int | None] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None = None
    ) -> Tensor:
        self.windows[layer] = window
        return self._layout.attend(layer, query, key, value, scale, window)


def _window_fault(config: Any, told: Mapping[int, int | None]) -> str | None:
    """Layers that see less than all before them, where their attention is not told so: sequences as short as those compared
    would not show it.

    Args:
        told: the sliding window that each layer's attention was told.
    """
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * len(told)
    expected = {"full_attention": None, "sliding_attention": window}
    for layer, width in told.items():
        kind = kinds[layer]
        if kind not in expected:
            return f"layer {layer} has {kind}"
        if width != expected[kind]:
            return f"layer {layer} has {kind}, of a window of {expected[kind]}, and its attention is told {width}"
    return None


def _gradient(states: list[Tensor], watched: Tensor) -> Tensor:
    # A fixed random direction: the sum of a normalised state would have next to no gradient.
    joined = torch.cat(states).float()
    direction = torch.randn(joined.shape, generator=torch.Generator().manual_seed(1)).to(joined.device)
    return torch.autograd.grad((joined * direction).sum(), watched)[0]


def _of_text(model: Any) -> Any:
    """The part of a model that reads text: one that sees pictures has parameters that no text reaches."""
    decoder = getattr(model, "get_decoder", lambda: None)()
    return model if decoder is None else decoder


def _random(model: Any, length: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, model.config.get_text_config().vocab_size, (length,), generator=generator)
