"""The benchmark of the methods gives every trainer the same rollout, and says what it measured."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from progrpo.rollout.verify import Verifier
from progrpo.train import sampling

pytestmark = pytest.mark.slow


def load_script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "methods.py"
    spec = importlib.util.spec_from_file_location("methods_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


script = load_script()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_script_says_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    script.main(["--small", "--methods", "grpo", "flowrl"])
    first, second, _, *rows, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"one rollout, 4 x 4 completions of \d+ tokens, \d+ % of the groups mixed; sampled in [\d.]+ s", first
    )
    assert second == "3 pairs of rounds, 2 optimiser steps each, 1 thread"
    assert re.fullmatch(r"\d+ s in all", last)
    found = {row[:20].strip(): [float(number) for number in re.findall(r"[+-]?[\d.]+", row[20:])] for row in rows}
    assert list(found) == ["grpo", "flowrl", "grpo, all"]
    for step_ms, middle, low, high, peak, more in found.values():
        assert step_ms > 0
        assert 0 < low <= middle <= high
        # printed to a tenth
        assert more == pytest.approx(peak - found["grpo"][4], abs=0.11)
    assert found["grpo"][5] == 0.0
    # FlowRL holds the embedded model a second time (791,296 numbers of 4 bytes), and a net with its two moments
    assert found["flowrl"][5] > 3.0


def test_a_round_is_the_same_work_each_time(tmp_path: Path) -> None:
    settings = script.make_settings(script.GRPO, size=4, rounds=3, out=tmp_path / "unused")
    own = sampling.sample
    with Verifier(settings.reward, settings.verify) as verifier:
        bench = script.Bench(verifier, tmp_path, size=4, rounds=3)
        side = bench._side(script.GRPO)
        before = [weight.clone() for weight in side.trainer.model.model.parameters()]
        rows = []
        write = side.trainer.run.write_metrics
        side.trainer.run.write_metrics = lambda step, metrics: rows.append(write(step, metrics)) or rows[-1]
        with script.always(bench.rollout):
            assert side.round() > 0
            assert side.round() > 0
        after = list(side.trainer.model.model.parameters())
        side.close()
    assert sampling.sample is own
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(before, after, strict=True))
    assert len(rows) == 4  # two optimiser steps a round
    for key in ("rollout/reward", "tokens/trained", "tokens/forwarded", "policy/objective", "policy/grad_norm"):
        assert [row[key] for row in rows[:2]] == pytest.approx([row[key] for row in rows[2:]], rel=1e-4, abs=1e-7)
    # the policy is that of the rollout in every step
    gaps = [row["policy/logprob_gap"] for row in rows if row["tokens/trained"]]
    assert gaps
    assert max(gaps) < 1e-4
