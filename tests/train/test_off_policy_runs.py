import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.errors import ConfigError, EngineError
from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings

Make = Callable[..., dict[str, Any]]

APART = """
from dataclasses import replace
from progrpo.engines import Capabilities
from progrpo.engines.hf import HfEngine, Params

class Apart(HfEngine):
    capabilities = Capabilities(samples_trained_weights=False)

    def generate(self, requests, sampling, **kwargs):
        results = super().generate(requests, sampling, **kwargs)
        return [replace(result, completions=tuple(
            replace(one, sampler_logprobs=one.sampler_logprobs + {shift}) for one in result.completions
        )) for result in results]

def make(model, params):
    return Apart(model, params)
"""
ONE = {"evaluate": {"every": 0}, "checkpoint": {"every": 1}}


def rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    return list(read_jsonl(train(parse(RunSettings, data, where="test")).path / "metrics.jsonl"))


@pytest.fixture
def apart(make_module: Callable[[str], str]) -> Callable[[float], dict[str, str]]:
    """An engine whose log-probs are the trainer's and a constant."""
    return lambda shift: {"name": make_module(APART.replace("{shift}", repr(shift)))}


def test_off_by_default(settings: Make, apart: Any, plain_run: Path, tmp_path: Path) -> None:
    found = rows(settings(engine=apart(-0.05)))
    plain = list(read_jsonl(plain_run / "metrics.jsonl"))
    assert [row["policy/grad_norm"] for row in found[1:]] == pytest.approx(
        [row["policy/grad_norm"] for row in plain[1:]], rel=1e-5
    )
    assert {row.get("off_policy/weight") for row in found} == {None}
    assert [row["sampler/gap"] for row in found[1:]] == pytest.approx([0.05] * 4, rel=1e-3)
    assert [row["sampler/staleness"] for row in found[1:]] == [0.0] * 4


@pytest.mark.parametrize(
    ("shift", "chosen", "weight"),
    [
        # Every ratio is e^0.1 = 1.1052: the gradient is as many times as long.
        (-0.1, {"level": "token"}, math.exp(0.1)),
        (-0.1, {"level": "token", "limit": 1.05}, 1.05),
        (0.1, {"level": "token", "floor": 0.95}, 0.95),
    ],
)
def test_the_gradient_is_weighted(
    settings: Make, apart: Any, plain_run: Path, shift: float, chosen: dict[str, Any], weight: float
) -> None:
    data = settings(engine=apart(shift), off_policy=chosen | {"gap": None}, steps=1, **ONE)
    (row,) = rows(data)
    plain = list(read_jsonl(plain_run / "metrics.jsonl"))[1]
    assert row["policy/grad_norm"] == pytest.approx(weight * plain["policy/grad_norm"], rel=1e-4)
    assert row["off_policy/weight"] == pytest.approx(weight, rel=1e-4)
    assert row["off_policy/cut"] == (0.0 if weight == math.exp(0.1) else 1.0)
    assert row["off_policy/effective_share"] == pytest.approx(1.0)


def test_a_mask_takes_out_what_it_masks(settings: Make, apart: Any) -> None:
    """Completions of up to ten tokens: e^(0.1 n) is above 1.5 from five tokens on."""
    data = settings(engine=apart(-0.1), steps=1, **ONE)
    (row,) = rows(data | {"off_policy": {"level": "sequence", "mode": "mask", "limit": 1.5, "gap": None}})
    lengths = [one["length"] for one in read_jsonl(Path(data["out"]) / "rollouts" / "step-000001.jsonl")]
    expected = sum(n * math.exp(0.1 * n) for n in lengths if n < 5) / sum(lengths)
    assert row["off_policy/weight"] == pytest.approx(expected, rel=1e-4)
    assert row["off_policy/cut"] == pytest.approx(sum(n for n in lengths if n >= 5) / sum(lengths))


def test_a_wide_gap_is_said_and_ends_the_run_if_asked(
    settings: Make, apart: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    data = settings(engine=apart(-0.4), steps=1, **ONE)
    with caplog.at_level(logging.WARNING):
        rows(data)
    said = "step 1: alarm sampler_gap: the sampler's log-probs are 0.4 nats from the trainer's at the 95th percentile"
    assert said in caplog.text
    with pytest.raises(EngineError, match="0.4 nats .* nothing was learnt from this rollout"):
        rows(data | {"out": str(tmp_path / "stopped"), "off_policy": {"stop": True}})
    rows(data | {"out": str(tmp_path / "near"), "off_policy": {"stop": True, "gap": 0.5}})
    caplog.clear()
    rows(data | {"out": str(tmp_path / "quiet"), "alarms": {"ignore": "sampler_gap"}})
    assert "nats from the trainer" not in caplog.text


def test_what_would_change_nothing_is_refused(settings: Make, apart: Any) -> None:
    for engine, old in (({"name": "hf"}, "auto"), (apart(0.0), "engine")):
        with pytest.raises(ConfigError, match="every weight would be 1; set old_logprobs=trainer"):
            rows(settings(engine=engine, old_logprobs=old, off_policy={"level": "token"}))
    with pytest.raises(ConfigError, match="method 'flowrl' has a loss of whole groups"):
        rows(settings(engine=apart(0.0), method={"name": "flowrl"}, off_policy={"level": "token"}))
    with pytest.raises(ConfigError, match="floor=3 is not below limit=2"):
        rows(settings(off_policy={"floor": 3}))
