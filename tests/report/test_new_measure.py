"""A measure added as one file appears in `evaluate`, in `compare` and on the page; the figures stand where the schema says."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_runs import MakeRun, write_benchmark, write_jsonl
from rich.console import Console

from progrpo import measures, plugins, schema
from progrpo.cli.evaluate import measures_table, overview
from progrpo.cli.report import benchmark_tables, tables
from progrpo.report.comparison.results import summarise
from progrpo.report.read import load_runs
from progrpo.report.run_page.cost import PHASES
from progrpo.report.run_page.figures import FIGURES, StepFigure
from progrpo.report.run_page.page import make_page, make_tables
from progrpo.settings import Choice
from progrpo.types import ProblemResult, Sample

FILE = '''"""Words of the first completion."""

from progrpo.measures import Params
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult

COLUMNS = (
    Quantity(key="words", label="Words at first", unit="words", digits=2, better="lower", meaning="words",
             drawn=("held-out", "benchmarks", "overview", "compare")),
)


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    return {"words": float(len(judged.samples[0].text.split()))}
'''


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "more_measures"
    folder.mkdir()
    (folder / "words.py").write_text(FILE)
    monkeypatch.setattr(measures, "__path__", [*measures.__path__, str(folder)])
    before, known = plugins.names("measures"), plugins.names
    monkeypatch.setattr(
        plugins, "names", lambda package: [*before, "words"] if package == "measures" else known(package)
    )
    schema._columns.cache_clear()
    yield
    schema._columns.cache_clear()


@pytest.mark.usefixtures("words", "unrendered")
def test_a_new_measure_appears_from_its_one_file(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert "words" in measures.names(extras=False)
    (one,) = measures.load([Choice(name="words")])
    judged = ProblemResult(problem="q", prompt="q", answer="1", samples=(Sample(text="a b c", status="correct"),))
    assert one.measure(judged) == {"words": 3.0}

    path = make_run("a")
    for file in path.glob("evaluations/step-*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        write_jsonl(file, [row | {"measures": row["measures"] | {"words": 3.0}} for row in rows])
    write_benchmark(path, "aime24", (1, 2), measures={"words": 4.0})
    runs = load_runs([path])
    made, summary = make_tables(runs), summarise(runs)
    page = make_page(runs, title="t", report_tables=made)
    assert page.count("Words at first<br><small>words</small>") == 2  # held-out results, and aime24
    for place in (evaluation.interval("words") for evaluation in (summary.last[0], made.benchmarks[-1].evaluations[0])):
        assert place is not None
        assert place.mean in (3.0, 4.0)

    head = {"task": "q", "preset": None, "problems": 1, "samples": 1, "statuses": {"correct": 1}, "over_task": {}}
    head |= {"settings": {"n": 1, "temperature": 1, "top_p": 1, "max_new_tokens": 8}, "excluded": []}
    head["summary"] = {"words": {"mean": 4.0, "low": 3.0, "high": 5.0, "problems": 1}}
    console = Console(width=200)
    for table in (
        measures_table(head),
        overview([head]),
        *tables(runs, summary),
        *benchmark_tables(runs, made.benchmarks),
    ):
        console.print(table)
    printed = capsys.readouterr().out
    assert "words ↓" in printed  # evaluate, one task
    assert "4.00 [3.00, 5.00]" in printed  # evaluate, all tasks
    assert printed.count("Words at first") == 2  # evaluate's overview, compare's benchmarks
    assert "Words" in printed  # compare's held-out table, its heading broken


def test_a_new_figure_is_one_line(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = ("rollout/entropy", "evaluate/pass@1")
    figure = StepFigure("Entropy beside Pass@1", "nats; share", metrics=metrics, caption="Tokens of a completion.")
    monkeypatch.setitem(FIGURES, "length", figure)
    page = make_page(load_runs([make_run("a")]), title="t")
    assert "Entropy beside Pass@1" in page
    assert "Tokens of a completion." in page


def test_the_gap_is_drawn_of_runs_whose_trainer_scores(make_run: MakeRun) -> None:
    run = make_run("a")
    assert "Gap between sampler and trainer" not in make_page(load_runs([run]), title="t")
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    told = {"sampler/gap": 0.01, "sampler/gap_p95": 0.05, "sampler/staleness": 1.0}
    path.write_text("".join(json.dumps(row | (told if row["step"] else {})) + "\n" for row in rows))
    page = make_page(load_runs([run]), title="t")
    assert "Gap between sampler and trainer" in page
    assert "95th percentile" in page


def test_figures_stand_where_the_schema_says() -> None:
    said = {name for one in (*schema.METRICS, *schema.columns()) for name in one.drawn}
    for figure in FIGURES:
        assert schema.drawn(figure) or schema.columns(figure) or FIGURES[figure].metrics
    others = {
        "held-out",
        "benchmarks",
        "overview",
        "compare",
        "progress",
        "cost",
        "seconds",
        "tokens",
        "over-k",
        "page",
    }
    others |= {"statistics", "table-5"}
    assert said == {name for name, one in FIGURES.items() if not one.metrics} | others
    assert {one.key for one in schema.drawn("seconds")} == {f"time/{phase}_s" for phase in (*PHASES, "step")}
