import math
from collections import Counter

import pytest
import torch

from progrpo import engines
from progrpo.algo.logprobs import distribution_entropy, token_logprobs
from progrpo.engines import Engine, Generated, Request, Sampling
from progrpo.engines.hf import sample
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
            assert torch.allclose(completion.logprobs, logprobs[start:], atol=1e-4)
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


def test_prompts_run_once_per_group_and_finished_rows_leave(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, int]] = []
    plain = LanguageModel.hidden

    def spy(self: LanguageModel, input_ids: torch.Tensor, **kwargs: object) -> torch.Tensor:
        shapes.append(tuple(input_ids.shape))
        return plain(self, input_ids, **kwargs)

    monkeypatch.setattr(LanguageModel, "hidden", spy)
    results = engine(tiny_model).generate(
        [
            Request(prompt_ids=tiny_model.encode_prompt(p), seeds=tuple(range(i, i + 40)))
            for i, p in ((0, "1+"), (40, "2:"))
        ],
        Sampling(max_new_tokens=30, temperature=2.0),
    )
    lengths = [len(c.token_ids) for result in results for c in result.completions]
    assert shapes[0] == (2, 2)  # two prompts of two tokens, not eighty
    # step t feeds the completions longer than t, and no others
    assert shapes[1:] == [(sum(length > t for length in lengths), 1) for t in range(1, max(lengths))]


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
    token, _, _ = sample(LOGITS.expand(count, 4), uniform, Sampling(max_new_tokens=1, **sampling))
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
    token, logprob, entropy = sample(LOGITS[None], torch.tensor([0.0]), Sampling(max_new_tokens=1, top_k=1))
    assert token.item() == 0
    assert logprob.item() == pytest.approx(math.log(0.5))
    assert entropy.item() == pytest.approx(-sum(p * math.log(p) for p in (0.5, 0.3, 0.15, 0.05)))


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_of_probability_zero_is_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    token, logprob, entropy = sample(logits, torch.tensor([uniform], dtype=torch.float64), Sampling(max_new_tokens=1))
    assert token.item() in (1, 3)
    assert torch.isfinite(logprob).all()
    assert entropy.item() == pytest.approx(math.log(2))
