import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_runs import HOSTILE, MakeRun, write_benchmark, write_model, write_run
from markupsafe import escape

from progrpo.report.html import embedded_json
from progrpo.report.read import Run, load_runs
from progrpo.report.run_page.page import differing_settings, final_values, make_page

VOID = {"meta", "link", "br", "input"}


class Outline(HTMLParser):
    """Checks that tags are balanced; keeps the text of script elements and every fetching attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


IMAGE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three runs with everything that a page of training shows, one of them with a hostile name and a hostile method."""
    folder = tmp_path_factory.mktemp("page")
    paths = [write_run(folder / name, shift=0.1, accounted=True) for name in ("alpha-run", "beta-run")]
    return load_runs([*paths, write_run(folder / IMAGE, method={"name": HOSTILE}, text=HOSTILE, accounted=True)])


@pytest.fixture(scope="module")
def page(runs: list[Run]) -> str:
    return make_page(runs, title="A title")


def test_page_names_every_run_and_is_well_formed(page: str) -> None:
    outline(page)
    assert page.startswith("<!doctype html>")
    for name in ("alpha-run", "beta-run", "&lt;img src=x onerror=alert(1)&gt;"):
        assert page.count(name) >= 5
    assert page.count("<svg") > 8
    assert "progrpo train recipe.yaml" in page
    assert "/opt/bin" not in page
    assert "needs several seeds" in re.sub(r"\s+", " ", page)


def test_the_contents_list_every_section_and_what_was_learned_comes_first(page: str) -> None:
    named = re.findall(r'<section id="([^"]*)">', page)
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall(r'href="#([^"]*)"', contents) == named
    assert page.count("<section") == len(named)
    assert (named[0], named[-3:]) == ("results", ["words", "settings", "provenance"])
    first = page[: page.index("<nav")]
    assert re.findall(r'<h3 id="([^"]*)-title"', first) == ["over-k", "entropy"]
    assert first.count("<li>") == 3
    assert "higher is better" in first


def test_each_figure_and_each_table_stands_once(page: str) -> None:
    titles = re.findall(r"<h[23][^>]*>(.*?)</h[23]>", page)
    assert len(titles) == len(set(titles))
    assert page.count("countdown (held-out)") == page.count("on countdown (held-out)")  # in captions and titles alone


def test_page_fetches_nothing(page: str) -> None:
    assert all(value.startswith("#") or value == "data:," for value in outline(page).fetched)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_same_runs_same_page(runs: list[Run], page: str) -> None:
    assert make_page(runs, title="A title") == page


def test_hostile_text_stays_text(page: str) -> None:
    scripts = outline(page).scripts
    assert len(scripts) == 2
    assert "alert(1)" not in scripts[1]
    data = json.loads(scripts[0])
    assert data["steps"][0]["problems"][0]["groups"][2][2]["text"] == HOSTILE


def test_hostile_names_stay_text(page: str) -> None:
    assert len(outline(page).scripts) == 2
    assert "<img" not in page
    assert "alert(1)" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL).replace(
        escape(IMAGE), ""
    ).replace(escape(HOSTILE), "")


@pytest.mark.parametrize("text", [HOSTILE, "\u2028", "]]>", "\ud800", "", "日本語"])
def test_embedded_json_comes_back_and_cannot_close_its_element(text: str) -> None:
    embedded = embedded_json({"text": text, "none": None})
    assert json.loads(embedded) == {"text": text, "none": None}
    assert embedded.isascii()
    assert not set("<>&") & set(embedded)


@pytest.mark.usefixtures("unrendered")
def test_a_lone_surrogate_does_not_stop_the_page(make_run: MakeRun) -> None:
    path = make_run("a", correct=(4, 4, 4))
    file = path / "evaluations/step-000000.jsonl"
    file.write_text(file.read_text().replace('"q0:"', '"\\ud800"'))
    make_page(load_runs([path]), title="t").encode("utf-8")


def test_page_of_a_run_that_was_killed_at_once(make_run: MakeRun) -> None:
    path = make_run("a")
    for file in (*path.glob("*/*.jsonl"), path / "metrics.jsonl", path / "environment.json"):
        file.unlink()
    page = make_page(load_runs([path]), title="t")
    outline(page)
    assert "0 of 3 steps, unfinished" in page
    assert "No evaluation has been written yet." in page
    for absent in ("<svg", "Figures", "What it cost", "Every metric", "Completions in training", "changed most"):
        assert absent not in page


@pytest.mark.usefixtures("unrendered")
def test_runs_without_a_shared_evaluation_get_no_differences(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b")]
    for file in paths[0].glob("evaluations/*"):
        file.unlink()
    page = make_page(load_runs(paths), title="t")
    outline(page)
    assert "No run shares an evaluation step with a" in page
    assert "<h3>Difference to" not in page
    assert "no evaluation at the same step" in re.sub(r"\s+", " ", page)


@pytest.mark.usefixtures("unrendered")
def test_settings_that_differ(make_run: MakeRun) -> None:
    runs = load_runs([make_run("a"), make_run("b", method={"name": "progrpo", "alpha": 0.3})])
    assert differing_settings(runs) == [
        ("method.alpha", ["–", "0.3"]),
        ("method.name", ["grpo", "progrpo"]),
    ]
    shown = re.sub(r"\s+", " ", make_page(runs, title="t"))
    assert "Only what the run directories record. – where the method has no such setting.</p>" in shown
    assert "Settings that differ" not in make_page(runs[:1], title="t")


def test_final_values_are_the_last_that_are_not_null(make_run: MakeRun) -> None:
    path = make_run("a")
    (path / "metrics.jsonl").write_text('{"step": 1, "x": 1, "y": 5}\n{"step": 2, "x": 2, "y": null}\n')
    assert final_values(load_runs([path, make_run("b")]))[-2:] == [("x", [(2, 2), None]), ("y", [(5, 1), None])]


def test_final_values_count_upwards(make_run: MakeRun) -> None:
    path = make_run("a")
    (path / "metrics.jsonl").write_text('{"step": 1, "pass@16": 1, "pass@8": 1, "lr": 1, "pass@1": 1}\n')
    assert [key for key, _ in final_values(load_runs([path]))] == ["lr", "pass@1", "pass@8", "pass@16"]


@pytest.mark.usefixtures("unrendered")
def test_page_of_benchmarks(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b", method={"name": "progrpo", "alpha": 0.3, "baseline": "prompt"})]
    paths.append(write_model(paths[0].parent / "base"))
    for index, path in enumerate(paths):
        write_benchmark(path, "aime24", (index, 2, 4), text=HOSTILE, prompt=HOSTILE)
        write_benchmark(path, "gpqa", (index, 1), n=2, settings={"temperature": 0.6 + index // 2}, entropy=None)
    page = make_page(load_runs(paths), title="t")
    assert len(outline(page).scripts) == 2
    assert "alert(1)" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    data = json.loads(outline(page).scripts[0])
    for heading in (
        "aime24-paper",
        "Figures as in the paper",
        "Table 2 (mathematics), preset paper",
        "two runs disagree",
    ):
        assert heading in page
    assert "3 problems, preset paper; n 4, temperature 0.6, top-p 0.95, limit 64." in page
    assert "No difference is given: temperature 1.6, not 0.6." in page
    assert "evaluated only" in page
    assert [one["name"] for one in data["disputes"]["benchmarks"]] == [
        "aime24-paper",
        "gpqa-paper",
    ]
    assert "paper: FlowRL" in page
    assert all(value.startswith("#") or value == "data:," for value in outline(page).fetched)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]*)"', page)) <= set(ids)


@pytest.mark.usefixtures("unrendered")
def test_a_page_of_models_that_were_only_evaluated(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name) for name in "ab"]
    for path in paths:
        environment = {"command": ["/opt/bin/progrpo", "evaluate", "<img src=z>"], "python": "3.11"}
        header = {"task": "<img src=x>", "preset": "<img src=y>", "environment": environment}
        write_benchmark(path, "x", (1, 2), preset=None, header=header, settings={"max_new_tokens": "<img>"})
    page, again = (make_page(load_runs(paths), title="t") for _ in range(2))
    assert page == again
    assert len(outline(page).scripts) == 2
    assert "<img" not in page
    assert page.count("<code>progrpo evaluate &#39;&lt;img src=z&gt;&#39;</code>; python 3.11</li>") == 2
    for absent in (
        "Held-out results",
        "No evaluation has been written yet",
        "Figures of training",
        "Settings that differ",
    ):
        assert absent not in page


@pytest.mark.usefixtures("unrendered")
def test_evaluations_cut_short_are_named(make_run: MakeRun) -> None:
    path = make_run("a")
    write_benchmark(path, "aime24", (1, 2), header={"complete": False})
    page = make_page(load_runs([path]), title="t")
    assert "a: aime24-paper is left out: cut short, or still being written, at 2 of 2 problems." in page


def test_a_model_that_was_only_evaluated_lacks_no_settings(make_run: MakeRun) -> None:
    runs = load_runs([make_run("a"), write_model(make_run("b").parent / "m", "another/model")])
    assert differing_settings(runs) == [("model.path", ["some/model", "another/model"])]


def test_the_only_script_that_may_run_is_the_pages_own(page: str) -> None:
    script = outline(page).scripts[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy[1].replace("&#39;", "'")


def test_a_directory_where_nothing_was_evaluated_says_so(tmp_path: Path) -> None:
    page = make_page(load_runs([write_model(tmp_path / "a")]), title="t")
    outline(page)
    assert "<td>nothing evaluated yet</td>" in page
    assert "a: nothing evaluated yet." in page
    for absent in ("Held-out results", "evaluated only", "No evaluation has been written yet"):
        assert absent not in page


def test_settings_without_a_value_are_told_apart(make_run: MakeRun) -> None:
    methods = [{"name": "grpo"}, {"name": "grpo", "clip_high": 0.28}, {"name": "progrpo", "alpha": 0.3}]
    runs = load_runs([make_run(f"r{index}", method=method) for index, method in enumerate(methods)])
    # Another run of GRPO has clip_high, so that the first has its default; whether ProGRPO has it no run says.
    assert differing_settings(runs) == [
        ("method.alpha", ["–", "–", "0.3"]),
        ("method.clip_high", ["not set", "0.28", "–"]),
        ("method.name", ["grpo", "grpo", "progrpo"]),
    ]


@pytest.mark.usefixtures("unrendered")
def test_means_by_category_are_under_their_benchmark(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    header = {"by_category": {"law <b>": {"pass@1": 0.25}, "maths": {}}}
    write_benchmark(path, "mmlu_pro", (1, 0), n=1, header=header)
    write_benchmark(path, "gpqa", (1, 0))
    page = make_page(load_runs([path]), title="t")
    outline(page)
    assert page.count(" by category</summary>") == 1
    details = page[page.index("<summary>mmlu_pro-paper by category</summary>") :]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", details[: details.index("</details>")])
    assert cells == ["law &lt;b&gt;", "25.0", "maths", "–"]


@pytest.mark.usefixtures("unrendered")
def test_sources_stand_under_the_name_of_their_row(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", (16, 16), n=32)
    page = make_page(load_runs([path]), title="t")
    table = page[page.index("<h3>Table 2") : page.index("<h3>Table 5")]
    assert "<th>source</th>" not in table
    assert "<th>evaluated with</th>" not in table  # one for all: said once, above
    assert "Pass@1 / Pass@32, %. Runs evaluated with n 32, temperature 0.6, top-p 0.95, limit 64.</p>" in table
    assert "paper: ProGRPO <small" in table
    assert ">stated: Sec. 4.3</small>" in table
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
    assert len({len(re.findall(r"<t[hd][ >]", row)) for row in rows}) == 1


@pytest.mark.usefixtures("unrendered")
def test_marks_have_a_legend(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", (1, 2))
    page = make_page(load_runs([path]), title="t")
    assert '<span class="mark filled">correct</span> <span class="mark">not correct</span>' in page
