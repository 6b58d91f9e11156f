import logging
from collections.abc import Callable
from typing import Any

import pytest

from progrpo import methods
from progrpo.methods import Alarm
from progrpo.settings import Choice
from progrpo.train.alarms import Alarms
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from progrpo.types import WeightedMean

SMALL = Alarm(low=0.01, high=1.0, low_text="too small", high_text="too large")


def hear(alarms: Alarms, *values: WeightedMean | float) -> list[list[str]]:
    return [alarms.hear({"share": value}) for value in values]


def test_it_speaks_once_after_three_rollouts_and_again_only_after_it_was_silent() -> None:
    said = hear(Alarms({"share": SMALL}), *[WeightedMean(0.004, 1)] * 5)
    assert said == [[], [], ["share is 0.004 over the last 3 rollouts: too small"], [], []]
    alarms = Alarms({"share": SMALL})
    # means over the last ten: back in range once a 1 is among them, below again when it has left
    said = hear(alarms, *[WeightedMean(0.0, 1)] * 3, WeightedMean(1.0, 1), *[WeightedMean(0.0, 1)] * 10)
    assert [n for n, texts in enumerate(said) if texts] == [2, 13]


def test_the_mean_is_of_sums() -> None:
    # (0.1 + 4 + 0.1) / (10 + 1 + 10) = 0.2 is in range, though the mean of 0.01, 4 and 0.01 is above 1
    assert hear(Alarms({"share": SMALL}), WeightedMean(0.1, 10), WeightedMean(4.0, 1), WeightedMean(0.1, 10))[-1] == []
    assert hear(Alarms({"share": SMALL}), *[WeightedMean(4.0, 1)] * 3)[-1] == [
        "share is 4 over the last 3 rollouts: too large"
    ]


def test_what_counted_nothing_is_not_heard() -> None:
    assert hear(Alarms({"share": SMALL}), *[WeightedMean(0.0, 0)] * 5) == [[]] * 5
    assert Alarms({"share": SMALL}).hear({"other": WeightedMean(9.0, 1)}) == []


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"name": "progrpo", "alpha": 1e-4}, "this run is GRPO"),
        ({"name": "grpo", "add": {"name": "progrpo", "alpha": 1e-4}}, "this run is GRPO"),
        ({"name": "progrpo", "preset": "balanced", "alpha": 50.0}, "outweighs the verdicts"),
        ({"name": "progrpo", "alpha": 0.0}, None),
        ({"name": "grpo"}, None),
    ],
)
def test_a_run_says_so(
    settings: Callable[..., dict[str, Any]],
    method: dict[str, Any],
    expected: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes = {"method": method, "evaluate": {"every": 0}, "batch": {"prompts": 8, "group": 6, "micro_tokens": 512}}
    with caplog.at_level(logging.WARNING, logger="progrpo.train.rollout_record"):
        train(RunSettings(**settings(**changes)))
    said = [record.getMessage() for record in caplog.records if "progrpo/shift_share" in record.getMessage()]
    assert len(said) == (expected is not None)
    assert all(expected in text and text.startswith("step 3: ") for text in said)


def test_alarms_of_a_method_and_of_what_is_added() -> None:
    method = methods.load(Choice(name="progrpo"))
    assert set(method.alarms) == {"progrpo/shift_share"}
    assert methods.load(Choice(name="grpo")).alarms == {}
    assert methods.load(Choice(name="grpo", add="progrpo")).alarms == method.alarms
