from made_up_runs import MakeRun

from progrpo.report.comparison.results import summarise
from progrpo.report.html import paragraphs
from progrpo.report.read import Run, load_runs
from progrpo.report.run_page.page import make_page


def headlines(runs: list[Run]) -> list[str]:
    return paragraphs("captions.jinja", "headlines", runs=runs, summary=summarise(runs))


def test_one_sentence_says_what_a_run_ended_with_and_what_is_clear_of_chance(make_run: MakeRun) -> None:
    # of 4 samples 1 2 3 correct against 2 3 4: Pass@1 50 and 75 %; Pass@4 100 % both; distinct (1 + 2 + 2)/3 and 2, of which
    # two problems in three are ties
    runs = load_runs([make_run("a", correct=(1, 2, 3)), make_run("b", correct=(2, 3, 4))])
    assert headlines(runs) == [
        "`b` had 2.00 distinct correct solutions a problem (1.67), Pass@1 of 75.0 % (50.0 %) and Pass@4 of 100.0 % (100.0 %) "
        "after 3 steps, `a` in brackets; clear of chance over problems: Pass@1."
    ]
    assert "<code>b</code> had 2.00 distinct correct solutions" in make_page(runs, title="x")


def test_without_a_difference_it_says_so(make_run: MakeRun) -> None:
    runs = load_runs([make_run("a"), make_run("b")])
    (sentence,) = headlines(runs)
    assert sentence.endswith("; no difference is clear of chance over problems.")


def test_runs_that_share_no_problem_have_no_sentence(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b")]
    for file in paths[1].glob("evaluations/*"):
        file.write_text(file.read_text().replace('"problem": "', '"problem": "x'))
    runs = load_runs(paths)
    assert headlines(runs) == []
    one = load_runs([paths[0]])
    assert headlines(one) == []
