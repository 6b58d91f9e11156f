import re

import pytest

from progrpo.report.drawing import PANEL, canvas, to_svg, unit_axis, value_axis


@pytest.mark.parametrize(
    ("unit", "values", "limits"),
    [
        ("% of problems", [0.0, 0.0], (0.0, 0.01)),  # nothing solved: 0 to 1 %
        ("% of problems", [0.0, 0.001], (0.0, 0.01)),
        ("% of problems", [1.0, 1.0], (0.945, 1.0)),  # no more than everything is solved
        ("% of problems", [0.0, 0.5], (0.0, 0.525)),
        ("per problem", [0.0, 0.0], (0.0, 1.0)),
        ("per completion", [-1.0, 1.0], (-1.1, 1.1)),
    ],
)
def test_axes_do_not_reach_where_no_value_can_be(unit: str, values: list[float], limits: tuple[float, float]) -> None:
    with canvas() as (_, axes):
        axes.plot([1, 2], values)
        unit_axis(axes, unit)
        assert axes.get_ylim() == pytest.approx(limits)


@pytest.mark.parametrize(
    ("low", "high"), [(3.96401, 3.96409), (0.999991, 1.0), (12345.1, 12345.9), (0.0, 1.0), (0.5, 0.5), (-12.5, 80.0)]
)
def test_labels_of_values_are_whole_and_have_room(low: float, high: float) -> None:
    with canvas(*PANEL) as (figure, axes):
        axes.plot([low, high], [0, 1])
        value_axis(axes)
        axes.yaxis.set_visible(False)
        svg = to_svg(figure, "values")
    labels = re.findall(r">([^<>]+)</text>", svg)
    numbers = [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels]
    assert len(numbers) >= 2
    reach = 0.06 * abs(low) if low == high else high - low
    assert all(low - reach <= number <= high + reach for number in numbers)  # no "+3.964" beside an axis of remainders
    assert sum(len(label) + 2 for label in labels) <= 33  # of 197 / 6 characters that a panel has
