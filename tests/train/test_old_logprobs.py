"""Whose log-probs serve as the old ones, where rounding alone could clip."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from progrpo import methods
from progrpo.engines import Capabilities
from progrpo.errors import ConfigError
from progrpo.methods import gspo
from progrpo.settings import Choice, parse
from progrpo.train.loop import train
from progrpo.train.old_logprobs import engine_scores, require_capable, rounding
from progrpo.train.plan import make_plan
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose

Make = Callable[..., dict[str, Any]]


def chosen(
    make: Make,
    method: dict[str, Any],
    precision: str,
    old: str = "auto",
    *,
    same: bool = True,
    sampled_in: str | None = None,
) -> tuple[bool, str]:
    """Whether the engine's serve, and what is said."""
    made = make(old_logprobs=old, method=method, engine={"name": "hf", "precision": sampled_in})
    settings = parse(RunSettings, made | {"model": made["model"] | {"precision": precision}}, where="test")
    engine: Any = SimpleNamespace(capabilities=SimpleNamespace(samples_trained_weights=same))
    loaded = methods.load(Choice(**method))
    return engine_scores(settings, engine, loaded), "".join(rounding(settings, loaded))


@pytest.mark.parametrize("name", ["lp_reg", "ucas", "siren"])
def test_no_engine_serves_a_method_that_reads_more_of_the_distributions(settings: Make, name: str) -> None:
    assert chosen(settings, {"name": name}, "fp32") == (False, "")
    engine: Any = SimpleNamespace(capabilities=Capabilities(samples_trained_weights=True))
    own = parse(RunSettings, settings(old_logprobs="engine", method={"name": name}), where="test")
    with pytest.raises(ConfigError, match=f"method '{name}' needs .* which engine .* old_logprobs=trainer"):
        require_capable(engine, own, methods.load(Choice(name=name)))


def test_an_engine_with_the_gradients_of_entropies_serves_clip_v(settings: Make) -> None:
    method, own = methods.load(Choice(name="clip_v")), parse(RunSettings, settings(), where="test")
    assert chosen(settings, {"name": "clip_v"}, "fp32") == (True, "")
    with_them = Capabilities(samples_trained_weights=True)
    require_capable(SimpleNamespace(capabilities=with_them), own, method)
    without: Any = SimpleNamespace(capabilities=replace(with_them, entropy_gradients=False))
    with pytest.raises(ConfigError, match="needs entropy gradients"):
        require_capable(without, own, method)


@pytest.mark.parametrize(
    ("method", "near"),
    [
        ({"name": "gspo"}, True),
        ({"name": "gspo", "clip_low": 0.1, "clip_high": 0.2}, False),
        ({"name": "kl_cov"}, True),
        ({"name": "kl_cov", "coef": 0}, False),
        ({"name": "kl_cov", "ratio": 0}, False),
        ({"name": "grpo"}, False),
        ({"name": "grpo", "clip_low": 0.2, "clip_high": 0.01}, True),
        ({"name": "progrpo"}, False),
        ({"name": "dapo"}, False),
        ({"name": "dcpo"}, False),
        ({"name": "clip_cov"}, False),
        ({"name": "cispo"}, False),
    ],
)
def test_auto_takes_the_trainers_where_rounding_would_count(settings: Make, method: dict[str, Any], near: bool) -> None:
    scores, note = chosen(settings, method, "bf16")
    assert scores is not near
    assert ("takes one more pass of the trainer" in note) is near
    assert chosen(settings, method, "fp32") == (True, "")
    assert chosen(settings, method, "bf16", same=False)[0] is False
    assert chosen(settings, method, "fp32", sampled_in="bf16") == (scores, note)
    scores, note = chosen(settings, method, "bf16", "engine")
    assert scores
    assert ("that noise is trained on; set old_logprobs=trainer" in note) is near
    assert chosen(settings, method, "bf16", "trainer") == (False, "")


def clipped(make: Make, monkeypatch: pytest.MonkeyPatch, old: str, out: str) -> tuple[int, int]:
    """Sequences of the first optimiser step whose ratio leaves GSPO's range, and all of them."""
    ratios: list[torch.Tensor] = []
    plain = gspo.token_loss

    def spy(micro: methods.MicroView, surrogate: torch.Tensor, params: Any) -> torch.Tensor:
        differences = torch.where(micro.mask, micro.logprobs.detach() - micro.old_logprobs, 0.0)
        ratios.append((differences.sum(dim=1) / micro.mask.sum(dim=1).clamp(min=1)).exp())
        return plain(micro, surrogate, params)

    monkeypatch.setattr(gspo, "token_loss", spy)
    made = make(
        out=out,
        steps=1,
        model={"path": "embedded:countdown", "precision": "bf16"},
        method={"name": "gspo"},
        reward={"name": "stand_ins.parity"},
        evaluate={},
        old_logprobs=old,
        batch={"prompts": 6, "group": 4, "micro_tokens": 256, "skip_zero_advantage": False},
    )
    train(parse(RunSettings, made, where="test"))
    ratio = torch.cat(ratios)
    return int(((ratio < 1 - 3e-4) | (ratio > 1 + 4e-4)).sum()), len(ratio)


def test_on_policy_gspo_in_bf16_clips_nothing(settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    by_engine, count = clipped(settings, monkeypatch, "engine", str(tmp_path / "engine"))
    assert count == 24
    assert by_engine > 3
    assert clipped(settings, monkeypatch, "auto", str(tmp_path / "auto")) == (0, 24)


def test_the_plan_says_so(settings: Make) -> None:
    made = settings(method={"name": "gspo"})
    half = made | {"model": made["model"] | {"precision": "bf16"}}
    said = "method gspo tells apart importance ratios 0.0003 from 1, and bf16 rounds log-probs by up to 0.031"
    assert [line for line in make_plan(choose(parse(RunSettings, half, where="test"))) if f"warning: {said}" in line]
    assert not [line for line in make_plan(choose(parse(RunSettings, made, where="test"))) if "tells apart" in line]
