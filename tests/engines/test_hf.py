import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from progrpo import attention, engines
from progrpo.algo.logprobs import distribution_entropy, token_logprobs
from progrpo.engines import Engine, Generated, Request, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines.hf import HfEngine, cache, weights
from progrpo.engines.hf.cache import Decode
from progrpo.engines.hf.graphs import Graphs, round_up
from progrpo.engines.hf.sampling import invert, sample
from progrpo.engines.hf.state import DecoderState
from progrpo.errors import ConfigError, DataError
from progrpo.model import LanguageModel
from progrpo.settings import Choice

PROMPTS = ("12+34=", "7:", "1234567890 abc", "7:")
SEEDS = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))
SAMPLING = Sampling(max_new_tokens=12, temperature=1.3)


def engine(model: LanguageModel, **params: object) -> Engine:
    return engines.load(Choice(name="hf", **params), model)


def requests(model: LanguageModel) -> list[Request]:
    return [Request(prompt_ids=model.encode_prompt(p), seeds=s) for p, s in zip(PROMPTS, SEEDS, strict=True)]


def generate(model: LanguageModel, **params: object) -> list[Generated]:
    return engine(model, **params).generate(requests(model), SAMPLING, prompt_logprobs=True)


def test_logprobs_and_entropies_equal_a_plain_forward_pass(tiny_model: LanguageModel) -> None:
    for request, result in zip(requests(tiny_model), generate(tiny_model), strict=True):
        for completion in result.completions:
            tokens = torch.cat([request.prompt_ids, completion.token_ids])[None]
            logits = tiny_model.model(tokens).logits.detach()
            logprobs = token_logprobs(logits, tokens, temperature=1.3)[0]
            entropies = distribution_entropy(logits, 1.3)[0]
            start = len(request.prompt_ids)
            assert torch.allclose(completion.sampler_logprobs, logprobs[start:], atol=1e-4)
            assert torch.allclose(completion.entropies, entropies[start - 1 : -1], atol=1e-4)
            assert torch.allclose(result.prompt_logprobs, logprobs[:start], atol=1e-4)
            assert result.prompt_logprobs[0] == 0


def same(one: Generated, other: Generated) -> bool:
    return all(torch.equal(a.token_ids, b.token_ids) for a, b in zip(one.completions, other.completions, strict=True))


@pytest.mark.parametrize("max_rows", [1, 3, 5, 1000])
def test_a_completion_does_not_depend_on_its_batch(tiny_model: LanguageModel, max_rows: int) -> None:
    together = generate(tiny_model)
    alone = [engine(tiny_model).generate([request], SAMPLING)[0] for request in requests(tiny_model)]
    chunked = generate(tiny_model, max_rows=max_rows)
    for a, b, c in zip(together, alone, chunked, strict=True):
        assert same(a, b)
        assert same(a, c)


def test_a_completion_does_not_depend_on_its_group(tiny_model: LanguageModel) -> None:
    request = requests(tiny_model)[0]
    whole = generate(tiny_model)[0].completions[1]
    single = (
        engine(tiny_model).generate([Request(prompt_ids=request.prompt_ids, seeds=(2,))], SAMPLING)[0].completions[0]
    )
    assert torch.equal(whole.token_ids, single.token_ids)


def test_other_seeds_give_other_completions(tiny_model: LanguageModel) -> None:
    results = generate(tiny_model)
    assert not same(results[1], results[3])  # the same prompt, other seeds


def test_finish_and_stop_token(tiny_model: LanguageModel) -> None:
    finishes = Counter()
    for result in engine(tiny_model).generate(
        [Request(prompt_ids=tiny_model.encode_prompt("1"), seeds=tuple(range(200)))],
        Sampling(max_new_tokens=20, temperature=2.0),
    ):
        for completion in result.completions:
            finishes[completion.finish] += 1
            stops = torch.isin(completion.token_ids, torch.tensor(sorted(tiny_model.stop_ids)))
            if completion.finish == "stop":
                assert stops.nonzero()[:, 0].tolist() == [len(stops) - 1]
            else:
                assert len(stops) == 20
                assert not stops.any()
    assert set(finishes) == {"stop", "length"}


TEXTS = ("b1", "7", "+2c", "<unk>a", 9, 14)


def stopping(model: LanguageModel, name: str, **changes: object) -> tuple[list[Generated], list[Generated]]:
    """The same draws with and without stops, by engine `name`."""
    asked = [
        Request(prompt_ids=model.encode_prompt(p), seeds=tuple(range(i, i + 30))) for i, p in ((0, "1+"), (30, "7:"))
    ]
    sampling = Sampling(max_new_tokens=14, temperature=2.0, raw=True)
    made = engines.load(Choice(name=name), replace(model, **changes))
    return tuple(made.generate(asked, one) for one in (sampling, sampling.model_copy(update={"stop": TEXTS})))


def require_stopped(model: LanguageModel, plain: list[Generated], stopped: list[Generated]) -> Counter[str]:
    """Each completion is a prefix of the one without stops, up to its first stop, and its numbers are the same."""
    finishes: Counter[str] = Counter()
    texts = [stop for stop in TEXTS if isinstance(stop, str)]
    for one, other in zip(plain, stopped, strict=True):
        for whole, cut in zip(one.completions, other.completions, strict=True):
            ids = whole.token_ids.tolist()
            said = [model.tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1)]
            # The straightforward way: the first prefix that holds a string or ends with one of the tokens.
            found = [
                count
                for count, (token, text) in enumerate(zip(ids, said, strict=True), start=1)
                if token in (*TEXTS, *model.stop_ids) or any(stop in text for stop in texts)
            ]
            length = found[0] if found else len(ids)
            assert cut.token_ids.tolist() == ids[:length]
            assert cut.finish == ("stop" if found else "length")
            assert torch.allclose(cut.sampler_logprobs, whole.sampler_logprobs[:length], atol=1e-5)
            assert torch.allclose(cut.raw_logprobs, whole.raw_logprobs[:length], atol=1e-5)
            assert torch.allclose(cut.entropies, whole.entropies[:length], atol=1e-5)
            by = next((stop for stop in texts if stop in said[length - 1]), ids[length - 1]) if found else None
            if isinstance(by, str):
                assert by in cut.text
            elif by is not None:
                assert cut.text == model.tokenizer.decode(ids[: length - 1]).replace("<pad>", "")
            finishes[str(by) if isinstance(by, str) else type(by).__name__] += 1
    return finishes


@pytest.mark.parametrize("changes", [{}, {"shares_prompts": False}])
def test_stop_strings_and_tokens_end_a_completion_where_they_are_complete(
    tiny_model: LanguageModel, changes: dict[str, object]
) -> None:
    finishes = require_stopped(tiny_model, *stopping(tiny_model, "hf", **changes))
    assert {"7", "int", "NoneType"} <= set(finishes)


def test_a_stop_string_of_several_tokens(tiny_model: LanguageModel) -> None:
    """The completion of one seed, stopped at the third and fourth token of what it says."""
    request = Request(prompt_ids=tiny_model.encode_prompt("1+"), seeds=(3,))
    (plain,) = engine(tiny_model).generate([request], SAMPLING)
    text = plain.completions[0].text
    assert len(text) >= 6
    for stop in (text[2:4], text[1:4], text[:4]):
        assert text.index(stop) + len(stop) == 4
        (made,) = engine(tiny_model).generate([request], SAMPLING.model_copy(update={"stop": (stop,)}))
        assert made.completions[0].text == text[:4]
        assert made.completions[0].finish == "stop"


def test_stops_are_checked() -> None:
    assert Sampling(max_new_tokens=1, stop="a").stop == ("a",)
    assert Sampling(max_new_tokens=1, stop=["a", 3]).stop == ("a", 3)
    for wrong in ("", [""], [-1], [True], [1.5], [None]):
        with pytest.raises(ValueError, match="stop"):
            Sampling(max_new_tokens=1, stop=wrong)


def test_a_stop_token_that_is_none_is_refused(tiny_model: LanguageModel) -> None:
    size = tiny_model.model.config.vocab_size
    with pytest.raises(ConfigError, match=rf"sampling.stop: the model has no token {size}; expected ids below {size}"):
        engine(tiny_model).generate(requests(tiny_model), SAMPLING.model_copy(update={"stop": (size,)}))


def byte_model(model: LanguageModel) -> LanguageModel:
    """The model with a tokenizer whose token is a byte: a character may take several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return replace(model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=made))


@given(text=st.text(max_size=12), stop=st.text(min_size=1, max_size=3))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stop_string_is_found_at_the_byte_that_completes_it(tiny_model: LanguageModel, text: str, stop: str) -> None:
    model = byte_model(tiny_model)
    ends = Ends(model, Sampling(max_new_tokens=1, stop=(stop,)))
    whole = (text + stop).encode()
    ids = model.tokenizer((text + stop), add_special_tokens=False).input_ids
    assert len(ids) == len(whole)
    # The shortest prefix of whole characters that holds the string, in bytes.
    said = text + stop
    assert ends.first(ids) == len(said[: said.index(stop) + len(stop)].encode())


@pytest.mark.parametrize("changes", [{}, {"shares_prompts": False}])
def test_completions_end_where_the_model_s_positions_do(tiny_model: LanguageModel, changes: dict[str, object]) -> None:
    model = endless(replace(tiny_model, positions=17, **changes))
    results = engine(model).generate(requests(model), Sampling(max_new_tokens=11))
    lengths = [[len(one.token_ids) for one in result.completions] for result in results]
    # Prompts of 6, 2, 14 and 2 tokens: 17 - 6 = 11, 11 of 15, 17 - 14 = 3, 11.
    assert lengths == [[11] * 3, [11] * 3, [3] * 3, [11] * 3]
    assert {one.finish for result in results for one in result.completions} == {"length"}
    with pytest.raises(
        DataError, match="a prompt of 14 tokens leaves no room for a completion in the model's 14 positions"
    ):
        engine(replace(model, positions=14)).generate(requests(model), SAMPLING)


def test_prompts_run_once_per_group_and_finished_rows_leave(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, int]] = []
    plain = LanguageModel.hidden

    def spy(self: LanguageModel, input_ids: torch.Tensor, **kwargs: object) -> torch.Tensor:
        shapes.append(tuple(input_ids.shape))
        return plain(self, input_ids, **kwargs)

    sampler = engine(tiny_model)
    sampler.generate(requests(tiny_model), SAMPLING)  # the first call tries the way of decoding
    monkeypatch.setattr(LanguageModel, "hidden", spy)
    results = sampler.generate(
        [
            Request(prompt_ids=tiny_model.encode_prompt(p), seeds=tuple(range(i, i + 40)))
            for i, p in ((0, "1+"), (40, "2:"))
        ],
        Sampling(max_new_tokens=30, temperature=2.0),
    )
    lengths = [len(c.token_ids) for result in results for c in result.completions]
    assert shapes[0] == (1, 4)  # two prompts of two tokens on one line, not eighty
    # step t feeds the completions longer than t, and no others
    assert shapes[1:] == [(1, sum(length > t for length in lengths)) for t in range(1, max(lengths))]


def endless(model: LanguageModel) -> LanguageModel:
    """The model with an end token it cannot draw."""
    return replace(model, stop_ids=frozenset({model.model.config.vocab_size}))


@pytest.mark.parametrize("way", [{}, {"max_rows": 4}, {"max_tokens": 70}])
def test_plain_passes_draw_the_same(tiny_model: LanguageModel, way: dict[str, int]) -> None:
    plain = replace(tiny_model, shares_prompts=False)
    for ours, theirs in zip(generate(tiny_model, **way), generate(plain, **way), strict=True):
        assert same(ours, theirs)
        assert torch.allclose(ours.prompt_logprobs, theirs.prompt_logprobs, atol=1e-5)
        for a, b in zip(ours.completions, theirs.completions, strict=True):
            assert torch.allclose(a.sampler_logprobs, b.sampler_logprobs, atol=1e-5)
            assert torch.allclose(a.entropies, b.entropies, atol=1e-5)
            assert a.finish == b.finish


@pytest.mark.parametrize("way", [{}, {"max_rows": 4}])
@pytest.mark.parametrize("window", [2, 5, 13, 25, 26])
def test_a_sliding_window_is_that_of_plain_passes(
    windowed_model: Callable[[int], LanguageModel], window: int, way: dict[str, int]
) -> None:
    # Prompts of 2 to 14 tokens and completions of 12: prompts leave the window wholly, in part, and (26) not at all.
    model = endless(windowed_model(window))
    ours = engine(model, **way)
    results = ours.generate(requests(model), SAMPLING)
    assert ours._way == "continuous"
    for request, result in zip(requests(model), results, strict=True):
        for completion in result.completions:
            tokens = torch.cat([request.prompt_ids, completion.token_ids])[None]
            with attention.uninstalled(model.model):
                logits = model.model(tokens, use_cache=False).logits.detach()
            expected = token_logprobs(logits, tokens, temperature=1.3)[0, len(request.prompt_ids) :]
            assert torch.allclose(completion.sampler_logprobs, expected, atol=1e-4)


def test_waiting_groups_enter_as_soon_as_rows_are_free(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    plain = DecoderState.advance

    def spy(self: DecoderState, rows: int, **sizes: object) -> None:
        steps.append(rows)
        plain(self, rows, **sizes)

    sampler = engine(tiny_model, max_rows=6)
    asked = [Request(prompt_ids=tiny_model.encode_prompt("1+"), seeds=(i, i + 1)) for i in range(0, 40, 2)]
    sampler.generate(asked[:1], SAMPLING)
    monkeypatch.setattr(DecoderState, "advance", spy)
    results = sampler.generate(asked, SAMPLING)
    lengths = [len(c.token_ids) for result in results for c in result.completions]
    assert sum(steps) == sum(length - 1 for length in lengths)  # the first token comes with the prompt's pass
    assert max(steps) <= 6
    # Until nothing waits, at least five of six rows run: two of a group that fits are never kept waiting.
    assert min(steps[: len(steps) // 2]) >= 5


def test_the_cache_s_tokens_are_limited(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    plain = DecoderState.advance
    monkeypatch.setattr(
        DecoderState, "advance", lambda self, rows, **sizes: (steps.append(rows), plain(self, rows, **sizes))[1]
    )
    # A group reserves a prompt of at most 14 and 3 rows of 12: 50. One group at a time in 70, two in 100.
    for limit, most in ((70, 3), (100, 6)):
        sampler = engine(tiny_model, max_tokens=limit)
        sampler.generate(requests(tiny_model)[:1], SAMPLING)  # the first call tries the way of decoding
        steps.clear()
        sampler.generate(requests(tiny_model), SAMPLING)
        assert max(steps) == most


def test_long_completions_outgrow_their_slots(tiny_model: LanguageModel) -> None:
    model = endless(tiny_model)
    asked = [Request(prompt_ids=model.encode_prompt("12:"), seeds=(1, 2))]
    (result,) = engine(model).generate(asked, Sampling(max_new_tokens=300))
    (plain,) = engine(replace(model, shares_prompts=False)).generate(asked, Sampling(max_new_tokens=300))
    assert [len(c.token_ids) for c in result.completions] == [300, 300]
    assert same(result, plain)


@pytest.mark.parametrize("share", [True, False])
def test_results_are_announced_as_they_finish(tiny_model: LanguageModel, share: bool) -> None:
    announced: list[tuple[int, Generated]] = []
    sampler = engine(replace(tiny_model, shares_prompts=share), max_rows=6)
    results = sampler.generate(
        requests(tiny_model), SAMPLING, on_done=lambda at, result: announced.append((at, result))
    )
    assert sorted(at for at, _ in announced) == [0, 1, 2, 3]
    assert all(results[at] is result for at, result in announced)


def test_groups_of_unequal_size(tiny_model: LanguageModel) -> None:
    asked = [
        Request(prompt_ids=tiny_model.encode_prompt(p), seeds=tuple(range(n)))
        for p, n in (("12", 5), ("3:", 1), ("456+7=", 3))
    ]
    for limit in (1, 5, 6, 99):
        for request, result in zip(asked, engine(tiny_model, max_rows=limit).generate(asked, SAMPLING), strict=True):
            (alone,) = engine(tiny_model).generate([request], SAMPLING)
            assert same(result, alone)


def test_nothing_asked_nothing_given(tiny_model: LanguageModel) -> None:
    assert engine(tiny_model).generate([], SAMPLING) == []


def test_a_fast_way_that_does_not_hold_is_left_loudly(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = generate(tiny_model)
    plain = Decode.attend

    def blind(self: Decode, layer: int, query: torch.Tensor, *rest: object) -> torch.Tensor:
        """Sees the prompt of the group before."""
        return plain(
            replace(self, place=(self.place + self.cache.capacity.group) % (3 * self.groups)), layer, query, *rest
        )

    monkeypatch.setattr(Decode, "attend", blind)
    for ours, theirs in zip(generate(tiny_model), expected, strict=True):
        assert same(ours, theirs)
    assert "decoding with continuous does not hold" in caplog.text


def test_bf16_samples_from_the_weights_as_they_are_now(tiny_model: LanguageModel) -> None:
    model = replace(tiny_model, precision="bf16")
    sampler = engine(model)
    before = sampler.generate(requests(model), SAMPLING)
    linear = next(module for module in model.model.modules() if isinstance(module, torch.nn.Linear))
    assert linear.weight.dtype == torch.float32  # the trained weights stay what they were
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.mul_(1.5)
    sampler.update_weights((), version=7)
    assert sampler.version == 7
    after, fresh = (one.generate(requests(model), SAMPLING) for one in (sampler, engine(model)))
    assert all(same(a, b) for a, b in zip(after, fresh, strict=True))
    assert not all(same(a, b) for a, b in zip(before, after, strict=True))
    with model.computing():
        for request, result in zip(requests(model), after, strict=True):
            tokens = torch.cat([request.prompt_ids, result.completions[0].token_ids])[None]
            logits = model.head(model.hidden(tokens)).detach()
            expected = token_logprobs(logits, tokens, temperature=1.3)[0, len(request.prompt_ids) :]
            # bf16 logits of magnitude 8 are 1/32 apart
            assert torch.allclose(result.completions[0].sampler_logprobs, expected, atol=0.15)


def test_an_engine_in_bf16_samples_from_a_model_in_float32_what_one_in_bf16_would(tiny_model: LanguageModel) -> None:
    in_bf16 = replace(tiny_model, precision="bf16")
    sampler = engine(tiny_model, precision="bf16")
    expected, exact = (engine(model).generate(requests(model), SAMPLING) for model in (in_bf16, tiny_model))
    ours = sampler.generate(requests(tiny_model), SAMPLING)
    assert all(same(a, b) for a, b in zip(ours, expected, strict=True))
    assert not all(same(a, b) for a, b in zip(ours, exact, strict=True))
    assert all(parameter.dtype == torch.float32 for parameter in tiny_model.model.parameters())
    with torch.no_grad():
        for parameter in tiny_model.model.parameters():
            parameter.mul_(1.5)
    sampler.update_weights((), version=7)
    after, fresh = (
        one.generate(requests(tiny_model), SAMPLING) for one in (sampler, engine(tiny_model, precision="bf16"))
    )
    assert all(same(a, b) for a, b in zip(after, fresh, strict=True))


@pytest.mark.parametrize("masked", [False, True])
def test_batched_products_and_the_fused_kernel_give_one_attention(
    masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(40, 2, size, 16, generator=random) for size in (2, 9, 9))
    mask = torch.zeros(40, 1, 1, 9).masked_fill_(
        torch.arange(9) > torch.arange(40)[:, None, None, None] % 9, -torch.inf
    )
    assert cache._is_small(query, key)
    out, total = cache._attention(query, key, value, mask if masked else None, 0.25)
    monkeypatch.setattr(cache, "_MANY_HEADS", 1000)
    fused, fused_total = cache._attention(query, key, value, mask if masked else None, 0.25)
    torch.testing.assert_close(out, fused)
    torch.testing.assert_close(total, fused_total)


def test_a_completion_does_not_depend_on_the_attention_that_its_batch_gets(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "_MANY_HEADS", 10**9)
    fused = generate(tiny_model)
    monkeypatch.setattr(cache, "_MANY_HEADS", 1)
    for one, other in zip(generate(tiny_model), fused, strict=True):
        assert same(one, other)
        for a, b in zip(one.completions, other.completions, strict=True):
            torch.testing.assert_close(a.sampler_logprobs, b.sampler_logprobs, rtol=0, atol=1e-5)
    assert "does not hold" not in caplog.text  # else both were plain passes


def packed_of(sampler: Engine) -> list[weights._Packed]:
    assert isinstance(sampler, HfEngine)
    return [module for module in sampler._model.model.modules() if isinstance(module, weights._Packed)]


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_packed_weights_give_what_plain_ones_do_and_follow_the_trained_ones(
    tiny_model: LanguageModel, precision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_SMALL", 0)
    linears = sum(isinstance(module, torch.nn.Linear) for module in tiny_model.model.modules())
    sampler, plain = (engine(tiny_model, precision=precision, packed=packed) for packed in (True, False))
    assert len(packed_of(sampler)) == linears
    assert not packed_of(plain)
    noise = 1e-5 if precision is None else 0.1
    for _ in range(2):
        ours, theirs = (one.generate(requests(tiny_model), SAMPLING, prompt_logprobs=True) for one in (sampler, plain))
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.allclose(mine.prompt_logprobs, other.prompt_logprobs, atol=noise)
            if precision is None:
                assert same(mine, other)
        with torch.no_grad():  # nobody says so: a call looks at the weights as they are
            for parameter in tiny_model.model.parameters():
                parameter.mul_(1.5)


def test_only_what_was_changed_is_packed_again(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_SMALL", 0)
    sampler = engine(tiny_model)
    made = []
    pack = weights._pack
    monkeypatch.setattr(weights, "_pack", lambda weight: made.append(weight.shape) or pack(weight))
    sampler.generate(requests(tiny_model), SAMPLING)
    assert not made
    one = packed_of(sampler)[3].weight
    with torch.no_grad():
        one.add_(0.1)
    sampler.generate(requests(tiny_model), SAMPLING)
    assert made == [one.shape]


@pytest.mark.parametrize("fault", ["wrong", "missing"])
def test_packing_that_does_not_hold_is_not_used(
    tiny_model: LanguageModel, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = generate(tiny_model, packed=False)
    monkeypatch.setattr(weights, "_SMALL", 0)

    def product(rows: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if fault == "missing":
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")
        return real(rows, packed, bias).flip(-1)

    real = weights._product
    monkeypatch.setattr(weights, "_product", product)
    assert not packed_of(engine(tiny_model))
    assert all(same(a, b) for a, b in zip(generate(tiny_model), expected, strict=True))
    assert ("differ from plain ones; none are used" in caplog.text) is (fault == "wrong")


def test_small_layers_and_what_only_looks_like_a_linear_one_are_not_packed(tiny_model: LanguageModel) -> None:
    class Other(torch.nn.Linear):
        pass

    assert not packed_of(engine(tiny_model))  # its layers are small
    large = weights._SMALL // 64
    assert weights._can_be_packed(torch.nn.Linear(64, large))
    assert not weights._can_be_packed(torch.nn.Linear(64, large - 1))
    assert not weights._can_be_packed(Other(64, large))


def test_greedy_is_the_argmax(tiny_model: LanguageModel) -> None:
    request = Request(prompt_ids=tiny_model.encode_prompt("5*5="), seeds=(0, 1))
    (result,) = engine(tiny_model).generate([request], Sampling(max_new_tokens=5, temperature=0))
    tokens = request.prompt_ids
    for token in result.completions[0].token_ids:
        assert tiny_model.model(tokens[None]).logits[0, -1].argmax() == token
        tokens = torch.cat([tokens, token[None]])
    assert torch.equal(result.completions[0].token_ids, result.completions[1].token_ids)


def test_training_mode_is_left_as_it_was(tiny_model: LanguageModel) -> None:
    tiny_model.model.train()
    generate(tiny_model)
    assert tiny_model.model.training


LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def draws(**sampling: float) -> dict[int, float]:
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # a grid: the shares come out exact
    token, _ = sample(LOGITS.expand(count, 4), uniform, Sampling(max_new_tokens=1, **sampling))
    return {index: share / count for index, share in sorted(Counter(token.tolist()).items())}


def test_shares_are_the_probabilities() -> None:
    assert draws() == pytest.approx({0: 0.5, 1: 0.3, 2: 0.15, 3: 0.05}, abs=1e-3)


def test_top_k() -> None:
    assert draws(top_k=2) == pytest.approx({0: 0.625, 1: 0.375}, abs=1e-3)


def test_top_p_keeps_the_token_that_reaches_it() -> None:
    # 0.5 < 0.6 <= 0.8: the first two; 0.5 <= 0.5: the first alone
    assert draws(top_p=0.6) == pytest.approx({0: 0.625, 1: 0.375}, abs=1e-3)
    assert draws(top_p=0.5) == {0: 1.0}


def test_temperature() -> None:
    # T = 0.5 squares: 0.25 0.09 0.0225 0.0025 over 0.365
    assert draws(temperature=0.5) == pytest.approx({0: 0.685, 1: 0.2466, 2: 0.0616, 3: 0.0068}, abs=1e-3)


def test_logprob_and_entropy_are_those_before_truncation() -> None:
    token, (logprob, entropy, _) = sample(LOGITS[None], torch.tensor([0.0]), Sampling(max_new_tokens=1, top_k=1))
    assert token.item() == 0
    assert logprob.item() == pytest.approx(math.log(0.5))
    assert entropy.item() == pytest.approx(-sum(p * math.log(p) for p in (0.5, 0.3, 0.15, 0.05)))


def test_raw_values_are_those_at_temperature_1() -> None:
    # T = 0.5 squares the probabilities: 0.25 / 0.365 of the first
    sampling = Sampling(max_new_tokens=1, temperature=0.5, top_p=0.5, raw=True)
    _, values = sample(LOGITS[None], torch.tensor([0.0]), sampling)
    entropy = -sum(p * math.log(p) for p in (0.5, 0.3, 0.15, 0.05))
    assert values[[0, 3, 4], 0].tolist() == pytest.approx([math.log(0.25 / 0.365), math.log(0.5), entropy])
    for temperature in (0.0, 1.0):
        _, values = sample(LOGITS[None], torch.tensor([0.0]), sampling.model_copy(update={"temperature": temperature}))
        assert torch.equal(values[:2], values[3:])


@pytest.mark.parametrize("share", [True, False])
def test_raw_values_equal_a_plain_forward_pass(tiny_model: LanguageModel, share: bool) -> None:
    model = replace(tiny_model, shares_prompts=tiny_model.shares_prompts and share)
    results = engine(model).generate(requests(model), SAMPLING.model_copy(update={"raw": True}))
    for request, result in zip(requests(model), results, strict=True):
        for completion in result.completions:
            tokens = torch.cat([request.prompt_ids, completion.token_ids])[None]
            logits = model.model(tokens).logits.detach()
            start = len(request.prompt_ids)
            assert torch.allclose(completion.raw_logprobs, token_logprobs(logits, tokens)[0, start:], atol=1e-4)
            assert torch.allclose(
                completion.raw_entropies, distribution_entropy(logits, 1.0)[0, start - 1 : -1], atol=1e-4
            )
    assert same(results[0], generate(model)[0])


def test_a_large_vocabulary_is_drawn_from_block_by_block() -> None:
    weights = torch.zeros(1, 3000)
    weights[0, [5, 700, 2999]] = torch.tensor([1.0, 2.0, 5.0])
    drawn = [invert(weights, torch.tensor([u], dtype=torch.float64)).item() for u in (0, 0.124, 0.126, 0.374, 0.376)]
    assert drawn == [5, 5, 700, 700, 2999]  # the sums are 1/8, 3/8 and 1
    assert invert(weights, torch.tensor([1 - 2**-53], dtype=torch.float64)).item() == 2999


@given(seed=st.integers(0, 10_000), size=st.sampled_from([7, 256, 1025, 4000]))
def test_blocks_find_what_one_sum_finds(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(4, size, generator=generator) * (torch.rand(4, size, generator=generator) < 0.1)
    weights[:, 3] = 1.0
    uniform = torch.rand(4, dtype=torch.float64, generator=generator)
    cumulative = weights.double().cumsum(dim=1)
    found = invert(weights, uniform)
    assert (weights[torch.arange(4), found] > 0).all()
    # The threshold lies in the entry that was found, up to the rounding of float32 block sums.
    threshold = uniform * cumulative[:, -1]
    upper = cumulative[torch.arange(4), found]
    lower = upper - weights[torch.arange(4), found]
    slack = 1e-5 * cumulative[:, -1]
    assert ((lower - slack <= threshold) & (threshold <= upper + slack)).all()


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_of_probability_zero_is_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    uniforms = torch.tensor([uniform], dtype=torch.float64)
    token, (logprob, entropy, _) = sample(logits, uniforms, Sampling(max_new_tokens=1))
    assert token.item() in (1, 3)
    assert torch.isfinite(logprob).all()
    assert entropy.item() == pytest.approx(math.log(2))


class Recorded:
    """A stand-in for a CUDA graph, where there is no CUDA: it runs the pass it was captured from."""

    def __init__(self, rows: DecoderState, size: int, width: int) -> None:
        self.rows, self.size, self.width = rows, size, width

    def replay(self) -> None:
        capacity = self.rows.capacity
        self.rows.advance(
            self.size, groups=capacity.groups, span=self.width, prompts=capacity.prompt, even=False, even_prompts=False
        )


def test_passes_of_a_few_fixed_sizes_draw_the_same(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[tuple[int, int]] = []

    def capture(self: Graphs, size: int, width: int) -> Recorded:
        captured.append((size, width))
        return Recorded(self._rows, size, width)

    monkeypatch.setattr(Graphs, "_capture", capture)
    sampler = engine(tiny_model, max_rows=7)
    sampler._way = "graphs"
    for _ in range(2):  # the second time by what the first has left
        for ours, theirs in zip(sampler.generate(requests(tiny_model), SAMPLING), generate(tiny_model), strict=True):
            assert same(ours, theirs)
            for a, b in zip(ours.completions, theirs.completions, strict=True):
                assert torch.allclose(a.sampler_logprobs, b.sampler_logprobs, atol=1e-5)
    # Rows 7, 6, 4, 3, 2, 1 of the at most 7, all spans rounded up to 64; each captured once.
    assert {width for _, width in captured} == {64}
    assert {size for size, _ in captured} <= {7, 6, 4, 3, 2, 1}
    assert len(captured) == len(set(captured))


@given(value=st.integers(1, 5000), smallest=st.sampled_from([1, 64]))
def test_sizes_are_rounded_up_by_half_at_most(value: int, smallest: int) -> None:
    rounded = round_up(value, smallest)
    assert rounded >= value
    assert rounded <= max(smallest, 1.5 * value)
