import pytest

from progrpo.report.paper.panels import advantage_form
from progrpo.report.wording import (
    duration,
    made_with,
    method,
    p_value,
    plain_prompt,
    significant,
)
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval

SHARE = Quantity(key="pass@1", label="Pass@1", unit="%", percent=True)


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
    assert SHARE.range(Interval(mean=0.0, low=-0.01, high=0.02, count=3), signed=True) == "[−1.0, +2.0]"


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


def test_made_with_leaves_out_what_was_not_recorded() -> None:
    assert made_with({"python": "3.11", "device": "cpu", "threads": 1}) == "python 3.11, on cpu with 1 thread"
    several = {"device": "cpu", "threads": 2, "processes": 3}
    assert made_with(several) == "on cpu with 2 threads in each of 3 processes"
    assert made_with({"device": "cpu", "processes": 1}) == "on cpu"
    assert made_with({}) == ""


@pytest.mark.parametrize(
    ("chosen", "form"),
    [
        ({"name": "grpo", "clip_high": 0.28}, "grpo"),
        ({"name": "progrpo", "baseline": "prompt", "alpha": 0.3}, "c(q) − c(o), α 0.3"),
        ({"name": "progrpo", "baseline": "one_minus_prompt", "alpha": 1.0}, "1 − c(q) − c(o), α 1"),
        (
            {"name": "progrpo", "baseline": "group_mean", "skip": "all_wrong"},
            "mean c(o) − c(o), all-incorrect groups left alone",
        ),
        ({"name": "progrpo", "baseline": "none", "apply_to": "correct"}, "−c(o), correct only"),
        ({"name": "progrpo", "preset": "paper"}, "progrpo (preset paper)"),
        (
            {
                **{
                    "name": "progrpo",
                    "baseline": "correct_mean",
                    "score": "log_c",
                    "spread": "group_std",
                    "alpha": 0.6,
                },
                **{"apply_to": "correct", "skip": "all_wrong"},
            },
            "(mean log c(o) of the correct − log c(o)) / std, α 0.6, correct only, all-incorrect groups left alone",
        ),
        (
            {"name": "progrpo", "baseline": "group_mean", "score": "log_prob", "length_trend": "remove"},
            "mean log p(o) − log p(o), less its trend in the length",
        ),
    ],
)
def test_the_form_of_an_advantage(chosen: dict[str, object], form: str) -> None:
    assert advantage_form({"method": chosen}) == form


def test_a_model_that_was_only_evaluated_has_no_form() -> None:
    assert advantage_form({"model": {"path": "x"}}) is None
    assert method({"model": {"path": "x"}}) == "–"


def test_prompts_of_messages_are_one_text() -> None:
    assert plain_prompt("2+2=") == "2+2="
    assert (
        plain_prompt([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]) == "system: s\n\nuser: u"
    )


@pytest.mark.parametrize(("value", "text"), [(1.0, "1.00"), (0.25, "0.25"), (0.0625, "0.062"), (0.0001, "< 0.001")])
def test_p_values(value: float, text: str) -> None:
    assert p_value(value) == text
