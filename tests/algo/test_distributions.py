"""What a pass gives of each token's distribution, by hand and against plain loops in float64."""

import math

import pytest
import torch
from torch import Tensor

from progrpo.algo.distributions import Further, Nucleus, certainty, entropy_gradient, nucleus_entropy, proxy_logprob
from progrpo.algo.logprobs import head_values

ALL = Further(
    entropy_gradients=True, certainties=True, raw_logits=True, proxy_logprobs=0.2, nucleus_entropies=Nucleus(mass=0.8)
)


def of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities]).log()


def test_an_entropy_gradient_by_hand() -> None:
    # p = 1/4, 3/4; H = 0.562335. Sum p^2 (log p + H) = 1/16 (-0.823959) + 9/16 (0.274653) = 0.102995;
    # less -0.205990 of the first, 0.205990 of the second
    logprobs = of(0.25, 0.75).expand(2, 2)
    assert entropy_gradient(logprobs, torch.tensor([0, 1])).tolist() == pytest.approx([0.308985, -0.102995], abs=1e-5)


def test_a_certainty_by_hand() -> None:
    # -(log 1/4 + log 3/4)/2 = (1.386294 + 0.287682)/2; log 2 of the uniform one
    assert certainty(of(0.25, 0.75)).item() == pytest.approx(0.836988, abs=1e-5)
    assert certainty(of(0.5, 0.5)).item() == pytest.approx(math.log(2))


def test_a_proxy_by_hand() -> None:
    # 0.6 0.3 0.1: with a min-p of 0.4 what is below 0.24 goes; 0.6/0.9, 0.3/0.9 and nothing
    logprobs = of(0.6, 0.3, 0.1).expand(3, 3)
    found = proxy_logprob(logprobs, torch.tensor([0, 1, 2]), min_p=0.4)
    assert found.exp().tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    # the likeliest stands whatever the bound
    assert proxy_logprob(of(0.6, 0.3, 0.1), torch.tensor([0]), min_p=1.0).item() == 0.0


def test_a_nucleus_by_hand() -> None:
    # 0.5 0.3 0.2: 0.8 is reached by the first two, 0.81 by all, 0.5 by one
    logprobs = of(0.5, 0.3, 0.2)
    two = -(5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8))
    three = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    for mass, expected in ((0.79, two), (0.81, three), (1.0, three), (0.4, 0.0)):
        assert nucleus_entropy(logprobs, Nucleus(mass=mass)).item() == pytest.approx(expected, abs=1e-5)

    # without the token that crosses: 0.81 is reached by the third, 0.79 by the second, 0.4 by the first
    for mass, expected in ((0.81, two), (0.79, 0.0), (0.4, 0.0)):
        found = nucleus_entropy(logprobs, Nucleus(mass=mass, crossing=False)).item()
        assert found == pytest.approx(expected, abs=1e-5)


def naive(logits: list[float], token: int, temperature: float) -> dict[str, float]:
    scaled = [value / temperature for value in logits]
    top = max(scaled)
    total = sum(math.exp(value - top) for value in scaled)
    p = [math.exp(value - top) / total for value in scaled]
    entropy = -sum(q * math.log(q) for q in p)
    kept = [q for q in p if q >= 0.2 * max(p)]
    nucleus: list[float] = []
    for q in sorted(p, reverse=True):
        if sum(nucleus) < 0.8:
            nucleus.append(q)
    mass = sum(nucleus)
    return {
        "entropy_gradients": sum(q * q * (math.log(q) + entropy) for q in p)
        - p[token] * (math.log(p[token]) + entropy),
        "certainties": -sum(math.log(q) for q in p) / len(p),
        "raw_logits": logits[token],
        "proxy_logprobs": math.log(p[token] / sum(kept)) if p[token] >= 0.2 * max(p) else -math.inf,
        "nucleus_entropies": -sum(q / mass * math.log(q / mass) for q in nucleus),
    }


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_head_gives_them_in_any_number_of_chunks(temperature: float) -> None:
    draw = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(2, 5, 4, generator=draw), torch.nn.Linear(4, 7)
    tokens = torch.randint(0, 7, (2, 5), generator=draw)
    mask = torch.tensor([[False, True, True, True, False], [False, False, True, True, True]])
    with torch.no_grad():
        logits = 2 * head(hidden)
        expected = {
            (n, t): naive(logits[n, t - 1].tolist(), int(tokens[n, t]), temperature) for n, t in mask.nonzero().tolist()
        }
    for rows in (100, 4, 1):
        made = head_values(
            hidden, tokens, mask, lambda x: 2 * head(x), temperature=temperature, further=ALL, chunk_rows=rows
        ).further
        assert tuple(made) == ALL.names
        for name, values in made.items():
            assert not values[~mask].any()
            assert values.requires_grad == (name == "nucleus_entropies")
            for (n, t), each in expected.items():
                assert values[n, t].item() == pytest.approx(each[name], rel=1e-4, abs=1e-5), name


def test_nobody_who_does_not_ask_pays() -> None:
    hidden, head = torch.randn(1, 3, 4), torch.nn.Linear(4, 5)
    mask = torch.tensor([[False, True, True]])
    assert head_values(hidden, torch.zeros(1, 3, dtype=torch.long), mask, head).further == {}
    assert not Further()
    assert ALL.with_gradient == Further(nucleus_entropies=Nucleus(mass=0.8))


def test_the_gradient_of_a_nucleus_is_that_of_differences() -> None:
    logits = torch.randn(20, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    live = logits.clone().requires_grad_()
    nucleus_entropy(live.log_softmax(dim=-1), Nucleus(mass=0.7)).sum().backward()
    step = 1e-6
    for v in range(9):
        moved = torch.zeros_like(logits)
        moved[:, v] = step
        ends = [nucleus_entropy((logits + s * moved).log_softmax(dim=-1), Nucleus(mass=0.7)) for s in (1, -1)]
        assert torch.allclose(live.grad[:, v], (ends[0] - ends[1]) / (2 * step), atol=1e-5)


def test_a_token_that_is_never_drawn_is_no_fault() -> None:
    logprobs = torch.tensor([[0.0, -torch.inf, -1.0]]).log_softmax(dim=-1)
    two = torch.tensor([[0.0, -1.0]]).log_softmax(dim=-1)
    assert torch.allclose(entropy_gradient(logprobs, torch.tensor([2])), entropy_gradient(two, torch.tensor([1])))
    assert torch.allclose(nucleus_entropy(logprobs, Nucleus(mass=1.0)), nucleus_entropy(two, Nucleus(mass=1.0)))
    live = torch.tensor([[0.0, -torch.inf, -1.0]], requires_grad=True)
    nucleus_entropy(live.log_softmax(dim=-1), Nucleus(mass=0.9)).sum().backward()
    assert live.grad.isfinite().all()


def test_a_nucleus_is_that_of_the_released_code() -> None:
    # Linn3a/siren@fa59a8d dp_actor.py: efficient_top_p_sampling(logits, k=5, p=0.8)
    logits = [
        [3.0, 1.0, 0.0, -1.0, 2.0],
        [0.1, 0.0, -0.1, 0.2, 0.05],
        [6.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 1.5, 2.0, 2.5, -3.0],
    ]
    found = nucleus_entropy(torch.tensor(logits).log_softmax(dim=-1), Nucleus(mass=0.8, crossing=False))
    assert found.tolist() == pytest.approx([0.0, 1.09664, 0.0, 0.662847], abs=1e-5)
