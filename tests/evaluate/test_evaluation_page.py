"""docs/evaluation.md names every task and measure there is, and every number a measure gives."""

import re
from pathlib import Path

from progrpo import measures, plugins
from progrpo.evaluate.presets import SUITES
from progrpo.settings import Choice
from progrpo.types import ProblemResult, Sample, TokenStatistics

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
STATISTICS = TokenStatistics(probability=0.5, low_probability=0.5, confidence=0.5, entropy=1.0)
OFFLINE = [name for name in plugins.names("measures") if name != "semantic"]


def problem(index: int) -> ProblemResult:
    samples = tuple(
        Sample(
            text=f"so {a} plus {a + 1} makes the sum",
            status="correct" if a < 3 else "wrong",
            extracted=str(a),
            canonical=f"form {a}" if a < 3 else None,
            tokens=6,
            tempered=STATISTICS,
            raw=STATISTICS,
        )
        for a in range(4)
    )
    return ProblemResult(problem=str(index), facts={"solutions": 5}, samples=samples)


def test_every_task_and_measure_is_in_the_tables() -> None:
    for name in (*plugins.names("tasks"), *plugins.names("measures")):
        assert f"| `{name}` |" in PAGE, name


def test_every_number_of_a_measure_is_named() -> None:
    problems = [problem(0), problem(1)]
    for measure in measures.load([Choice(name=name) for name in OFFLINE]):
        names = [*measure.measure(problems[0]), *measure.over_task(problems)]
        assert names, measure.name
        for name in names:
            plain = re.sub(r"@\d+$", "@k", name.removeprefix("raw/").removesuffix("/pooled"))
            assert f"`{plain}`" in PAGE, name


def test_suites_are_made_of_tasks() -> None:
    assert {task for suite in SUITES.values() for task in suite} <= set(plugins.names("tasks"))
    for suite in SUITES:
        assert f"`{suite}`" in PAGE
