import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.requests import RequestState

from progrpo import engines
from progrpo.algo.logprobs import distribution_entropy, token_logprobs
from progrpo.engines import Engine, Generated, Request, Sampling, paged
from progrpo.errors import ConfigError, NonFiniteError, PluginError
from progrpo.model import LanguageModel, wrap_model
from progrpo.settings import Choice

PROMPTS = ("12+34=", "7", "1234567890 abc", "7:")
SEEDS = ((1, 2, 3), (4, 5), (6,), (7, 8, 9, 10))
SAMPLING = Sampling(max_new_tokens=10, temperature=1.3)


def engine(model: LanguageModel, name: str = "paged", **params: object) -> Engine:
    return engines.load(Choice(name=name, **params), model)


def requests(model: LanguageModel) -> list[Request]:
    return [Request(prompt_ids=model.encode_prompt(p), seeds=s) for p, s in zip(PROMPTS, SEEDS, strict=True)]


def tokens(results: list[Generated]) -> list[list[list[int]]]:
    return [[completion.token_ids.tolist() for completion in result.completions] for result in results]


@pytest.mark.parametrize(
    "sampling",
    [
        SAMPLING,
        Sampling(max_new_tokens=10, temperature=0),
        Sampling(max_new_tokens=1),
        Sampling(max_new_tokens=10, temperature=2, top_p=0.7, top_k=9),
    ],
)
def test_completions_are_those_of_engine_hf(tiny_model: LanguageModel, sampling: Sampling) -> None:
    expected = engine(tiny_model, "hf").generate(requests(tiny_model), sampling)
    results = engine(tiny_model).generate(requests(tiny_model), sampling)
    assert tokens(results) == tokens(expected)
    for result, other in zip(results, expected, strict=True):
        assert result.prompt_logprobs is None
        for one, two in zip(result.completions, other.completions, strict=True):
            assert (one.seed, one.text, one.finish) == (two.seed, two.text, two.finish)
            assert torch.allclose(one.sampler_logprobs, two.sampler_logprobs, atol=1e-4)
            assert torch.allclose(one.entropies, two.entropies, atol=1e-4)


def test_a_completion_does_not_depend_on_its_batch(tiny_model: LanguageModel) -> None:
    together = tokens(engine(tiny_model).generate(requests(tiny_model), SAMPLING))
    for params in ({"max_rows": 1}, {"max_rows": 3, "max_batch_tokens": 4}):
        assert tokens(engine(tiny_model, **params).generate(requests(tiny_model), SAMPLING)) == together
    alone = [tokens(engine(tiny_model).generate([request], SAMPLING))[0] for request in requests(tiny_model)[:2]]
    assert alone == together[:2]


def test_logprobs_and_entropies_equal_a_plain_forward_pass(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged, "_PROMPT_TOKENS", 16)  # prompts of 14, 6, 2 and 1 tokens: three passes
    sampling = Sampling(max_new_tokens=10, temperature=1.3, top_k=2)
    results = engine(tiny_model).generate(requests(tiny_model), sampling, prompt_logprobs=True)
    for request, result in zip(requests(tiny_model), results, strict=True):
        start = len(request.prompt_ids)
        for completion in result.completions:
            ids = torch.cat([request.prompt_ids, completion.token_ids])[None]
            logits = tiny_model.model(ids).logits.detach()
            logprobs = token_logprobs(logits, ids, temperature=1.3)[0]
            assert torch.allclose(completion.sampler_logprobs, logprobs[start:], atol=1e-4)
            assert torch.allclose(completion.entropies, distribution_entropy(logits, 1.3)[0, start - 1 : -1], atol=1e-4)
            assert torch.allclose(result.prompt_logprobs, logprobs[:start], atol=1e-4)


def test_raw_values_are_those_of_engine_hf(tiny_model: LanguageModel) -> None:
    sampling = Sampling(max_new_tokens=8, temperature=0.6, raw=True)
    ours, theirs = (engine(tiny_model, name).generate(requests(tiny_model), sampling) for name in ("paged", "hf"))
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one.completions, other.completions, strict=True):
            assert torch.allclose(a.raw_logprobs, b.raw_logprobs, atol=1e-4)
            assert torch.allclose(a.raw_entropies, b.raw_entropies, atol=1e-4)


def test_finish_and_stop_tokens(tiny_model: LanguageModel) -> None:
    model = replace(tiny_model, stop_ids=tiny_model.stop_ids | {5, 9})
    request = Request(prompt_ids=model.encode_prompt("1"), seeds=tuple(range(60)))
    (result,) = engine(model).generate([request], Sampling(max_new_tokens=12, temperature=2.0))
    seen = set()
    for completion in result.completions:
        stops = torch.isin(completion.token_ids, torch.tensor(sorted(model.stop_ids)))
        if completion.finish == "stop":
            assert stops.nonzero()[:, 0].tolist() == [len(stops) - 1]
            seen.add(int(completion.token_ids[-1]))
        else:
            assert len(stops) == 12
            assert not stops.any()
            seen.add("length")
    assert seen == {*model.stop_ids, "length"}


def test_stops_and_positions_are_those_of_engine_hf(tiny_model: LanguageModel) -> None:
    model = replace(tiny_model, positions=18)  # prompts of 6, 1, 14 and 2 tokens: 12, 13, 4 and 13 of 13
    sampling = Sampling(max_new_tokens=13, temperature=2.0, stop=("b1", "7", "+2c", "q", 9))
    asked = [Request(prompt_ids=request.prompt_ids, seeds=tuple(range(12))) for request in requests(model)]
    expected = engine(model, "hf").generate(asked, sampling)
    steps = [0]
    with counting(model, lambda _: steps.__setitem__(0, steps[0] + 1)):
        results = engine(model).generate(asked, sampling)
    finishes = set()
    for result, other in zip(results, expected, strict=True):
        for one, two in zip(result.completions, other.completions, strict=True):
            assert (one.token_ids.tolist(), one.text, one.finish) == (two.token_ids.tolist(), two.text, two.finish)
            assert torch.allclose(one.sampler_logprobs, two.sampler_logprobs, atol=1e-4)
            finishes.add(next((stop for stop in ("7", "q") if stop in one.text), one.finish))
    assert {"7", "q", "stop", "length"} <= finishes


def test_a_completed_stop_string_frees_its_row(tiny_model: LanguageModel) -> None:
    """A token after a stop string nothing more is drawn: the passes end long before the limit."""
    model = replace(tiny_model, stop_ids=frozenset({1}))
    every = tuple(model.tokenizer.decode([token]) for token in range(3, model.model.config.vocab_size))
    request = Request(prompt_ids=model.encode_prompt("12"), seeds=tuple(range(6)))
    steps = [0]
    with counting(model, lambda _: steps.__setitem__(0, steps[0] + 1)):
        (result,) = engine(model).generate([request], Sampling(max_new_tokens=200, stop=every))
    assert all(len(completion.token_ids) == 1 for completion in result.completions)
    assert steps[0] < 20


def test_each_request_is_announced_once_and_before_the_others_end(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, announced, submitted, first = [0], [], threading.Event(), threading.Event()
    manager = transformers.ContinuousBatchingManager
    get_result = manager.get_result

    def asked_for(*arguments: Any, **more: Any) -> Any:
        submitted.set()
        return get_result(*arguments, **more)

    monkeypatch.setattr(manager, "get_result", asked_for)

    def on_done(index: int, result: Generated) -> None:
        announced.append((index, result, passes[0]))
        first.set()
        assert threading.current_thread() is threading.main_thread()

    def count(_: int) -> None:
        passes[0] += 1
        if passes[0] == 1:  # else passes go by, on a busy machine, before all requests are there
            submitted.wait(30)
        if passes[0] == 9:  # the first request ended with pass 7 or 8; another thread announces it, when it gets to run
            first.wait(30)

    asked = [replace_seeds(request) for request in requests(tiny_model)]
    with counting(tiny_model, count):
        results = engine(tiny_model, max_rows=2).generate(asked, SAMPLING, on_done=on_done)
    assert sorted(index for index, _, _ in announced) == [0, 1, 2, 3]
    assert all(result is results[index] for index, result, _ in announced)
    assert announced[0][2] < passes[0] / 2


def replace_seeds(request: Request) -> Request:
    return Request(prompt_ids=request.prompt_ids, seeds=request.seeds[:1])


@contextmanager
def counting(model: LanguageModel, note: Callable[[int], None]) -> Iterator[None]:
    """Call `note` with the number of tokens of every forward pass."""
    hook = model.model.model.layers[0].register_forward_pre_hook(lambda _, inputs: note(inputs[0].shape[1]))
    try:
        yield
    finally:
        hook.remove()


def test_a_prompt_is_run_once_for_its_group(tiny_model: LanguageModel) -> None:
    sizes: list[int] = []
    with counting(tiny_model, sizes.append):
        results = engine(tiny_model).generate(requests(tiny_model), SAMPLING)
    # All of a prompt but its last token once; each completion is fed that token and its own, but its last.
    prompts = sum(len(request.prompt_ids) - 1 for request in requests(tiny_model))
    assert sum(sizes) == prompts + sum(len(ids) for group in tokens(results) for ids in group)


def test_a_shortage_of_cache_changes_no_token(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # A page holds 256 tokens: each completion starts in its prompt's page and needs a second one.
    asked = [Request(prompt_ids=torch.arange(250) % 40 + 3, seeds=(seed, seed + 1)) for seed in (0, 10)]
    expected = tokens(engine(tiny_model, "hf").generate(asked, SAMPLING))
    set_back: list[str] = []
    plain = RequestState.create_equivalent_initial_request

    def spy(self: RequestState) -> RequestState:
        set_back.append(self.request_id)
        return plain(self)

    monkeypatch.setattr(RequestState, "create_equivalent_initial_request", spy)
    monkeypatch.setattr(paged, "_SLACK", 0.5)
    assert tokens(engine(tiny_model).generate(asked, SAMPLING)) == expected
    assert set_back


def test_a_cache_that_does_not_fit_is_made_as_large_as_may_be(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged, "_SLACK", 1e7)
    expected = tokens(engine(tiny_model, "hf").generate(requests(tiny_model), SAMPLING))
    assert tokens(engine(tiny_model, memory_fraction=0.002).generate(requests(tiny_model), SAMPLING)) == expected


def test_a_prompt_that_ends_one_token_after_a_page(tiny_model: LanguageModel) -> None:
    asked = [Request(prompt_ids=torch.arange(257) % 40 + 3, seeds=(seed, seed + 1)) for seed in (0, 10)]
    assert [len(result.completions) for result in engine(tiny_model, max_rows=1).generate(asked, SAMPLING)] == [2, 2]


def state(model: LanguageModel) -> tuple[object, ...]:
    """What must not change, and what must not be left."""
    gc.collect()
    caches = sum(type(thing) is PagedAttentionCache for thing in gc.get_objects())
    weights = [(parameter.data_ptr(), parameter.dtype) for parameter in model.model.parameters()]
    mode = [module.training for module in model.model.modules()]
    return model.model.config._attn_implementation, mode, weights, caches, threading.active_count()


class OwnError(Exception):
    pass


@pytest.mark.parametrize(
    ("attention", "error"),
    [("as loaded", None), ("eager", None), ("as loaded", KeyboardInterrupt), ("eager", OwnError)],
)
def test_the_model_is_left_as_it_was(tiny_model: LanguageModel, attention: str, error: type | None) -> None:
    if attention == "eager":
        tiny_model.model.set_attn_implementation("eager")
    tiny_model.model.train()
    before, random = state(tiny_model), torch.get_rng_state()
    assert before[3] == 0

    def on_done(index: int, result: Generated) -> None:
        if error is not None:
            raise error

    if error is None:
        training = set()
        with counting(tiny_model, lambda _: training.add(tiny_model.model.training)):
            engine(tiny_model).generate(requests(tiny_model), SAMPLING, prompt_logprobs=True, on_done=on_done)
        assert training == {False}
    else:
        with pytest.raises(error):
            engine(tiny_model, max_rows=1).generate(requests(tiny_model), SAMPLING, on_done=on_done)
    assert state(tiny_model) == before
    assert torch.equal(torch.get_rng_state(), random)


def test_an_error_in_the_forward_pass_is_raised_and_nothing_is_left(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Transformers logs the error with its frames, and pytest keeps what is logged.
    monkeypatch.setattr(logging.getLogger("ContinuousBatchingLogger"), "disabled", True)
    before, passes = state(tiny_model), []

    def fail(size: int) -> None:
        passes.append(size)
        if len(passes) == 4:
            raise OwnError("in the fourth pass")

    with counting(tiny_model, fail), pytest.raises(OwnError, match="fourth pass") as raised:
        engine(tiny_model).generate(requests(tiny_model), SAMPLING)
    assert state(tiny_model) == before
    assert str(raised.value) == "in the fourth pass"  # the error lives until here, and holds no cache


def test_weights_are_rounded_in_bf16_only_while_it_generates(tiny_model: LanguageModel) -> None:
    assert engine(tiny_model).capabilities.samples_trained_weights
    half = replace(tiny_model, precision="bf16")
    assert not engine(half).capabilities.samples_trained_weights
    before, seen = state(half), set()
    with counting(half, lambda _: seen.add(half.model.dtype)):
        results = engine(half).generate(requests(half), SAMPLING)
    assert seen == {torch.bfloat16}
    assert state(half) == before
    exact, compared = engine(tiny_model).generate(requests(tiny_model), SAMPLING), []
    for result, other in zip(results, exact, strict=True):
        for one, two in zip(result.completions, other.completions, strict=True):
            if one.token_ids[0] == two.token_ids[0]:
                compared.append(float((one.sampler_logprobs[0] - two.sampler_logprobs[0]).abs()))
    # Of bf16's 8 bits of logits of up to 8 the last is worth 1/32; a gap of 0 would be that of the weights not rounded.
    assert len(compared) > 4
    assert 1e-3 < max(compared) < 1 / 32


def test_nan_is_an_error(tiny_model: LanguageModel) -> None:
    with torch.no_grad():
        tiny_model.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="nan"):
        engine(tiny_model).generate(requests(tiny_model), SAMPLING)


def test_tokens_that_were_not_drawn_are_refused(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = paged._Drawer.__call__
    monkeypatch.setattr(paged._Drawer, "__call__", lambda *args: plain(*args).roll(1, dims=1))
    with pytest.raises(PluginError, match=r"other tokens.*engine\.name=hf"):
        engine(tiny_model).generate(requests(tiny_model), SAMPLING)


def test_columns_beyond_the_batch_write_to_the_idle_slot(tiny_model: LanguageModel) -> None:
    drawer = paged._Drawer(tiny_model, SAMPLING, slots=3)
    drawer.open("0", 1, prompt_length=5)
    asked = [("0", 7, True), ("0", 6, False), ("__warmup_DECODING_0__", 4, True)]
    batch = [
        SimpleNamespace(state=SimpleNamespace(request_id=name, position_offset=offset), has_new_token=new)
        for name, offset, new in asked
    ]
    columns = drawer.prepare_tensor_args(requests_in_batch=batch, arg_storage=torch.full((5, 6), 99, dtype=torch.int32))
    assert columns[:2].tolist() == [[2, 3, 3, 3, 3, 3], [2, 0, 0, 0, 0, 0]]  # slots 0..2 are real, taken from the end


def test_nothing_asked() -> None:
    assert paged.PagedEngine(SimpleNamespace(precision="fp32"), paged.Params()).generate([], SAMPLING) == []


def test_no_room_for_the_cache(tiny_model: LanguageModel) -> None:
    tiny_model.model.set_attn_implementation("eager")
    before = state(tiny_model)
    with pytest.raises(ConfigError, match=r"engine\.max_rows"):
        engine(tiny_model, memory_fraction=1e-9).generate(requests(tiny_model), SAMPLING)
    assert state(tiny_model) == before


def test_what_this_machine_or_version_cannot_run_is_refused(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(transformers.ContinuousBatchingManager, "warmup")
        with pytest.raises(ConfigError, match=rf"{transformers.__version__} lacks ContinuousBatchingManager\.warmup"):
            engine(tiny_model)
    with monkeypatch.context() as patch:
        patch.setattr(transformers.utils, "is_psutil_available", lambda: False)
        with pytest.raises(ConfigError, match="psutil"):
            engine(tiny_model)
    tiny_model.model.set_attn_implementation("flex_attention")
    with pytest.raises(ConfigError, match=r"flex_attention.*sdpa"):
        engine(tiny_model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_cuda(tiny_model: LanguageModel, graphs: bool, precision: str) -> None:
    device = torch.device("cuda")
    model = wrap_model(tiny_model.model.to(device), tiny_model.tokenizer, device=device, precision=precision)
    allocated = []
    for _ in range(3):
        results = engine(model, cuda_graphs=graphs).generate(requests(model), SAMPLING, prompt_logprobs=True)
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[2] - allocated[0] < 2**20
    tolerance = {"fp32": 1e-3, "bf16": 1.0}[precision]
    for request, result in zip(requests(model), results, strict=True):
        for completion in result.completions:
            ids = torch.cat([request.prompt_ids, completion.token_ids])[None].to(device)
            logprobs = token_logprobs(model.model(ids).logits.detach(), ids, temperature=1.3)[0].cpu()
            assert torch.allclose(completion.sampler_logprobs, logprobs[len(request.prompt_ids) :], atol=tolerance)
    if precision == "fp32":
        assert tokens(results) == tokens(engine(model, "hf").generate(requests(model), SAMPLING))
