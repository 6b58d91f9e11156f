"""The alarms of a run: each by numbers worked out by hand, then in runs: said once, kept over a stop, and ending the run."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo import methods
from progrpo.errors import AlarmError, ConfigError
from progrpo.files import read_jsonl
from progrpo.methods import Alarm
from progrpo.rollout.bundle import bundle_paths, read_bundle
from progrpo.settings import Choice, parse
from progrpo.train.alarms.history import History, trend
from progrpo.train.alarms.settings import AlarmSettings
from progrpo.train.alarms.watching import AlarmEvent, Alarms
from progrpo.train.settings import RunSettings
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]
SMALL = {"share": Alarm(low=0.01, high=1.0, low_text="too small", high_text="too large")}


def rows(**metrics: Iterable[float | None]) -> list[dict[str, Any]]:
    """Rows from step 1 on; a key's first "__" is its "/"."""
    names = [name.replace("__", "/", 1).replace("_at_", "@") for name in metrics]
    return [
        {"step": step, **dict(zip(names, values, strict=True))}
        for step, values in enumerate(zip(*metrics.values(), strict=True), start=1)
    ]


def heard(name: str, given_rows: Iterable[Mapping[str, Any]], **settings: Any) -> list[tuple[str, int]]:
    """What one alarm says of these rows: (event, step)."""
    alarms = Alarms(AlarmSettings(**settings), {})
    return [(one.event, one.step) for row in given_rows for one in alarms.hear(row) if one.alarm == name]


def begins(name: str, **metrics: Iterable[float | None]) -> list[int]:
    return [step for event, step in heard(name, rows(**metrics)) if event == "begins"]


def test_a_line_fitted_by_hand() -> None:
    # 1, 2, 6: mean 3, i - 1 = -1, 0, 1: slope (-1 * -2 + 1 * 3) / 2 = 2.5, last value 3 + 2.5
    assert trend([1, 2, 6]) == (2.5, 5.5)
    with pytest.raises(ValueError, match="got 1"):
        trend([1.0])


@given(st.floats(-5, 5), st.floats(-1, 1), st.integers(2, 30))
def test_a_line_is_fitted_exactly(start: float, slope: float, count: int) -> None:
    fitted = trend([start + slope * i for i in range(count)])
    assert fitted == pytest.approx((slope, start + slope * (count - 1)), abs=1e-9)


def test_each_rollout_counts_once() -> None:
    history = History(2, [{"step": step, "rollout/reward": value} for step, value in enumerate([9, 1, 1, 2, 2, 3])])
    # step 0 is no rollout; steps 1 and 2 are the first, 3 and 4 the second, 5 begins the third
    assert history.rollouts("rollout/reward") == [1, 2, 3]
    assert history.rollouts("rollout/reward", 2) == [2, 3]
    assert history.recent("rollout/reward", 2, 1) == 2.5
    assert history.recent("rollout/reward", 9, 4) is None
    assert [point.step for point in history.steps("rollout/reward", 2)] == [4, 5]
    assert history.rollout_points("rollout/reward", 2) == [(3, 2), (5, 3)]


def test_entropy_that_falls_to_a_quarter() -> None:
    # e^(-0.05 i) from i = 0 on, times 2: the mean of the first ten is 2 (1 - e^-0.5) / (10 (1 - e^-0.05)) = 2 * 0.8068. The
    # median of the last five, that of i - 2, is a quarter of it from i - 2 = ln(4 / 0.8068) / 0.05 = 32.02 on: i = 35, step 36
    falling = [2.0 * 0.95122942**i for i in range(60)]
    assert begins("entropy_collapse", rollout__entropy=falling) == [36]
    # lower from the tenth rollout on, and not by so much
    level = [1.0] * 10 + [0.3] * 80
    assert begins("entropy_collapse", rollout__entropy=level) == []
    # a single rollout without entropy is none
    assert begins("entropy_collapse", rollout__entropy=[1.0] * 30 + [0.01] + [1.0] * 30) == []
    # it stays where what is left stops falling, and is over where entropy is back
    back = [*falling, *([falling[-1]] * 100), *([2.0] * 60)]
    assert [event for event, _ in heard("entropy_collapse", rows(rollout__entropy=back))] == ["begins", "ends"]


@given(st.lists(st.floats(0.5, 2.0), min_size=20, max_size=60), st.floats(0.01, 100))
def test_entropy_is_judged_by_its_own_start(values: list[float], unit: float) -> None:
    """A run of which no rollout lies below a quarter of another raises none, and nats or bits are the same."""
    assert begins("entropy_collapse", rollout__entropy=values) == []
    falling = [value * 0.9**i for i, value in enumerate(values)]
    scaled = [value * unit for value in falling]
    assert begins("entropy_collapse", rollout__entropy=falling) == begins("entropy_collapse", rollout__entropy=scaled)


def test_length_that_grows_without_use() -> None:
    length = [20.0] * 10 + [30.0] * 10
    # means over five: 20 up to rollout 10, then 22, 24, 26, 28, 30: 1.5 times 20 is reached with rollout 15
    assert begins("length_blow_up", rollout__length=length, rollout__correct=[0.3] * 20) == [15]
    assert begins("length_blow_up", rollout__length=length, rollout__correct=[0.3] * 10 + [0.4] * 10) == []
    assert begins("length_blow_up", rollout__length=[20.0] * 10 + [29.0] * 20, rollout__correct=[0.3] * 30) == []


@pytest.mark.parametrize(
    ("name", "key", "values", "step"),
    [
        ("repeated_text", "rollout__repeated", [0.0, 0.0, 0.1, 0.2, 0.2], 5),  # 0.5 / 5 = 0.1
        ("truncation", "rollout__truncated", [0.2, 0.2, 0.2, 0.2, 0.2, 0.5], 6),  # 1.5 / 6 = 0.25
        ("zero_std_groups", "rollout__zero_std_groups", [0.5, 0.9, 0.9, 0.9, 0.8], 5),  # 4 / 5 = 0.8
        ("duplicates", "rollout__duplicates", [0.9] * 6, 5),
        ("verdict_failures", "verdict__bad_gold", [0.0, 0.1, 0.05], 3),  # 0.15 / 3 = 0.05
        ("nothing_correct", "rollout__correct", [*[0.0] * 11, 0.05, 0.0], 10),  # 0.005 does not end it
        ("nothing_to_learn", "policy__trained_share", [0.5, 0.0, 0.0, 0.5], 2),
        ("sampler_gap", "sampler__gap_p95", [0.0, 0.0, 0.4, 0.4], 4),  # medians 0, 0, 0, 0.4
        ("sampler_gap", "sampler__gap_p95", [0.31], 1),
        ("frozen_engine", "sampler__unchanged", [0.0, 1.0, 1.0, 1.0], 4),
        ("frozen_engine", "sampler__unchanged", [1.0, 1.0, 0.5, 1.0, 1.0, 1.0], 6),  # one of two processes took them
    ],
)
def test_shares_at_their_threshold(name: str, key: str, values: list[float], step: int) -> None:
    assert begins(name, **{key: values}) == [step]
    # a little less is none
    less = [value * 0.99 for value in values] if name not in ("nothing_correct", "nothing_to_learn") else None
    if less is not None and name != "sampler_gap":
        assert begins(name, **{key: less[:step]}) == []


def test_pass_at_k_that_falls_while_the_reward_rises() -> None:
    reward = [0.3] * 10 + [0.5] * 10
    evaluated = [0.9, *[None] * 9, 0.85, *[None] * 8, 0.79]
    both: dict[str, Any] = {"rollout__reward": reward, "evaluate__pass_at_8": evaluated}
    # of the largest k: Pass@1 may do what it will
    assert begins("pass_at_k_falls", **both, evaluate__pass_at_1=[0.9, *[None] * 9, 0.5, *[None] * 9]) == [20]
    assert begins("pass_at_k_falls", **both | {"rollout__reward": reward[::-1]}) == []
    assert begins("pass_at_k_falls", **both | {"evaluate__pass_at_8": [0.8, *[None] * 18, 0.71]}) == []


def test_the_reward_beside_pass_at_k_is_of_rollouts_not_of_steps() -> None:
    # Two steps a rollout, each logs its reward. The best is before step 1: means of the two rollouts after it and of the last
    # two, 0.25 and 0.25; of two steps they would be 0.1 and 0.2, a rise.
    reward = [0.1, 0.1, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2]
    evaluated = [*[None] * 7, 0.5]
    given_rows = [{"step": 0, "evaluate/pass@8": 0.9}, *rows(rollout__reward=reward, evaluate__pass_at_8=evaluated)]
    settings = AlarmSettings(pass_at_k_falls={"window": 2})

    def begun(per_rollout: int) -> list[str]:
        alarms = Alarms(settings, {}, per_rollout=per_rollout)
        return [one.alarm for row in given_rows for one in alarms.hear(row)]

    assert "pass_at_k_falls" not in begun(2)
    assert "pass_at_k_falls" in begun(1)


def test_three_spikes_of_the_gradient() -> None:
    norms = [1.0] * 20 + [10.5, 1.0, 10.5, 1.0, 9.5, 10.5]
    assert begins("gradient_spikes", policy__grad_norm=norms) == [26]
    assert heard("gradient_spikes", rows(policy__grad_norm=norms + [1.0] * 60))[-1][0] == "ends"
    assert begins("gradient_spikes", policy__grad_norm=[0.0] * 30) == []


def hear(alarms: Alarms, *values: float | None) -> list[list[AlarmEvent]]:
    return [alarms.hear(row) for row in rows(share=values)]


def test_the_range_of_a_method_is_said_once_and_again_after_it_was_left() -> None:
    said = hear(Alarms(AlarmSettings(), SMALL), *[0.004] * 5)
    assert [[one.text for one in events] for events in said] == [
        [],
        [],
        ["0.004 (median of 3 rollouts): too small"],
        [],
        [],
    ]
    # the median is in range from the fourth of the larger ones on (0.25), and below again with the sixth of the last ones
    said = hear(Alarms(AlarmSettings(), SMALL), *[0.0] * 4, *[0.5] * 6, *[0.0] * 6)
    assert [(one.event, one.step) for events in said for one in events] == [("begins", 3), ("ends", 8), ("begins", 16)]
    assert hear(Alarms(AlarmSettings(), SMALL), None, None, None, 4.0, 4.0) == [[]] * 5


def test_what_is_ignored_is_not_raised_and_unknown_names_are_told() -> None:
    failing = rows(rollout__truncated=[1.0] * 5)
    assert heard("truncation", failing) == [("begins", 5)]
    assert heard("truncation", failing, ignore="truncation") == []
    assert heard("truncation", failing, watch=False) == []
    with pytest.raises(
        ConfigError, match=r"alarms.stop: there is no alarm 'entropy_colapse'; did you mean 'entropy_collapse'"
    ):
        Alarms(AlarmSettings(stop=("entropy_colapse",)), {})
    with pytest.raises(
        ConfigError, match=r"alarms.ignore: there is no alarm 'x'; There are duplicates, .*share.*truncation"
    ):
        Alarms(AlarmSettings(ignore=("x",)), SMALL)
    assert Alarms(AlarmSettings(stop=("share",)), SMALL).ended == ""


@given(st.integers(0, 60), st.lists(st.floats(0, 1), min_size=60, max_size=60))
def test_a_history_read_again_says_what_was_said(stop: int, values: list[float]) -> None:
    everything = rows(
        rollout__truncated=values,
        rollout__entropy=values[::-1],
        rollout__correct=values,
        policy__grad_norm=[1 / (value + 0.01) for value in values],
        rollout__length=[10 + 90 * value for value in values],
        policy__trained_share=[float(value > 0.1) for value in values],
    )
    whole, first = Alarms(AlarmSettings(), {}), Alarms(AlarmSettings(), {})
    events = [event for row in everything for event in whole.hear(row)]
    before = [event for row in everything[:stop] for event in first.hear(row)]
    second = Alarms(AlarmSettings(), {}, rows=everything[:stop])
    assert events == before + [event for row in everything[stop:] for event in second.hear(row)]


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
    settings: Make, method: dict[str, Any], expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"method": method, "evaluate": {"every": 0}, "batch": {"prompts": 8, "group": 6, "micro_tokens": 512}}
    with caplog.at_level(logging.WARNING, logger="progrpo.train.rollout_record"):
        path = run(settings(**changes))
    said = [record.getMessage() for record in caplog.records if "progrpo/shift_share" in record.getMessage()]
    assert len(said) == (expected is not None)
    assert all(expected in text and text.startswith("step 3: alarm progrpo/shift_share: ") for text in said)
    events = [one for one in read_jsonl(path / "alarms.jsonl") if one["alarm"] == "progrpo/shift_share"]
    assert [(one["step"], one["event"]) for one in events] == [(3, "begins")] * len(said)


def test_alarms_of_a_method_and_of_what_is_added() -> None:
    method = methods.load(Choice(name="progrpo"))
    assert set(method.alarms) == {"progrpo/shift_share"}
    assert methods.load(Choice(name="grpo")).alarms == {}
    assert methods.load(Choice(name="grpo", add="progrpo")).alarms == method.alarms


def cut(settings: Make, out: Path, steps: int, **alarms: Any) -> dict[str, Any]:
    """A run whose completions are all cut: truncation is raised at step 5."""
    changes = {"evaluate": {"every": 0}, "checkpoint": {"every": 0}, "sampling": {"max_new_tokens": 1}}
    return settings(out=str(out), steps=steps, alarms=alarms, **changes)


def test_a_run_that_goes_on_raises_the_same_alarms_once(
    settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    whole = run(cut(settings, tmp_path / "whole", 7), listen=lambda event, data: told.append((event, data)))
    assert [data["alarm"] for event, data in told if event == "alarm"].count("truncation") == 1
    for stop in (3, 5):
        part = tmp_path / f"part-{stop}"
        run(cut(settings, part, stop))
        run(cut(settings, part, 7), resume=True)
        assert (part / "alarms.jsonl").read_text() == (whole / "alarms.jsonl").read_text()
    raised = {one["alarm"]: one for one in read_jsonl(whole / "alarms.jsonl")}
    assert raised["truncation"]["step"] == 5
    assert "100.0% of the completions are cut" in raised["truncation"]["text"]
    assert caplog.text.count("step 5: alarm truncation") == 3


def test_an_alarm_ends_the_run_with_a_checkpoint_until_it_is_let_go(settings: Make, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(AlarmError, match=r"ends after step 5, which has its checkpoint: alarm truncation at step 5"):
        run(cut(settings, out, 8, stop=["truncation"]))
    assert AlarmError.exit_code == 4
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000005"]
    with pytest.raises(AlarmError, match="after step 5"):
        run(cut(settings, out, 8, stop=["truncation"]), resume=True)
    assert read_jsonl(out / "metrics.jsonl")[-1]["step"] == 5
    run(cut(settings, out, 8), resume=True)
    assert read_jsonl(out / "metrics.jsonl")[-1]["step"] == 8
    assert sum(one["alarm"] == "truncation" for one in read_jsonl(out / "alarms.jsonl")) == 1
    # at the last step there is nothing to end
    run(cut(settings, tmp_path / "last", 5, stop=["truncation"]))


def test_an_unknown_name_is_told_before_anything_is_made(settings: Make) -> None:
    data = settings(alarms={"stop": ["truncatoin"]})
    with pytest.raises(ConfigError, match="no alarm 'truncatoin'; did you mean 'truncation'"):
        run(data)
    assert not Path(data["out"]).exists()
    with pytest.raises(ConfigError, match=r"alarms.truncation.share: .*less than or equal to 1, got 2"):
        parse(RunSettings, settings(alarms={"truncation": {"share": 2}}), where="test")


def test_every_alarm_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text("utf-8")
    for name, check in AlarmSettings().checks.items():
        assert f"\n### {name}\n" in page
        section = page.split(f"\n### {name}\n")[1].split("\n### ")[0]
        assert f"`{check.metric}`" in section
        for threshold, value in check.model_dump().items():
            assert f"`{threshold}={json.dumps(value)}`" in section, f"{name}: {threshold}={value}"


def test_finished_runs_are_played_through_the_alarms(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from replay_alarms import main

    path = run(cut(settings, tmp_path / "run", 5))
    capsys.readouterr()
    main([str(path)])
    assert "truncation begins at 5" in capsys.readouterr().out
    main([str(path), "alarms.ignore=[truncation]"])
    assert "truncation" not in capsys.readouterr().out
    with pytest.raises(ConfigError, match="steps: expected overrides of alarms alone"):
        main([str(path), "steps=3"])


def test_the_rollout_of_an_alarm_is_kept(settings: Make, tmp_path: Path) -> None:
    path = run(cut(settings, tmp_path / "run", 7))
    why = {step: read_bundle(file).header["kept_for"] for step, file in bundle_paths(path).items()}
    assert "alarm: truncation" in why[5]
    assert 6 not in why
