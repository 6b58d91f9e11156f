"""A limit of a request's own: the first tokens of what there would have been, whatever the engine."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from progrpo import engines
from progrpo.engines import Engine, Request, Sampling
from progrpo.model import LanguageModel
from progrpo.settings import Choice
from stand_ins.http_server import answering
from stand_ins.vllm_server import serving

SAMPLING = Sampling(max_new_tokens=8, temperature=1.5)
LIMITS = (None, 3, 1, 99)


@contextmanager
def local(model: LanguageModel, **choice: Any) -> Iterator[Engine]:
    yield engines.load(Choice(**choice), model)


@contextmanager
def vllm(model: LanguageModel) -> Iterator[Engine]:
    with serving(model) as server:
        engine = engines.load(Choice(name="vllm", mode="server", urls=[server.url]), model)
        engine.update_weights(model.model.named_parameters(), 1)
        yield engine


def requests(model: LanguageModel) -> list[Request]:
    prompt, seeds = model.encode_prompt("1 2=3:"), tuple(range(6))
    return [Request(prompt_ids=prompt, seeds=seeds, limit=limit) for limit in LIMITS]


@pytest.mark.parametrize(
    "started",
    [
        lambda model: local(model, name="hf"),
        lambda model: local(model, name="hf", max_rows=5),  # rows of several limits side by side, and some later
        lambda model: local(model, name="paged"),
        vllm,
    ],
    ids=["hf", "hf in turns", "paged", "vllm"],
)
def test_a_request_may_have_a_limit_of_its_own(tiny_model: LanguageModel, started: Callable[..., Any]) -> None:
    with started(tiny_model) as engine:
        results = engine.generate(requests(tiny_model), SAMPLING)
    whole = results[0].completions
    assert max(len(one.token_ids) for one in whole) > 3
    for limit, result in zip(LIMITS, results, strict=True):
        for one, full in zip(result.completions, whole, strict=True):
            kept = full.token_ids[:limit]
            assert torch.equal(one.token_ids, kept)
            assert torch.allclose(one.sampler_logprobs, full.sampler_logprobs[:limit], atol=1e-5)
            assert one.finish == (full.finish if len(kept) == len(full.token_ids) else "length")


def test_an_endpoint_is_asked_for_no_more(tiny_model: LanguageModel) -> None:
    """Its completions are its own: what can be held is what it is asked for."""
    asked: list[int] = []

    def answer(path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        asked.append(body["max_tokens"])
        choice = {"text": "12", "logprobs": {"token_logprobs": [-0.5, -0.25]}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"completion_tokens": 2}}

    with answering(answer) as address:
        chosen = Choice(name="openai", url=f"{address}/v1", model="served", api="completions")
        engines.load(chosen, tiny_model).generate(requests(tiny_model), SAMPLING)
    assert sorted(asked) == sorted(6 * [8, 3, 1, 8])  # 99 is more than the sampling's 8
