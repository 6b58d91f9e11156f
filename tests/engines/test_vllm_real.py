"""Engine vllm on vLLM itself: `make test-vllm`, which brings it in an environment of its own, runs these."""

import copy
import logging
import math
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from progrpo import engines
from progrpo.engines import Engine, Sampling
from progrpo.errors import EngineError
from progrpo.files import read_jsonl
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.model.lora import LoraSettings
from progrpo.settings import Choice, apply_overrides, parse, read_yaml
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from stand_ins.engine_contract import check_all, requests, tokens

DEMO = Path(__file__).parent.parent.parent / "recipes" / "demo" / "grpo.yaml"
MODES: dict[str, dict[str, Any]] = {
    "colocated": {"cache_gib": 0.3},
    "server": {"mode": "server", "start": True, "cache_gib": 0.3},
}

pytestmark = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vllm is missing: make test-vllm runs these in an environment of their own"
)


@pytest.fixture(scope="module")
def embedded() -> LanguageModel:
    """The embedded model; its output head is its embedding."""
    return load_model(ModelSettings(path="embedded:countdown"))


@pytest.fixture(scope="module", params=list(MODES))
def engine(request: pytest.FixtureRequest, embedded: LanguageModel) -> Iterator[Engine]:
    one = engines.load(Choice(name="vllm", **MODES[request.param]), embedded)
    yield one
    one.close()


def probe_gap(engine: Any) -> float:
    gap: float = (engine._probe if hasattr(engine, "_probe") else engine._probes[0]).gap
    return gap


def memory() -> int:
    """Bytes that this process and those it started hold."""
    own = psutil.Process()
    return sum(one.memory_info().rss for one in (own, *own.children(recursive=True)))


def test_the_contract_of_engines(engine: Engine, embedded: LanguageModel) -> None:
    check_all(engine, engines.load(Choice(name="hf"), embedded), embedded, atol=1e-5)


def test_thirty_updates_in_a_row(engine: Engine, embedded: LanguageModel) -> None:
    """After each the probe's log-probs are the trainer's, and memory stays flat."""
    generator = torch.Generator().manual_seed(0)
    sizes = []
    for version in range(1, 31):
        with torch.no_grad():
            for parameter in embedded.model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=1e-4)
        engine.update_weights(embedded.model.named_parameters(), version)
        assert engine.version == version
        assert probe_gap(engine) < 2e-5
        sizes.append(memory())
    assert sizes[-1] - sizes[9] < 32 * 2**20
    hf, sampling = engines.load(Choice(name="hf"), embedded), Sampling(max_new_tokens=10, temperature=0)
    results = engine.generate(requests(embedded), sampling)
    assert tokens(results) == tokens(hf.generate(requests(embedded), sampling))
    assert {one.policy_version for result in results for one in result.completions} == {30}


def test_truncated_sampling_says_what_its_log_probs_are(engine: Engine, embedded: LanguageModel) -> None:
    sampling = Sampling(max_new_tokens=10, temperature=0.8, top_k=2)
    for request, result in zip(requests(embedded), engine.generate(requests(embedded), sampling), strict=True):
        for one in result.completions:
            assert one.logprobs_of == "drawn"
            ids = torch.cat([request.prompt_ids, one.token_ids])[None]
            with torch.no_grad():
                logits = embedded.model(ids).logits[0, len(request.prompt_ids) - 1 : -1] / 0.8
            kept = logits.masked_fill(logits < logits.topk(2).values[:, -1:], -torch.inf).log_softmax(-1)
            assert torch.allclose(one.sampler_logprobs, kept.gather(1, one.token_ids[:, None])[:, 0], atol=1e-4)


@pytest.mark.parametrize("adapter", [True, False])
def test_an_adapter_and_an_untied_head(embedded: LanguageModel, tmp_path: Path, adapter: bool) -> None:
    if adapter:
        model = load_model(ModelSettings(path="embedded:countdown", lora=LoraSettings(r=4)))
    else:
        untied = copy.deepcopy(embedded.model)
        untied.config.tie_word_embeddings = False
        untied.lm_head.weight = torch.nn.Parameter(0.5 * untied.lm_head.weight.detach())
        untied.save_pretrained(tmp_path)
        embedded.tokenizer.save_pretrained(tmp_path)
        model = load_model(ModelSettings(path=str(tmp_path)))
    one = engines.load(Choice(name="vllm", cache_gib=0.1), model)
    generator = torch.Generator().manual_seed(1)
    try:
        for version in range(3):
            with torch.no_grad():
                for parameter in model.model.parameters():
                    if parameter.requires_grad:
                        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=1e-2)
            one.update_weights(model.model.named_parameters(), version)
            assert probe_gap(one) < 2e-5
    finally:
        one.close()


def demo(out: Path, *overrides: str) -> list[dict[str, Any]]:
    words = (f"out={out}", "steps=20", "evaluate.every=0", "checkpoint.every=0", "batch.prompts=8", "batch.group=8")
    settings = parse(RunSettings, apply_overrides(read_yaml(DEMO), (*words, *overrides)), where="test")
    return list(read_jsonl(train(settings).path / "metrics.jsonl"))


@pytest.mark.parametrize(
    "words",
    [
        ("engine.cache_gib=0.3",),
        ("engine.mode=server", "engine.start=true", "engine.cache_gib=0.3", "rollout.ahead=1"),
    ],
)
def test_twenty_steps_of_countdown(tmp_path: Path, words: tuple[str, ...]) -> None:
    rows = demo(tmp_path / "run", "engine.name=vllm", *words)
    assert [row["step"] for row in rows] == list(range(1, 21))
    ahead = "rollout.ahead=1" in words
    assert [row["sampler/staleness"] for row in rows] == [0.0] + [float(ahead)] * 19
    assert all(math.isfinite(row["policy/grad_norm"]) for row in rows)
    if not ahead:
        assert max(row["sampler/gap"] for row in rows) < 1e-5
        assert max(row["sampler/outside"] for row in rows) == 0


def test_a_server_that_is_killed_ends_the_run_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from progrpo.engines.vllm.server import ServerEngine

    send = ServerEngine._send

    def kill_after(self: Any, named: Any, version: int) -> None:
        send(self, named, version)
        if version == 2:
            for child in psutil.Process(self._started._process.pid).children(recursive=True):
                os.kill(child.pid, signal.SIGKILL)

    monkeypatch.setattr(ServerEngine, "_send", kill_after)
    words = ("engine.name=vllm", "engine.mode=server", "engine.start=true", "engine.cache_gib=0.3")
    with caplog.at_level(logging.WARNING), pytest.raises(EngineError, match="step 2 has its checkpoint") as raised:
        demo(tmp_path / "run", *words)
    assert "\n" not in str(raised.value)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000002"]
