"""How many of the correct samples are ways of their own: a policy that repeats one solution has few, whatever its Pass@k.

Two numbers, because the first falls as more samples are correct: the share of distinct forms among the correct samples, and
the chance that two of them differ, whose expectation does not depend on how many there are. For verifiers that give
canonical forms (countdown, grid_path): forms, not spellings.
"""

from collections import Counter
from collections.abc import Sequence

from progrpo.measures import Params
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult

__all__ = ["different_pairs", "unique_share"]

NEEDS_CANONICAL = True
COLUMNS = (
    Quantity(
        key="unique_correct",
        label="Unique among correct",
        unit="%",
        percent=True,
        better="higher",
        meaning="distinct canonical forms / correct samples, mean over problems with at least two correct samples; "
        "`/pooled`: over all problems together",
        drawn=("page", "benchmarks"),
        variants=("/pooled",),
    ),
    Quantity(
        key="different_pairs",
        label="Pairs that differ",
        unit="%",
        percent=True,
        better="higher",
        meaning="chance that two of a problem's correct samples have different canonical forms, exact over all pairs, "
        "likewise; it does not depend on how many are correct",
    ),
)


def unique_share(counts: Sequence[int]) -> float:
    """Distinct forms over correct samples: F / Σ_f c_f, in (0, 1].

    Args:
        counts: correct samples of each form, >= 1 each; at least one form.
    """
    return len(counts) / sum(counts)


def different_pairs(counts: Sequence[int]) -> float:
    """Chance that two of the correct samples, drawn without replacement, have different forms (1 − Simpson's index):

        1 − Σ_f c_f (c_f − 1) / (c (c − 1)),   c = Σ_f c_f >= 2

    Unbiased for 1 − Σ_f p_f²: the number of samples moves its noise and not its mean.
    """
    total = sum(counts)
    return 1.0 - sum(count * (count - 1) for count in counts) / (total * (total - 1))


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`unique_correct` and `different_pairs`, for at least two correct samples."""
    counts = _counts(judged)
    if sum(counts) < 2:
        return {}
    return {"unique_correct": unique_share(counts), "different_pairs": different_pairs(counts)}


def over_task(problems: Sequence[ProblemResult], params: Params) -> dict[str, float]:
    """`unique_correct/pooled`: the forms of all problems over their correct samples; nothing without a correct one."""
    counts = [_counts(problem) for problem in problems]
    correct = sum(map(sum, counts))
    return {"unique_correct/pooled": sum(map(len, counts)) / correct} if correct else {}


def _counts(judged: ProblemResult) -> list[int]:
    forms = Counter(sample.canonical for sample in judged.samples if sample.correct and sample.canonical is not None)
    return sorted(forms.values())
