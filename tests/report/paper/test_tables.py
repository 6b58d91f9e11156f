import csv
import io
from dataclasses import replace
from pathlib import Path

from progrpo.report.paper.tables import (
    Column,
    PaperTable,
    TableRow,
    Value,
    ranges,
    shown,
    to_csv,
    to_latex,
    to_markdown,
    write_tables,
)
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval

PASS_1 = Quantity(key="pass@1", label="Pass@1", unit="%", percent=True)
PASS_32 = Quantity(key="pass@32", label="Pass@32", unit="%", percent=True)
BLEU = Quantity(key="self_bleu_4", label="Self-BLEU-4", unit="", digits=3)
COLUMNS = (Column(key="aime24", label="AIME 2024", parts=(PASS_1, PASS_32)), Column(key="b", label="d", parts=(BLEU,)))


def table(name: str = "table-2-paper") -> PaperTable:
    third = Value.of(Interval(mean=1 / 3, low=0.25, high=0.5, count=3), PASS_1)
    assert third is not None
    return PaperTable(
        name=name,
        title="Table 2",
        caption="50 % of it.",
        words=("run", "source"),
        lead=1,
        columns=COLUMNS,
        rows=(
            TableRow(
                run=0,
                texts=("a|b_c", "this run"),
                values={("aime24", "pass@1"): third, ("b", "self_bleu_4"): Value(number=-0.0001)},
            ),
            TableRow(run=None, texts=("paper: GRPO", "stated"), values={("aime24", "pass@1"): Value(number=37.6)}),
        ),
    )


def test_cells_in_words() -> None:
    assert shown(COLUMNS[0], (Value(number=43.25), Value(number=68.5))) == "43.2 / 68.5"
    assert shown(COLUMNS[0], (Value(number=43.3), None)) == "43.3 / –"
    assert shown(COLUMNS[0], (None, None)) == ""
    assert shown(COLUMNS[1], (Value(number=-0.0123),)) == "−0.012"
    assert ranges(COLUMNS[0], (Value(number=5, low=-1, high=2), Value(number=3))) == ["[−1.0, 2.0]"]


def test_markdown() -> None:
    assert to_markdown(table()).splitlines() == [
        "**Table 2**",
        "",
        "| run | AIME 2024 (Pass@1 / Pass@32, %) | d (Self-BLEU-4) | source |",
        "| --- | ---: | ---: | --- |",
        r"| a\|b_c | 33.3 / – | 0.000 | this run |",
        "| paper: GRPO | 37.6 / – |  | stated |",
        "",
        "50 % of it.",
    ]


def test_csv_has_every_digit_and_leaves_the_unknown_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(table()))))
    assert rows[0]["AIME 2024 Pass@1"] == repr(1 / 3 * 100)
    assert (rows[0]["AIME 2024 Pass@1 low"], rows[0]["AIME 2024 Pass@1 high"]) == ("25.0", "50.0")
    assert (rows[0]["run"], rows[0]["table"], rows[0]["d Self-BLEU-4"]) == ("a|b_c", "table-2-paper", "-0.0001")
    assert [row["kind"] for row in rows] == ["run", "paper"]
    assert (rows[1]["AIME 2024 Pass@1"], rows[1]["AIME 2024 Pass@1 low"]) == ("37.6", "")
    assert {row["AIME 2024 Pass@32"] for row in rows} == {""}


def test_latex_is_escaped_and_ruled() -> None:
    lines = to_latex(table()).splitlines()
    assert r"\begin{tabular}{lrrl}" in lines
    assert r"a|b\_c & 33.3 / -- & 0.000 & this run \\" in lines
    assert r"\caption{Table 2. 50 \% of it.}" in lines
    assert lines[lines.index(r"paper: GRPO & 37.6 / -- &  & stated \\") - 1] == r"\midrule"


def test_files_of_tables_that_are_gone_are_removed_and_others_left(tmp_path: Path) -> None:
    folder = tmp_path / "page-tables"
    write_tables([], folder)
    assert not folder.exists()
    write_tables([table(), table("table-5b-held-out")], folder)
    (folder / "notes.md").touch()
    (folder / "table-mine.md").touch()
    (folder / "table-9.md").touch()  # named as ours, and not made by us
    write_tables([table()], folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".progrpo-tables",
        "notes.md",
        "table-2-paper.csv",
        "table-2-paper.md",
        "table-2-paper.tex",
        "table-9.md",
        "table-mine.md",
    ]


def test_columns_of_one_name_are_all_written() -> None:
    columns = tuple(replace(one, label="run", parts=(BLEU,)) for one in COLUMNS)
    row = TableRow(run=0, texts=("run", ""), values={("aime24", BLEU.key): Value(number=1.0)})
    twice = replace(table(), words=("run (Self-BLEU-4)", "source"), columns=columns, rows=(row,))
    assert "| run | 1.000 |  |  |" in to_markdown(twice)
    assert r"run & 1.000 &  &  \\" in to_latex(twice)
    assert to_csv(twice).splitlines()[1] == "table-2-paper,run,run,,1.0,,,,,"
