import pytest

from progrpo.statistics import Interval
from progrpo.report.wording import Measure, duration, flat, made_with, method, progress, significant

SHARE = Measure(key="pass@1", label="Pass@1", unit="%", percent=True)


@pytest.mark.parametrize(
    ("number", "signed", "text"),
    [
        (0.1234, False, "12.3"),
        (0.1234, True, "+12.3"),
        (-0.1234, True, "−12.3"),
        (-0.0001, True, "0.0"),
        (0.0, True, "0.0"),
    ],
)
def test_percentages_have_one_decimal_and_a_true_minus(number: float, signed: bool, text: str) -> None:
    assert SHARE.value(number, signed=signed) == text


def test_range() -> None:
    assert SHARE.range(Interval(mean=0.0, low=-0.01, high=0.02, problems=3), signed=True) == "[−1.0, +2.0]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(30.0, "30"), (0.123456, "0.1235"), (-1.5e-9, "−1.5e−09"), (None, "–"), (float("inf"), "inf"), ("yes", "yes")],
)
def test_significant(value: object, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(3.25, "3.2 s"), (150, "2.5 min"), (7500, "2 h 05 min")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_method_names_what_the_settings_name() -> None:
    assert method({"method": {"name": "progrpo", "preset": "theory", "alpha": 0.5}}) == "progrpo (preset theory, α 0.5)"
    assert method({"method": {"name": "grpo", "clip_high": 0.28}}) == "grpo"
    assert method({}) == "method unknown"


def test_progress() -> None:
    assert progress(30, 30) == "30 steps"
    assert progress(7, 30) == "7 of 30 steps, unfinished"


def test_made_with_leaves_out_what_was_not_recorded() -> None:
    assert made_with({"python": "3.11", "device": "cpu", "threads": 1}) == "python 3.11, on cpu with 1 thread"
    assert made_with({}) == ""


def test_flat() -> None:
    assert flat({"a": {"b": None, "c": [1]}, "d": True}) == {"a.b": "null", "a.c": "[1]", "d": "True"}
