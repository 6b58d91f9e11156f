import math

import pytest
import torch

from progrpo.algo.logprobs import distribution_entropy, head_logprobs, head_values, token_logprobs
from progrpo.errors import ShapeError

TOKENS = torch.tensor([[0, 2, 1]])
# the distribution at position 0 gives token 1, at position 1 gives token 2; position 2 predicts nothing that is there
LOGITS = torch.log(torch.tensor([[[0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [1.0, 1e-9, 1e-9]]]))


def test_each_logprob_belongs_to_its_own_token() -> None:
    assert token_logprobs(LOGITS, TOKENS)[0].tolist() == pytest.approx([0.0, math.log(0.5), math.log(0.6)])


def test_temperature_divides_the_logits() -> None:
    # T = 0.5 squares the probabilities: 0.25 / (0.04 + 0.09 + 0.25)
    assert token_logprobs(LOGITS, TOKENS, temperature=0.5)[0, 1].item() == pytest.approx(math.log(0.25 / 0.38))


def test_entropy() -> None:
    assert distribution_entropy(torch.zeros(1, 8)).item() == pytest.approx(math.log(8))
    assert distribution_entropy(torch.tensor([[0.0, -math.inf]])).item() == 0.0
    # (1/2, 1/4, 1/4): 1.5 bits
    assert distribution_entropy(torch.log(torch.tensor([0.5, 0.25, 0.25]))).item() == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize("chunk_rows", [1, 3, 1000])
def test_scored_rows_equal_the_full_logits_with_gradient(chunk_rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(4, 7)
    tokens = torch.randint(0, 7, (3, 6), generator=generator)
    mask = torch.rand(3, 6, generator=generator) < 0.6
    mask[:, 0] = False
    hidden = torch.randn(3, 6, 4, generator=generator, requires_grad=True)
    expected = token_logprobs(head(hidden), tokens) * mask
    expected.sum().backward()
    gradient = hidden.grad.clone(), head.weight.grad.clone()
    hidden.grad = head.weight.grad = None
    actual, entropy = head_logprobs(hidden, tokens, mask, head, chunk_rows=chunk_rows, entropies=True)
    actual.sum().backward()
    assert torch.allclose(actual, expected, atol=1e-6)
    assert torch.allclose(hidden.grad, gradient[0], atol=1e-6)
    assert torch.allclose(head.weight.grad, gradient[1], atol=1e-5)
    before = torch.cat([torch.zeros(3, 1), distribution_entropy(head(hidden))[:, :-1]], dim=1)
    assert torch.allclose(entropy, before * mask, atol=1e-6)
    assert not entropy.requires_grad


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_rows", [1, 3, 1000])
def test_the_likeliest_tokens_are_those_of_the_full_logits_with_gradient(chunk_rows: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(4, 7)
    tokens = torch.randint(0, 7, (3, 6), generator=generator)
    mask = torch.rand(3, 6, generator=generator) < 0.6
    mask[:, 0] = False
    hidden = torch.randn(3, 6, 4, generator=generator, requires_grad=True)
    factor = torch.randn(3, 6, 2, generator=generator)
    # every token by itself: the two largest of the softmax in the place before it
    expected, total = torch.zeros(3, 6, 2), 0.0
    for n, t in mask.nonzero().tolist():
        logprobs = (head(hidden[n, t - 1]) / temperature).log_softmax(dim=0)
        largest = torch.stack(
            [logprobs[v] for v in sorted(range(7), key=logprobs.tolist().__getitem__, reverse=True)[:2]]
        )
        expected[n, t] = largest.detach()
        total = total + (largest * factor[n, t]).sum()
    total.backward()
    gradient = hidden.grad.clone(), head.weight.grad.clone()
    hidden.grad = head.weight.grad = None
    made = head_values(hidden, tokens, mask, head, top=2, temperature=temperature, chunk_rows=chunk_rows)
    (made.top_logprobs * factor).sum().backward()
    assert torch.allclose(made.top_logprobs, expected, atol=1e-6)
    assert torch.allclose(hidden.grad, gradient[0], atol=1e-6)
    assert torch.allclose(head.weight.grad, gradient[1], atol=1e-5)
    # the likeliest token is known by equality
    best = (head(hidden)[:, :-1] / temperature).argmax(dim=-1) == tokens[:, 1:]
    assert torch.equal((made.logprobs >= made.top_logprobs[..., 0])[:, 1:][mask[:, 1:]], best[mask[:, 1:]])


def test_no_more_likeliest_tokens_than_there_are_and_none_unasked() -> None:
    mask = torch.tensor([[False, True, True]])
    made = head_values(torch.randn(1, 3, 4), TOKENS, mask, torch.nn.Linear(4, 3), top=9)
    assert made.top_logprobs.shape == (1, 3, 3)
    assert made.top_logprobs[0, 1].exp().sum().item() == pytest.approx(1.0)
    assert head_values(torch.randn(1, 3, 4), TOKENS, mask, torch.nn.Linear(4, 3)).top_logprobs is None


def test_nothing_to_score() -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    values, _ = head_logprobs(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), mask, torch.nn.Linear(4, 5))
    assert values.tolist() == [[0.0] * 3] * 2


def test_position_zero_cannot_be_scored() -> None:
    with pytest.raises(ShapeError, match="position 0"):
        head_logprobs(torch.randn(1, 2, 4), TOKENS[:, :2], torch.ones(1, 2, dtype=torch.bool), torch.nn.Linear(4, 3))


def test_bf16_logits_are_normalised_in_float32() -> None:
    result = token_logprobs(LOGITS.bfloat16(), TOKENS)
    assert result.dtype == torch.float32
    assert torch.equal(result, token_logprobs(LOGITS.bfloat16().float(), TOKENS))
