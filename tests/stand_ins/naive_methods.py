"""Methods written again as plain loops over floats, from their formulas (`method_steps.py` and `batch_steps.py` take the step
itself): the loss as a function of the log-probs with gradient, all else being constant, or loss and gradient."""

import math
from collections.abc import Callable, Collection, Sequence

from stand_ins.batch_steps import Table
from stand_ins.method_steps import Case, Ragged

Loss = Callable[[Ragged], float]
Token = tuple[int, int]
"""Sequence and place."""
TokenObjective = Callable[[float, float, float], tuple[float, float]]
"""Log-prob now, when sampled, and advantage -> objective of the token, and its derivative by the log-prob now."""


def standardised(rewards: Sequence[float], among: Sequence[float], eps: float = 1e-6) -> list[float]:
    """(r - mean) / (std + eps), of the rewards `among` with Bessel's correction; 0 without a verdict or a difference."""
    known = [reward for reward in among if not math.isnan(reward)]
    if len(set(known)) < 2:
        return [0.0] * len(rewards)
    mean = sum(known) / len(known)
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in known) / (len(known) - 1))
    return [0.0 if math.isnan(reward) else (reward - mean) / (deviation + eps) for reward in rewards]


def naive_grpo(rewards: Table, *, history: Table | None = None) -> Table:
    """GRPO's advantages of each problem, or against all that a problem was given so far (`history`)."""
    return [
        standardised(row, among) for row, among in zip(rewards, rewards if history is None else history, strict=True)
    ]


def group_relative(rewards: Sequence[float], group: int) -> list[float]:
    """The same of a list of completions, `group` of each problem in a row."""
    rows = [list(rewards[first : first + group]) for first in range(0, len(rewards), group)]
    return [advantage for row in naive_grpo(rows) for advantage in row]


def sequence_factors(lengths: Sequence[int], group: int, how: str, fixed: int = 1) -> list[float]:
    """What each sequence's sum over tokens is multiplied by."""
    if how == "token":
        return [1 / max(1, sum(lengths))] * len(lengths)
    if how == "sequence":
        return [1 / (len(lengths) * length) if length else 0.0 for length in lengths]
    if how == "fixed":
        return [1 / (len(lengths) * fixed)] * len(lengths)
    problems = len(lengths) // group
    of_group = [sum(lengths[p * group : (p + 1) * group]) for p in range(problems)]
    return [1 / (problems * of_group[n // group]) if of_group[n // group] else 0.0 for n in range(len(lengths))]


def sequence_mean(lengths: Sequence[int]) -> list[float]:
    return sequence_factors(lengths, 1, "sequence")


def token_mean(lengths: Sequence[int], kept: Sequence[bool]) -> list[float]:
    trained = [length if keep else 0 for length, keep in zip(lengths, kept, strict=True)]
    factors = sequence_factors(trained, 1, "token")
    return [factor if length else 0.0 for factor, length in zip(factors, trained, strict=True)]


def group_token_mean(lengths: Sequence[int], group: int) -> list[float]:
    return sequence_factors(lengths, group, "group_token")


def clipped(low: float, high: float) -> TokenObjective:
    """min(r A, clip(r, low, high) A)."""

    def token(now: float, old: float, advantage: float) -> tuple[float, float]:
        ratio = math.exp(now - old)
        inside = min(max(ratio, low), high)
        if ratio * advantage <= inside * advantage:
            return ratio * advantage, ratio * advantage
        return inside * advantage, 0.0

    return token


def naive_loss(
    now: Table, old: Table, advantages: Table, weights: Sequence[float], token: TokenObjective
) -> tuple[float, Table]:
    """- sum_n w_n sum_t J_nt, and its derivative by each log-prob now."""
    loss, gradient = 0.0, []
    for n, row in enumerate(now):
        gradient.append([0.0] * len(row))
        for t, value in enumerate(row):
            objective, slope = token(value, old[n][t], advantages[n][t])
            loss -= weights[n] * objective
            gradient[n][t] = -weights[n] * slope
    return loss, gradient


def surrogate_loss(
    case: Case,
    advantages: Ragged,
    *,
    low: float,
    high: float,
    how: str,
    kept: Collection[Token] | None = None,
    silent: Collection[Token] = (),
) -> Loss:
    """The clipped surrogate over the tokens `kept` (all of them, if None); `silent` ones count and add nothing."""
    trained = set(case.tokens if kept is None else kept)
    lengths = [sum(n == own for n, _ in trained) for own in range(len(case.now))]
    acting = [
        [value if (n, t) in trained and (n, t) not in silent else 0.0 for t, value in enumerate(row)]
        for n, row in enumerate(advantages)
    ]
    factors = sequence_factors(lengths, case.group, how)
    return lambda now: naive_loss(now, case.old, acting, factors, clipped(1 - low, 1 + high))[0]


def each_token(values: Table, lengths: Sequence[int]) -> Table:
    """A value of each completion as one of each of its tokens."""
    flat = [value for row in values for value in row]
    return [[value] * length for value, length in zip(flat, lengths, strict=True)]


def for_all_tokens(case: Case, values: Sequence[float]) -> Ragged:
    return [[value] * len(row) for value, row in zip(values, case.now, strict=True)]


def reinforce(case: Case, *, baseline: str, how: str = "fixed") -> Loss:
    known = [reward for reward in case.rewards if not math.isnan(reward)]
    subtracted = sum(known) / len(known) if baseline == "mean" and known else 0.0
    factors = sequence_factors([len(row) for row in case.now], case.group, how)

    def loss(now: Ragged) -> float:
        total = 0.0
        for n, reward in enumerate(case.rewards):
            if not math.isnan(reward):
                total += factors[n] * (reward - subtracted) * sum(now[n])
        return -total

    return loss


def gae(values: Sequence[float], reward: float, *, gamma: float, lam: float) -> list[float]:
    """The double sum of the definition: every later difference, discounted."""
    length = len(values)
    differences = [
        (reward if t == length - 1 else 0.0) + gamma * (values[t + 1] if t + 1 < length else 0.0) - values[t]
        for t in range(length)
    ]
    return [sum((gamma * lam) ** (later - t) * differences[later] for later in range(t, length)) for t in range(length)]


def ppo_advantages(case: Case, *, gamma: float, lam: float, whiten: bool) -> tuple[Ragged, Ragged]:
    """The advantages, whitened over the judged tokens or not, and the returns; 0 without a verdict."""
    raw = [
        [0.0] * len(values) if math.isnan(reward) else gae(values, reward, gamma=gamma, lam=lam)
        for values, reward in zip(case.values, case.rewards, strict=True)
    ]
    returns = [[a + v for a, v in zip(*rows, strict=True)] for rows in zip(raw, case.values, strict=True)]
    known = [raw[n][t] for n, t in case.tokens if not math.isnan(case.rewards[n])]
    if not whiten or len(known) < 2:
        return raw, returns
    mean = sum(known) / len(known)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1))
    centred = [
        [0.0 if math.isnan(case.rewards[n]) else (value - mean) / (deviation + 1e-8) for value in row]
        for n, row in enumerate(raw)
    ]
    return centred, returns


def ppo_value_loss(case: Case, predicted: Ragged, returns: Ragged, *, clip: float, how: str) -> float:
    """1/2 max((V - R)^2, (V kept within `clip` of the old V - R)^2), in the mean of the objective over judged tokens."""
    lengths = [0 if math.isnan(case.rewards[n]) else len(row) for n, row in enumerate(case.now)]
    factors = sequence_factors(lengths, case.group, how)
    total = 0.0
    for n, t in case.tokens:
        if math.isnan(case.rewards[n]):
            continue
        value, old, target = predicted[n][t], case.values[n][t], returns[n][t]
        near = min(max(value, old - clip), old + clip)
        total += factors[n] * max((value - target) ** 2, (near - target) ** 2) / 2
    return total


def overlong(length: int, *, limit: int, buffer: int) -> float:
    """DAPO's Eq. 13 as three cases."""
    if length <= limit - buffer:
        return 0.0
    if length <= limit:
        return (limit - buffer - length) / buffer
    return -1.0


def flowrl(
    case: Case, log_z: Sequence[float], *, beta: float, importance: str, low: float = 0.2, high: float = 0.2
) -> Loss:
    """1/N sum of w (log Z + mean log pi - beta A - mean log pi_ref)^2 over the sequences that have a token and a verdict."""
    advantages = group_relative(case.rewards, case.group)
    present = [n for n, row in enumerate(case.now) if row and not math.isnan(case.rewards[n])]
    weights = {}
    for n in present:
        weight = math.exp(sum(case.now[n]) - sum(case.old[n]))
        if importance == "ppo":
            weight = min(max(weight, 1 - low), 1 + high)
        elif importance == "max10":
            weight = min(weight, 10.0)
        weights[n] = weight

    def loss(now: Ragged) -> float:
        total = 0.0
        for n in present:
            length = len(now[n])
            delta = log_z[n] + sum(now[n]) / length - beta * advantages[n] - sum(case.ref[n]) / length
            total += weights[n] * delta**2
        return total / max(1, len(present))

    return loss


def covariances(case: Case, pool: Collection[int]) -> dict[Token, float]:
    """(A - mean A)(log pi - mean log pi) of the tokens of the sequences `pool`."""
    advantages = group_relative(case.rewards, case.group)
    tokens = [(n, t) for n, t in case.tokens if n in pool]
    if not tokens:
        return {}
    mean_advantage = sum(advantages[n] for n, _ in tokens) / len(tokens)
    mean_logprob = sum(case.now[n][t] for n, t in tokens) / len(tokens)
    return {(n, t): (advantages[n] - mean_advantage) * (case.now[n][t] - mean_logprob) for n, t in tokens}


def largest(values: dict[Token, float], count: int) -> set[Token]:
    """The `count` largest; the earlier token first where they are equal."""
    return set(sorted(values, key=lambda token: (-values[token], token))[:count])


def whole_part(share: float, tokens: int, *, up: bool = False) -> int:
    """A share of so many tokens in whole tokens; what falls short of a whole number by rounding alone is one."""
    exact = round(share * tokens, 9)
    return math.ceil(exact) if up else math.floor(exact)


def marked_count(ratio: float, tokens: int) -> int:
    """KL-Cov's share of the tokens, rounded down, and one at least unless the ratio is 0."""
    return max(1, whole_part(ratio, tokens)) if ratio else 0


def kl_cov(case: Case, pools: Sequence[Collection[int]], *, ratio: float, coef: float, how: str = "token") -> Loss:
    advantages = group_relative(case.rewards, case.group)
    marked: set[Token] = set()
    for pool in pools:
        found = covariances(case, pool)
        marked |= largest(found, marked_count(ratio, len(found)))
    factors = sequence_factors([len(row) for row in case.now], case.group, how)

    def loss(now: Ragged) -> float:
        total = 0.0
        for n, t in case.tokens:
            apart = now[n][t] - case.old[n][t]
            penalty = coef * abs(apart) if (n, t) in marked else 0.0
            total += factors[n] * (math.exp(apart) * advantages[n] - penalty)
        return -total

    return loss


def clip_cov_candidates(
    case: Case, pool: Collection[int], *, cov: tuple[float, float], clip: tuple[float, float]
) -> set[Token]:
    """The tokens whose covariance lies between the two and that the clip has not silenced."""
    advantages = group_relative(case.rewards, case.group)
    found = set()
    for (n, t), value in covariances(case, pool).items():
        ratio, advantage = math.exp(case.now[n][t] - case.old[n][t]), advantages[n]
        silenced = (advantage > 0 and ratio > 1 + clip[1]) or (advantage < 0 and ratio < 1 - clip[0])
        if cov[0] < value < cov[1] and not silenced:
            found.add((n, t))
    return found


def high_entropy_tokens(case: Case, pools: Sequence[Collection[int]], *, fraction: float) -> set[Token]:
    kept: set[Token] = set()
    for pool in pools:
        found = {(n, t): case.entropies[n][t] for n, t in case.tokens if n in pool}
        kept |= largest(found, max(1, whole_part(fraction, len(found), up=True)))
    return kept
