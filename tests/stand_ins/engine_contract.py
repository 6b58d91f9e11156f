"""What every engine keeps to, whatever it runs on: called for each of them, with the model whose weights it holds."""

from collections.abc import Sequence

import torch

from progrpo.algo.logprobs import token_logprobs
from progrpo.engines import Engine, Generated, Request, Sampling, check_generated
from progrpo.model import LanguageModel

PROMPTS = ("12+34=", "7", "1234567890 abc", "7:")
SEEDS = ((1, 2**62 + 3, 3), (4, 5), (6,), (7, 8, 9, 10))


def requests(model: LanguageModel) -> list[Request]:
    return [Request(prompt_ids=model.encode_prompt(p), seeds=s) for p, s in zip(PROMPTS, SEEDS, strict=True)]


def tokens(results: Sequence[Generated]) -> list[list[list[int]]]:
    return [[completion.token_ids.tolist() for completion in result.completions] for result in results]


def check_all(engine: Engine, other: Engine, model: LanguageModel, *, atol: float = 1e-5) -> None:
    """Args: other: one that is known to be right (hf). atol: of log-probs, in nats."""
    check_greedy(engine, other, model, atol)
    check_sampled(engine, model, atol)
    check_ends(engine, other, model)
    assert engine.generate([], Sampling(max_new_tokens=3)) == []


def check_greedy(engine: Engine, other: Engine, model: LanguageModel, atol: float) -> None:
    """The likeliest tokens, and their log-probs."""
    sampling = Sampling(max_new_tokens=10, temperature=0)
    ours, theirs = (one.generate(requests(model), sampling) for one in (engine, other))
    assert tokens(ours) == tokens(theirs)
    for one, two in zip(ours, theirs, strict=True):
        for a, b in zip(one.completions, two.completions, strict=True):
            assert (a.text, a.finish) == (b.text, b.finish)
            assert torch.allclose(a.sampler_logprobs, b.sampler_logprobs, atol=atol)


def check_sampled(engine: Engine, model: LanguageModel, atol: float) -> None:
    """Log-probs are those of a plain pass at the temperature of sampling; a seed gives its completion in any batch; each
    request is announced once."""
    sampling = Sampling(max_new_tokens=10, temperature=0.7)
    announced: list[int] = []
    asked = requests(model)
    results = engine.generate(asked, sampling, on_done=lambda index, result: announced.append(index))
    assert sorted(announced) == [0, 1, 2, 3]
    check_generated(engine, asked, results)
    for request, result in zip(asked, results, strict=True):
        for completion in result.completions:
            ids = torch.cat([request.prompt_ids, completion.token_ids])[None]
            with torch.no_grad():
                expected = token_logprobs(model.model(ids).logits, ids, temperature=0.7)[0, len(request.prompt_ids) :]
            assert torch.allclose(completion.sampler_logprobs, expected, atol=atol)
            assert completion.logprobs_of == "tempered"
    together = tokens(results)
    assert len({str(one) for one in together[3]}) > 1  # siblings differ
    order = [2, 0]
    assert tokens(engine.generate([asked[index] for index in order], sampling)) == [together[index] for index in order]
    reseeded = [Request(prompt_ids=asked[3].prompt_ids, seeds=(10, 8))]
    assert tokens(engine.generate(reseeded, sampling))[0] == [together[3][3], together[3][1]]


def check_ends(engine: Engine, other: Engine, model: LanguageModel) -> None:
    """End tokens, stop tokens and stop strings end a completion and are part of it."""
    asked = [Request(prompt_ids=model.encode_prompt("1"), seeds=tuple(range(40)))]
    plain = Sampling(max_new_tokens=12, temperature=1.5)
    (result,) = engine.generate(asked, plain)
    (free,) = other.generate(asked, plain)
    assert {one.finish for one in result.completions} <= {one.finish for one in free.completions} | {"stop", "length"}
    for completion in result.completions:
        ends = torch.isin(completion.token_ids, torch.tensor(sorted(model.stop_ids)))
        assert ends.nonzero()[:, 0].tolist() == ([len(ends) - 1] if completion.finish == "stop" else [])
        assert completion.finish == "stop" or len(ends) == 12
    stop = Sampling(max_new_tokens=12, temperature=1.5, stop=(7, "5", "ab"))
    (stopped,) = engine.generate(asked, stop)
    finishes = set()
    for completion in stopped.completions:
        *before, last = completion.token_ids.tolist()
        assert 7 not in before
        assert not any(text in model.decode(torch.tensor(before), ()) for text in ("5", "ab"))
        finishes.add("id" if last == 7 else "text" if completion.text.endswith(("5", "ab")) else completion.finish)
    assert {"id", "text"} <= finishes
