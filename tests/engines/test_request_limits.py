"""A limit of a request's own: the first tokens of what there would have been."""

import torch

from progrpo import engines
from progrpo.engines import Request, Sampling
from progrpo.model import LanguageModel
from progrpo.settings import Choice


def test_a_request_may_have_a_limit_of_its_own(tiny_model: LanguageModel) -> None:
    engine, sampling = engines.load(Choice(name="hf"), tiny_model), Sampling(max_new_tokens=8, temperature=1.5)
    prompt, seeds = tiny_model.encode_prompt("1 2=3:"), tuple(range(6))
    limits = (None, 3, 1, 99)
    results = engine.generate([Request(prompt_ids=prompt, seeds=seeds, limit=limit) for limit in limits], sampling)
    whole = results[0].completions
    assert max(len(one.token_ids) for one in whole) > 3
    for limit, result in zip(limits, results, strict=True):
        for one, full in zip(result.completions, whole, strict=True):
            kept = full.token_ids[:limit]
            assert torch.equal(one.token_ids, kept)
            assert torch.allclose(one.sampler_logprobs, full.sampler_logprobs[:limit], atol=1e-5)
            assert one.finish == (full.finish if len(kept) == len(full.token_ids) else "length")
