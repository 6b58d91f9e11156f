"""A table in the paper's shape, once as data: the page, Markdown, CSV and LaTeX are all written from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from progrpo.files import make_folder, write_whole
from progrpo.report.evaluations import HELD_OUT
from progrpo.report.wording import NOTHING
from progrpo.schema.quantity import Quantity, fixed
from progrpo.statistics import Interval

_MANIFEST = ".progrpo-tables"
"""Lists the files that an earlier page wrote into the folder: these, and no others, are removed when they are no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One number, in the unit its table shows (percent, rating points, or none).

    Attributes:
        low, high: its 95 % interval; None where there is none.
    """

    number: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, interval: Interval | None, measure: Quantity) -> "Value | None":
        """An interval of a measure in that unit; None of none."""
        if interval is None:
            return None
        scale = 100 if measure.percent else 1
        return cls(number=interval.mean * scale, low=interval.low * scale, high=interval.high * scale)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of numbers; with two parts a cell reads "43.3 / 68.5"."""

    key: str
    label: str
    parts: tuple[Quantity, ...]

    @property
    def unit(self) -> str:
        """Names of the parts and their unit."""
        names = " / ".join(part.label for part in self.parts)
        unit = self.parts[0].unit
        return f"{names}, {unit}" if unit else names


Values = dict[tuple[str, str], Value]
"""The known numbers of a row by the keys of column and part; the others stay blank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One row.

    Attributes:
        run: index of the run; None for a row of the paper.
        texts: of the columns of words, as many as the table has.
    """

    run: int | None
    texts: tuple[str, ...]
    values: Values

    @property
    def of_paper(self) -> bool:
        return self.run is None

    def cell(self, column: Column) -> list[Value | None]:
        """One value for each part of the column; None is unknown."""
        return [self.values.get((column.key, part.key)) for part in column.parts]


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """One of the paper's tables, filled with what the runs have.

    Attributes:
        name: of its files, "table-2-paper".
        title: says which table of the paper it is.
        words: headings of the columns of words; the first names the row.
    """

    name: str
    title: str
    caption: str
    words: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    lead: int = 2
    """So many of the columns of words stand before the numbers, the others after them."""


def paper_table(
    number: str,
    about: str,
    preset: str | None,
    *,
    caption: str,
    words: Sequence[str],
    columns: Sequence[Column],
    rows: Sequence[TableRow],
) -> PaperTable:
    """A table named by its number in the paper and by a preset, without the columns of which no row has a number.

    Args:
        about: what its title says between the two.
    """
    known = {key for row in rows for key, _ in row.values}
    of_preset = f"preset {preset}" if preset else "settings of no preset"
    return PaperTable(
        name=f"table-{number}" + (f"-{preset}" if preset else ""),
        title=f"Table {number} {about}, "
        + ("held-out problems of the training runs" if preset == HELD_OUT else of_preset),
        caption=caption,
        words=tuple(words),
        columns=tuple(column for column in columns if column.key in known),
        rows=tuple(rows),
    )


def row_values(columns: Sequence[Column], value: Callable[[Column, Quantity], Value | None]) -> Values:
    """The numbers of a row, from what gives the value of a part of a column."""
    return {
        (column.key, part.key): known
        for column in columns
        for part in column.parts
        if (known := value(column, part)) is not None
    }


def shown(column: Column, values: Sequence[Value | None]) -> str:
    """A cell in words; "" where nothing of it is known."""
    parts = zip(column.parts, values, strict=True)
    texts = [NOTHING if value is None else fixed(value.number, part.digits) for part, value in parts]
    return "" if all(value is None for value in values) else " / ".join(texts)


def ranges(column: Column, values: Sequence[Value | None]) -> list[str]:
    """The intervals of a cell in words, those there are."""
    return [
        f"[{fixed(value.low, part.digits)}, {fixed(value.high, part.digits)}]"
        for part, value in zip(column.parts, values, strict=True)
        if value is not None and value.low is not None and value.high is not None
    ]


def to_markdown(table: PaperTable) -> str:
    """A title, the table, and its caption."""
    frame = _frame(table)
    rule = ["---" if side == "l" else "---:" for side in _shape(table)]
    rows = [" | ".join(cell.replace("|", r"\|") for cell in cells) for cells in (frame, rule, *frame.to_numpy())]
    grid = "\n".join(f"| {row} |" for row in rows)
    return f"**{table.title}**\n\n{grid}\n\n{table.caption}\n"


def to_csv(table: PaperTable) -> str:
    """One line per row, three columns per number (value, low, high), in full precision; unknown is empty."""
    parts = [f"{column.label} {part.label}" for column in table.columns for part in column.parts]
    heads = ["table", "kind", *table.words, *(part + end for part in parts for end in ("", " low", " high"))]
    rows = []
    for row in table.rows:
        values = [value for column in table.columns for value in row.cell(column)]
        numbers = [getattr(value, name, None) for value in values for name in ("number", "low", "high")]
        rows.append([table.name, "paper" if row.of_paper else "run", *row.texts, *numbers])
    written: str = pd.DataFrame(rows, columns=heads, dtype=object).to_csv(index=False, lineterminator="\n")
    return written


def to_latex(table: PaperTable) -> str:
    """A `table` environment with booktabs rules, one of them between the runs and the rows of the paper."""
    frame = _frame(table).map(_tex)
    frame.columns = frame.columns.map(_tex)
    written: str = frame.style.hide(axis="index").to_latex(
        hrules=True,
        position_float="centering",
        column_format=_shape(table),
        caption=_tex(f"{table.title}. {table.caption}"),
    )
    lines = written.splitlines()
    runs = sum(not row.of_paper for row in table.rows)
    if 0 < runs < len(table.rows):
        lines.insert(lines.index(r"\midrule") + 1 + runs, r"\midrule")
    return "\n".join([r"% needs \usepackage{booktabs}", *lines, ""])


def write_tables(tables: Sequence[PaperTable], folder: Path) -> None:
    """Write each table three times into `folder`; what an earlier page wrote there and this one does not is removed.

    Without tables no folder is made.
    """
    wanted = [f"{table.name}{suffix}" for table in tables for suffix in (".md", ".csv", ".tex")]
    manifest = folder / _MANIFEST
    for name in manifest.read_text("utf-8").split("\n") if manifest.is_file() else ():
        if name and name not in wanted and Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
    if tables:
        make_folder(folder)
    if folder.is_dir():
        write_whole(manifest, "\n".join(wanted))
    for table in tables:
        for suffix, write in ((".md", to_markdown), (".csv", to_csv), (".tex", to_latex)):
            write_whole(folder / f"{table.name}{suffix}", write(table))


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "α": r"$\alpha$",
        "\N{MINUS SIGN}": "$-$",
        NOTHING: "--",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)


def _frame(table: PaperTable) -> pd.DataFrame:
    """The table in words."""
    heads = _ordered(table, table.words, [f"{column.label} ({column.unit})" for column in table.columns])
    rows = [
        _ordered(table, row.texts, [shown(column, row.cell(column)) for column in table.columns]) for row in table.rows
    ]
    return pd.DataFrame(rows, columns=heads, dtype=object)


def _ordered(table: PaperTable, words: Sequence[str], numbers: Sequence[str]) -> list[str]:
    return [*words[: table.lead], *numbers, *words[table.lead :]]


def _shape(table: PaperTable) -> str:
    return "".join(_ordered(table, "l" * len(table.words), "r" * len(table.columns)))
