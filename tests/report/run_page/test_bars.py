import re

import pytest

from progrpo.report.run_page.cost import colours_of, stacked_bars, used

COLOURS = {"a": "#000000", "b": "#ffffff", "c": "#777777"}


def bars(**parts: float) -> str:
    return stacked_bars("name", [("run", "all of it", parts)], colours=COLOURS, divisor=10, unit="tens")


def test_shares_stand_where_there_is_room() -> None:
    svg = bars(a=60, b=32, c=8)
    assert re.findall(r">(\d+%)</text>", svg) == ["60%", "32%"]  # 8 % of the bar is too narrow
    assert ">run: all of it</text>" in svg
    assert ">10</text>" in svg  # the axis ends at 100 / 10
    assert ">100</text>" not in svg


def test_shares_are_white_on_dark_and_black_on_light() -> None:
    labels = re.findall(r'style="([^"]*)"[^>]*>\d+%</text>', bars(a=50, b=50))
    assert ["fill: #ffffff" in label for label in labels] == [True, False]


def test_a_part_that_no_bar_shows_is_not_in_the_legend() -> None:
    shown = [("one", "", {"a": 1000.0, "b": 0.5, "c": 0.0}), ("two", "", {"a": 1.0, "c": 0.5})]
    # b is a twentieth of a percent of the first bar, and not in the second
    assert used(shown, COLOURS) == (("a", "#000000"), ("c", "#777777"))


@pytest.mark.parametrize("count", [1, 5, 8])
def test_every_part_has_a_colour_of_its_own(count: int) -> None:
    assert len(set(colours_of([str(n) for n in range(count)]).values())) == count
