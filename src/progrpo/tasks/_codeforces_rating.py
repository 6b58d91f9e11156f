"""What a model's samples would be rated at in past Codeforces contests: the rule of CodeElo, as DeepCoder published it.

Source: arXiv:2501.01257; rllm, scripts/deepcoder/benchmark/cf_elo_calc.py, result for result:

    attempts    a problem's samples in their order, at most `attempts`. The first correct one, j tries after the first, earns
                max(0, points - 50 j) where the contest gives points, else 1 problem and a penalty of 10 j; none earns 0
    rank        the index in the official standings of the first participant who is strictly worse (fewer points, or as many
                and a larger penalty); their number M where nobody is
    rating      the largest whole R, from 0 to 99 above the best R_i, with 1 + sum_i 1 / (1 + 10^((R - R_i) / 400)) >= rank, by
                bisection; R_i the participants' ratings before the contest
    the model   the mean over contests; its percentile is the share of accounts with a strictly lower rating

Participants are those of the standings who also have a rating change. A contest is left out where the two lists then differ
in length or 200 or fewer remain. Kept as published: the rank counts from 0 where the formula counts from 1; a contest in
which nothing was solved is averaged in, at 0 where new accounts took part; a contest of one division cannot rate a model
far above the best who was officially in it; what takes a participant time costs a model nothing.
"""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from progrpo.errors import DataError

FEWEST = 200
"""A contest with no more participants than this is left out."""
ORDERS = 1000
LEVEL = 0.95

_SEED = 20_260_205


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contest:
    """The official table of one contest, participants in the order of the standings.

    Attributes:
        points, penalties: [M] of the participants.
        old_ratings: their distinct ratings before the contest, and counts: how many have each.
        problems: points of each problem by its id ("1971A"); None where the contest counts problems and penalties.
    """

    points: np.ndarray
    penalties: np.ndarray
    old_ratings: np.ndarray
    counts: np.ndarray
    problems: Mapping[str, float | None]
    _ranks: dict[tuple[float, float], int] = field(default_factory=dict)
    _ratings: dict[int, int] = field(default_factory=dict)

    def rank(self, score: float, penalty: float) -> int:
        """0 to M."""
        key = (score, penalty)
        if key not in self._ranks:
            worse = (self.points < score) | ((self.points == score) & (self.penalties > penalty))
            self._ranks[key] = int(worse.argmax()) if worse.any() else len(worse)
        return self._ranks[key]

    def rating(self, rank: int) -> int:
        """See the head of this file."""
        if rank not in self._ratings:
            low, high = 0, int(self.old_ratings.max()) + 100
            while high - low > 1:
                middle = (low + high) // 2
                expected = 1 + float((self.counts / (1 + 10 ** ((middle - self.old_ratings) / 400))).sum())
                low, high = (low, middle) if expected < rank else (middle, high)
            self._ratings[rank] = low
        return self._ratings[rank]

    def rate(self, gains: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """Ratings of [K] outcomes, from the points and penalties of each problem, [K, problems]."""
        pairs = zip(gains.sum(axis=1).tolist(), penalties.sum(axis=1).tolist(), strict=True)
        return np.array([self.rating(self.rank(*pair)) for pair in pairs], dtype=np.float64)


def rate(
    solved: Mapping[int, Mapping[str, Sequence[bool]]], contests: Mapping[int, Contest], *, attempts: int
) -> dict[str, float]:
    """The rating over all `contests`, and what it would be had the same samples come in another order.

    The order in which samples happen to stand decides how many tries a problem took, and nothing else is random in it:
    `rating` takes them as they stand, as published; the mean and the range are over 1,000 orders from a fixed seed. They
    speak of these samples, not of other samples or contests.

    Args:
        solved: contest -> problem id ("1971A") -> whether each sample is correct, in their order.
        attempts: >= 1.

    Returns:
        rating; rating_mean, rating_low and rating_high: mean and middle 95 % over the orders; contests: how many. Of no
        contest only the last, 0.
    """
    generator = np.random.default_rng(_SEED)
    plain, shuffled = [], []
    for number, contest in contests.items():
        rows, again = [], []
        for problem, points in contest.problems.items():
            flags = np.array(solved.get(number, {}).get(problem, ()), dtype=bool)
            if flags.size:
                orders = generator.permuted(np.broadcast_to(flags, (ORDERS, flags.size)), axis=1)
                rows.append(_earned(flags[None, :attempts], points))
                again.append(_earned(orders[:, :attempts], points))
        plain.append(contest.rate(*_beside(rows, 1))[0])
        shuffled.append(contest.rate(*_beside(again, ORDERS)))
    if not plain:
        return {"contests": 0.0}
    ratings = np.mean(shuffled, axis=0)
    low, high = np.quantile(ratings, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        "rating": float(np.mean(plain)),
        "rating_mean": float(ratings.mean()),
        "rating_low": float(low),
        "rating_high": float(high),
        "contests": float(len(plain)),
    }


def percentile(rating: float, accounts: Mapping[float, int]) -> float:
    """The share of accounts with a strictly lower rating, in percent, to one decimal.

    Args:
        accounts: rating -> how many accounts have it; at least one.
    """
    ratings = sorted(accounts)
    below = [0, *accumulate(accounts[one] for one in ratings)]
    return round(below[bisect_left(ratings, rating)] / below[-1] * 100, 1)


def read_contest(path: Path) -> Contest | None:
    """A contest's table; None where the rule leaves the contest out.

    Raises:
        DataError: the file is damaged or lacks a key; the message names it.
    """
    data = _read(path)
    standings, changes = _answer(data, "standings", path), _answer(data, "rating_changes", path)
    try:
        rows = [(row["party"]["members"][0]["handle"], row) for row in standings["rows"]]
        both = {handle for handle, _ in rows} & {change["handle"] for change in changes}
        kept = [row for handle, row in rows if handle in both]
        kept_changes = [change for change in changes if change["handle"] in both]
        if len(kept) != len(kept_changes) or len(kept) <= FEWEST:
            return None
        ratings, counts = np.unique([float(change["oldRating"]) for change in kept_changes], return_counts=True)
        return Contest(
            points=np.array([float(row["points"]) for row in kept]),
            penalties=np.array([float(row["penalty"]) for row in kept]),
            old_ratings=ratings,
            counts=counts,
            problems={
                f"{one['contestId']}{one['index']}": float(one["points"]) if "points" in one else None
                for one in standings["problems"]
            },
        )
    except KeyError as error:
        raise DataError(
            f"{path}: no key {error}; expected the answers of the Codeforces API, see tasks/codeforces.py"
        ) from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: not as the Codeforces API answers ({error}); see tasks/codeforces.py") from None


def read_accounts(path: Path) -> dict[float, int]:
    """The distribution of accounts: {"rating": how many have it}.

    Raises:
        DataError: the file is damaged, of another form, or empty.
    """
    data = _read(path)
    try:
        accounts = {float(rating): int(count) for rating, count in data.items()}
    except (TypeError, ValueError, AttributeError):
        accounts = {}
    if sum(accounts.values()) < 1 or min(accounts.values()) < 0:
        raise DataError(f'{path}: expected a JSON object of ratings and their numbers of accounts, {{"1500": 12, ...}}')
    return accounts


def _earned(flags: np.ndarray, points: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Points and penalty of one problem for [K] sequences of attempts, [K, attempts]."""
    solved, first = flags.any(axis=1), flags.argmax(axis=1)
    if points is None:
        return np.where(solved, 1.0, 0.0), np.where(solved, 10.0 * first, 0.0)
    return np.where(solved, np.maximum(0.0, points - 50.0 * first), 0.0), np.zeros(len(flags))


def _beside(parts: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """[K] of each problem -> [K, problems]."""
    if not parts:
        return np.zeros((count, 0)), np.zeros((count, 0))
    return np.stack([gain for gain, _ in parts], axis=1), np.stack([penalty for _, penalty in parts], axis=1)


def _answer(data: Any, key: str, path: Path) -> Any:
    """One answer of the API: as it came ({"status", "result"}), or its result alone."""
    if not isinstance(data, Mapping) or key not in data:
        raise DataError(f"{path}: expected a JSON object with the key {key!r}; see tasks/codeforces.py for the format")
    answer = data[key]
    return answer["result"] if isinstance(answer, Mapping) and "result" in answer else answer


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON (damaged or cut short?): {error}") from None
