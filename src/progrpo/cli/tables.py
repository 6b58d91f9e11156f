"""Tables on the terminal, and texts cut to fit into them."""

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text


def make_table(title: str, *columns: str | tuple[str, JustifyMethod]) -> Table:
    """A table without rows; a column is its heading, or that and how it is aligned (to the left without)."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        heading, justify = column if isinstance(column, tuple) else (column, None)
        table.add_column(Text(heading), justify=justify or "left", overflow="fold")
    return table


def excerpt(text: str, most: int = 48) -> str:
    """The text in one line, cut to so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
