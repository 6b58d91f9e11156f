"""The page in a browser."""

import re
from pathlib import Path

import pytest
from made_up_runs import (
    HOSTILE,
    MakeRun,
    rollout_row,
    with_seed,
    write_benchmark,
    write_jsonl,
    write_model,
    write_run,
)

from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page
from progrpo.report.seeds import pool_seeds
from stand_ins.browser import dom

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("chromium")]


def test_script_fills_the_browser_of_completions(make_run: MakeRun, tmp_path: Path) -> None:
    runs = load_runs([make_run("a", text=HOSTILE), make_run("b", shift=0.1)])
    found = dom(make_page(runs, title="t"), tmp_path)
    assert 'data-ready="yes"' in found
    assert re.search(r'<p id="error"[^>]* hidden="">', found)
    assert "<option>p0</option><option>p1</option>" in found
    groups = found[found.index('id="groups"') :]
    assert groups.count("✓ correct") == 2
    assert groups.count("✗ wrong") == 6
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in groups
    assert "+0.100" in groups


def test_a_canonical_form_is_shown_where_it_is_another(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a")
    rows = [
        rollout_row("p", i, correct=True, text="2+1", canonical=form) for i, form in enumerate(("1+2", "2+1", None))
    ]
    write_jsonl(path / "rollouts/step-000003.jsonl", rows)
    found = dom(make_page(load_runs([path]), title="t"), tmp_path)
    groups = found[found.index('id="groups"') :]
    assert re.findall(r'class="canonical">([^<]*)<', groups) == ["1+2"]


def test_a_page_without_rollouts_is_ready_too(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a")
    for file in path.glob("rollouts/*"):
        file.unlink()
    assert 'data-ready="yes"' in dom(make_page(load_runs([path]), title="t"), tmp_path)


def test_a_failing_script_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    page = make_page(load_runs([make_run("a")]), title="t")
    found = dom(page.replace('id="data">{', 'id="data">{broken'), tmp_path)
    assert "data-ready" not in found
    assert 'role="alert">The script of this page failed' in found


def test_script_fills_the_browser_of_disagreements(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name) for name in ("first", "second", "third")]
    for path, correct in zip(paths, ((0, 4, 2), (4, 3, 2), (0, 4, 2)), strict=True):
        write_benchmark(path, "aime24", correct, text=HOSTILE)
    found = dom(make_page(load_runs(paths), title="t"), tmp_path)
    assert 'data-ready="yes"' in found
    assert re.search(r'<p id="error"[^>]* hidden="">', found)
    assert re.search(r'<form id="dispute">', found)
    assert "2 of 3 problems have another share of correct completions; 2 of them are kept here." in found
    listed = found[found.index('id="dispute-list"') : found.index('id="dispute-problem"')]
    assert re.findall(r'<button type="button" class="open"[^>]*>([^<]*)</button>', listed) == ["aime24/0", "aime24/1"]
    assert re.findall(r'data-value="[^"]*">([^<]*)<', listed) == ["4 / 4", "0 / 4", "+100.0", "3 / 4", "4 / 4", "−25.0"]
    # The first problem is opened: two completions of the run that solved it, and two of the one that did not.
    sides = found[found.index('id="dispute-sides"') :]
    assert (sides.count("✓ correct"), sides.count("✗ wrong")) == (2, 2)
    assert sides.index(">second<") < sides.index(">first<")
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in sides
    assert re.search(r">10</td>", sides)


def test_a_page_with_nothing_to_dispute_is_ready_too(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a")
    write_benchmark(path, "aime24", (1, 2))
    found = dom(make_page(load_runs([path]), title="t"), tmp_path)
    assert 'data-ready="yes"' in found
    assert 'id="dispute"' not in found


MEASURE = """<script>
document.title = [...document.querySelectorAll(".broad")].map((box) => box.scrollWidth - box.clientWidth).join(" ")
  + " | " + (document.documentElement.scrollWidth - innerWidth);
</script></body>"""


@pytest.mark.parametrize("width", [1280, 390])
def test_tables_fit_a_laptop_and_the_page_a_phone(tmp_path: Path, width: int) -> None:
    path = write_model(tmp_path / "Qwen-Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct")
    measures = {"distinct_2": 0.25, "self_bleu_4": 0.5, "semantic_cosine": 0.75}
    pooled = {f"{key}/pooled": value for key, value in measures.items()}
    for task in ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench", "livecodebench"):
        write_benchmark(path, task, (16, 8), n=32, measures=measures, over_task=pooled)
    page = make_page(load_runs([path]), title="t").replace("</body>", MEASURE)
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    found = re.search(r"<title>([-\d ]*) \| (-?\d+)</title>", dom(page, tmp_path, f"--window-size={width},900"))
    assert found is not None
    hidden = [int(pixels) for pixels in found[1].split()]
    assert len(hidden) == 7 + 3  # of the benchmarks, and Tables 2, 3 and 5
    assert int(found[2]) <= 0  # nothing makes the page itself wider than the window
    if width == 1280:
        assert max(hidden) <= 0


PRINTED = """<script>
document.title = [...document.querySelectorAll("table, svg")].map((one) => Math.ceil(one.getBoundingClientRect().right))
  .reduce((a, b) => Math.max(a, b)) - document.documentElement.clientWidth
  + " " + [...new Set([...document.querySelectorAll("th button")].map((one) => getComputedStyle(one).display))];
</script></body>"""


def test_nothing_is_cut_on_paper(tmp_path: Path) -> None:
    """The rules for print, applied to a window as wide as a page of A4 between its margins (186 mm at 96 dpi)."""
    paths = [
        with_seed(write_run(tmp_path / f"{name}-{seed}", correct=(seed, 2, 3), accounted=True), seed, alpha=name == "b")
        for name in "ab"
        for seed in (0, 1, 2)
    ]
    for path in paths:
        write_benchmark(path, "aime24", (16, 8), n=32, measures={"distinct_2": 0.25, "self_bleu_4": 0.5})
    page = make_page(pool_seeds(load_runs(paths)), title="t").replace("</body>", PRINTED)
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace(
        "@media print", "@media screen"
    )
    found = re.search(r"<title>(-?\d+) ([\w,-]*)</title>", dom(page, tmp_path, "--window-size=703,900"))
    assert found is not None
    assert int(found[1]) <= 0
    assert found[2] == "contents"  # a head that the next page repeats is painted without its buttons
