"""Problems of which so many of n samples are correct."""

from hypothesis import strategies as st

from progrpo.types import ProblemResult, Sample

counts = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
"""n, and how many of them are correct."""


def judged(n: int, c: int) -> ProblemResult:
    """A problem with n samples, of which the first c are correct."""
    samples = tuple(Sample(text="", status="correct" if index < c else "wrong") for index in range(n))
    return ProblemResult(problem="p", samples=samples)
