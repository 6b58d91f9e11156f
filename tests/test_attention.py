from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from progrpo import attention, model_checks
from progrpo.attention import packed
from progrpo.attention.packed import Packed, Segment, concatenate, pack
from progrpo.model import LanguageModel, wrap_model

CPU = torch.device("cpu")


def line_of(prompts: Sequence[int], completions: Sequence[Sequence[int]]) -> tuple[int, list[Segment]]:
    tokens, segments = concatenate(
        [torch.zeros(length) for length in prompts], [[torch.zeros(n) for n in own] for own in completions]
    )
    return len(tokens), segments


def alone(segments: Sequence[Segment], query: Tensor, key: Tensor, value: Tensor, window: int | None = None) -> Tensor:
    """Each segment by itself, with its prefix written out before it."""
    out = torch.zeros_like(query)
    for s in segments:
        seen = [*range(s.prefix_start, s.prefix_start + s.prefix_length), *range(s.start, s.start + s.length)]
        mine = slice(s.start, s.start + s.length)
        mask = torch.ones(s.length, len(seen), dtype=torch.bool).tril(s.prefix_length)
        if window is not None:
            mask = mask.triu(s.prefix_length - window + 1)
        repeat = query.shape[1] // key.shape[1]
        out[mine] = scaled_dot_product_attention(
            query[mine].transpose(0, 1),
            key[seen].transpose(0, 1).repeat_interleave(repeat, dim=0),
            value[seen].transpose(0, 1).repeat_interleave(repeat, dim=0),
            attn_mask=mask,
            scale=0.3,
        ).transpose(0, 1)
    return out


def test_segments_of_a_line() -> None:
    # prompt of 2, completions of 3 and 1; prompt of 1, completion of 2
    length, segments = line_of((2, 1), ((3, 1), (2,)))
    assert length == 9
    assert segments == [
        Segment(start=0, length=2),
        Segment(start=2, length=3, prefix_start=0, prefix_length=2),
        Segment(start=5, length=1, prefix_start=0, prefix_length=2),
        Segment(start=6, length=1),
        Segment(start=7, length=2, prefix_start=6, prefix_length=1),
    ]


@given(
    groups=st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(0, 12), min_size=1, max_size=4)), min_size=1, max_size=4
    ),
    heads=st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    small=st.sampled_from([0, 1 << 16]),
    masked=st.sampled_from([0, 40, 1 << 22]),
    window=st.none() | st.integers(1, 24),
)
def test_a_packed_line_is_each_sequence_alone(
    groups: list[tuple[int, list[int]]], heads: tuple[int, int], small: int, masked: int, window: int | None
) -> None:
    length, segments = line_of([q for q, _ in groups], [own for _, own in groups])
    generator = torch.Generator().manual_seed(length)
    query, key, value = (
        torch.randn(length, count, 8, generator=generator, requires_grad=True)
        for count in (heads[0], heads[1], heads[1])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_SMALL", small)  # 0: as many rectangles as the padding rule makes
        patch.setattr(packed, "_MASKED", masked)  # 0: no completion longer than its prompt gets a mask
        layout = pack(segments, CPU, bf16=False)
        ours = layout.attend(0, query, key, value, 0.3, window)
    direction = torch.randn(length, heads[0], 8, generator=generator)
    gradients = []
    for out in (ours, alone(segments, query, key, value, window)):
        gradients.append((out, *torch.autograd.grad((out * direction).sum(), (query, key, value))))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_rectangles_are_padded_by_a_quarter_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_SMALL", 0)
    _, segments = line_of([30] * 6, [[1, 2, 4, 8, 16, 32, 64]] * 6)
    layout = pack(segments, CPU, bf16=False)
    area = sum(r.segments * r.queries * r.keys for r in layout.how.each)
    assert area <= 1.25 * sum(s.length * s.keys for s in segments)
    assert len(layout.how.each) == 8  # the prompts, and one for each length


def test_a_long_completion_takes_no_mask() -> None:
    # Two completions of 3,000 tokens see 4,000 keys: 12 M pairs each, and one rectangle of 4,000 by 4,000 without a mask. The
    # short ones need 10 x 1,010 pairs of one; the one whose prompt is longer than itself keeps its mask, 2,500 x 5,500.
    _, segments = line_of((1000, 3000), ((3000, 10, 3000), (2500,)))
    how = pack(segments, CPU, bf16=False).how
    assert isinstance(how, packed._Rectangles)
    made = {(one.segments, one.queries, one.keys): None if one.mask is None else one.mask.numel() for one in how.each}
    assert made == {
        (1, 3000, 3000): None,
        (1, 1000, 1000): None,
        (1, 2500, 5500): 2500 * 5500,
        (1, 10, 1010): 10 * 1010,
        (2, 4000, 4000): None,
    }


def test_keys_and_values_are_handed_on(tiny_model: LanguageModel) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []
    _, segments = line_of((3,), ((),))
    layout = pack(segments, CPU, bf16=False, keep=lambda layer, key, value: seen.append((layer, tuple(key.shape))))
    tiny_model.hidden(torch.tensor([[1, 2, 3]]), position_ids=torch.arange(3)[None], layout=layout)
    assert seen == [(0, (3, 2, 8)), (1, (3, 2, 8))]


def test_a_model_without_a_layout_is_as_before(tiny_model: LanguageModel) -> None:
    tokens = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])
    ours = tiny_model.model(tokens, attention_mask=mask).logits
    assert tiny_model.model.config._attn_implementation == "progrpo_over_sdpa"
    with attention.uninstalled(tiny_model.model):
        assert tiny_model.model.config._attn_implementation == "sdpa"
        assert torch.equal(tiny_model.model(tokens, attention_mask=mask).logits, ours)
    assert tiny_model.model.config._attn_implementation == "progrpo_over_sdpa"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_check_finds_a_wrong_layout(
    tiny_model: LanguageModel, precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert wrap_model(tiny_model.model, tiny_model.tokenizer, device=CPU, precision=precision).shares_prompts

    def blind(segments: Sequence[Segment], device: torch.device, **options: object) -> Packed:
        return pack([Segment(start=s.start, length=s.length) for s in segments], device, bf16=False)

    monkeypatch.setattr(packed, "pack", blind)
    model = wrap_model(tiny_model.model, tiny_model.tokenizer, device=CPU, precision=precision)
    assert not model.shares_prompts
    assert "cannot be shared" in caplog.text
    assert model.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("window", [2, 4, 11, 12, 500])
def test_layers_with_a_sliding_window_share_prompts(
    windowed_model: Callable[[int], LanguageModel], window: int
) -> None:
    assert windowed_model(window).shares_prompts  # compared at load on sequences of up to 12 tokens


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sliding_window": 5}, "layer 0 has sliding_attention, of a window of 5, and its attention is told 4"),
        (
            {"layer_types": ["full_attention"] * 2},
            "layer 0 has full_attention, of a window of None, and its attention is told 4",
        ),
        ({"layer_types": ["sliding_attention", "chunked_attention"]}, "layer 1 has chunked_attention"),
        ({"layer_types": None}, "layer 1 has sliding_attention, of a window of 4, and its attention is told None"),
    ],
)
def test_a_window_that_attention_is_not_told_takes_plain_passes(
    windowed_model: Callable[[int], LanguageModel], changes: dict[str, object], words: str
) -> None:
    model = windowed_model(4)
    for name, value in changes.items():
        setattr(model.model.config, name, value)
    assert model_checks._window_fault(model.model.config, {0: 4, 1: None}) == words
    if "sliding_window" in changes:
        assert model_checks._packed_fault(model.model, CPU, bf16=False) == words


def test_attention_that_the_layout_does_not_know_takes_plain_passes(
    tiny_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    assert not wrap_model(eager, tokenizer, device=CPU).shares_prompts
    assert "'eager' cannot be extended" in caplog.text


def test_a_model_without_positions_of_its_own_is_compared_too(tmp_path: Path, tiny_model: LanguageModel) -> None:
    # GPT-2: learned positions, and a head and projections of another make.
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=len(tiny_model.tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64)
    model = GPT2LMHeadModel(config)
    assert wrap_model(model, tiny_model.tokenizer, device=CPU).shares_prompts


def test_sharing_can_be_switched_off(tiny_model: LanguageModel) -> None:
    attention.uninstall(tiny_model.model)
    model = wrap_model(tiny_model.model, tiny_model.tokenizer, device=CPU, share_prompts=False)
    assert not model.shares_prompts
    assert model.model.config._attn_implementation == "sdpa"
