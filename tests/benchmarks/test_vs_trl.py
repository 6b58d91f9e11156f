"""The comparison with TRL compares like with like: the same weights, prompts, rewards and amount of work on both sides."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo.algo.logprobs import token_logprobs
from progrpo.types import Problem, Verdict
from stand_ins.needs import need

if find_spec("trl") is None:
    need("trl")
pytestmark = pytest.mark.slow

ROLLOUTS = 2

ProblemResult = list[tuple[str, str, float]]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> ProblemResult:
    """(prompt, completion, reward) of every verdict, whichever side asked."""
    from vs_trl import coin

    seen: ProblemResult = []
    score = coin.score

    def recording(text: str, problem: Problem, params: Any) -> Verdict:
        verdict = score(text, problem, params)
        seen.append((str(problem.prompt), text, verdict.reward))
        return verdict

    monkeypatch.setattr(coin, "score", recording)
    return seen


def test_where_no_completion_may_end_early_the_end_token_is_the_least_likely_whatever_came_before(
    tmp_path: Path,
) -> None:
    from transformers import AutoModelForCausalLM

    from vs_trl.workloads import WORKLOADS, model_folder

    model: Any = AutoModelForCausalLM.from_pretrained(model_folder(WORKLOADS["c"], tmp_path, "cpu"))
    assert model.generation_config.eos_token_id == [1]
    tokens = torch.randint(2, model.config.vocab_size, (16, 32), generator=torch.Generator().manual_seed(1))
    logits = model(tokens).logits
    assert (logits.argmin(dim=-1) == 1).all()
    assert (logits[..., 1] < logits[..., 2:].min(dim=-1).values - 25).all()


@pytest.mark.parametrize(("name", "zero_std"), [("b", 0.5), ("c", 0.0)])
def test_both_sides_do_the_same_work(name: str, zero_std: float, tmp_path: Path, judged: ProblemResult) -> None:
    from vs_trl import coin
    from vs_trl.ours import Ours
    from vs_trl.peer import Peer
    from vs_trl.steps import Step
    from vs_trl.workloads import WORKLOADS, Run, model_folder, tiny

    work = tiny(WORKLOADS[name])
    run = Run(work=work, path=model_folder(work, tmp_path / "model", "cpu"), rollouts=ROLLOUTS)
    ours, peer = Ours(run, tmp_path / "ours"), Peer(run, tmp_path / "peer", paged=False, override={})
    torch.testing.assert_close(our_logprobs(ours), peer_logprobs(peer), rtol=0, atol=1e-4)

    steps: list[Step] = []
    prompts: dict[str, list[list[str]]] = {"ours": [], "peer": []}

    def keep(side: str, step: Step) -> None:
        steps.append(step)
        prompts[side].append([prompt for prompt, _, _ in judged])
        # One pure function: what a completion got on its own side it would have got on the other.
        assert all(reward == coin.reward(prompt, completion) for prompt, completion, reward in judged)
        judged.clear()

    peer.run(before=lambda: keep("ours", ours.step()), after=lambda step: keep("peer", step))
    ours.close()

    assert prompts["ours"] == prompts["peer"]
    assert [len(asked) for asked in prompts["ours"]] == [16] * ROLLOUTS
    assert len(steps) == 2 * ROLLOUTS
    for step in steps:
        assert step.lengths.shape == step.advantages.shape == (4, 4)
        assert int(step.lengths.max()) <= 16
        assert float((~step.learning).float().mean()) == zero_std
        assert sum(step.phases.values()) == pytest.approx(step.seconds, rel=0.05)
        assert step.peak >= step.before > 0
        if work.median is None:
            assert bool((step.lengths == 16).all())
        else:
            assert bool((step.lengths < 16).any())


def tokens() -> torch.Tensor:
    """A prompt and a completion of 12 tokens each."""
    return torch.randint(1, 256, (1, 24), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def our_logprobs(ours: Any) -> torch.Tensor:
    return token_logprobs(ours.trainer.model.model(tokens()).logits, tokens())[:, 12:]


@torch.no_grad()
def peer_logprobs(peer: Any) -> torch.Tensor:
    trainer, ids = peer.trainer, tokens()
    return trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), logits_to_keep=12)[0]


def test_the_script_says_what_it_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import importlib.util
    import json

    path = Path(__file__).parents[2] / "benchmarks" / "vs_trl.py"
    spec = importlib.util.spec_from_file_location("vs_trl_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(["--workload", "a", "--tiny", "--steps", "2", "--threads", "1", "--json", str(tmp_path / "out.json")])
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("a fp32: progrpo ")
    assert "ratio median" in last
    (found,) = json.loads((tmp_path / "out.json").read_text("utf-8"))["work_loads"]
    assert len(found["progrpo"]) == len(found["trl"]) == 2
