import math
from dataclasses import replace

import pytest
import torch

from progrpo import engines, tasks
from progrpo.evaluate import EvaluateSettings, EvaluationResult, judged, run_evaluation
from progrpo.model import LanguageModel
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.rows import from_row, to_row
from progrpo.settings import Choice
from progrpo.types import Completion, Group, Problem, Sample, TokenStatistics, Verdict

TASK = Choice(name="countdown", numbers=3, max_number=6, max_target=20, min_used=2, min_solutions=1, test_size=5)


def evaluate(model: LanguageModel, **settings: object) -> EvaluationResult:
    with Verifier(Choice(name="expression"), VerifySettings()) as verifier:
        return run_evaluation(
            tasks.problems(TASK, "test"),
            model=model,
            engine=engines.load(Choice(name="hf"), model),
            verifier=verifier,
            settings=EvaluateSettings(n=3, **settings),
            max_new_tokens=5,
            seed=0,
        )


def completion(probabilities: list[float], entropies: list[float], raw: list[float] | None = None) -> Completion:
    return Completion(
        seed=7,
        text="1+2",
        finish="stop",
        token_ids=torch.arange(len(probabilities)),
        sampler_logprobs=torch.tensor(probabilities).log(),
        entropies=torch.tensor(entropies),
        raw_logprobs=None if raw is None else torch.tensor(raw).log(),
        raw_entropies=None if raw is None else torch.tensor(entropies) * 2,
    )


def test_what_is_kept_of_a_completion() -> None:
    # Six tokens: the lowest 20 % are ceil(1.2) = 2 of them, 0.2 and 0.4: arithmetic mean 0.3, geometric sqrt(0.08).
    one = completion([0.4, 0.9, 0.2, 0.9, 0.6, 0.6], [1, 1, 1, 1, 1, 4], raw=[0.5] * 6)
    group = Group(
        problem=Problem(id="q", prompt="p", answer="3", facts={"category": "easy"}),
        prompt_ids=torch.tensor([1]),
        prompt_logprobs=None,
        completions=(one, completion([], [])),
        verdicts=(
            Verdict(status="correct", reward=1.0, extracted="3", canonical="1+2"),
            Verdict(status="wrong", reward=0),
        ),
    )
    found = judged(group)
    assert (found.n, found.correct, found.facts, found.answer) == (2, 1, {"category": "easy"}, "3")
    kept = found.samples[0]
    assert kept.tempered is not None
    assert kept.tempered.probability == pytest.approx(3.6 / 6)
    assert kept.tempered.low_probability == pytest.approx(0.3)
    assert kept.tempered.confidence == pytest.approx(math.sqrt(0.08))
    assert kept.tempered.entropy == pytest.approx(1.5)
    assert kept.raw == TokenStatistics(
        probability=pytest.approx(0.5),
        low_probability=pytest.approx(0.5),
        confidence=pytest.approx(0.5),
        entropy=pytest.approx(3.0),
    )
    assert (kept.extracted, kept.canonical, kept.seed, kept.tokens) == ("3", "1+2", 7, 6)
    assert (found.samples[1].tempered, found.samples[1].tokens) == (None, 0)
    assert from_row(to_row(found)) == found


def test_rows_of_older_versions_are_read() -> None:
    row = {"problem": "q", "prompt": "p", "n": 1, "correct": 1, "samples": [{"text": "t", "status": "correct"}]}
    found = from_row(row)
    assert found.samples == (Sample(text="t", status="correct"),)
    assert (found.facts, found.measures, found.answer) == ({}, {}, None)


def test_parts_change_nothing(tiny_model: LanguageModel) -> None:
    whole, parts = evaluate(tiny_model, raw=True), evaluate(tiny_model, raw=True, at_a_time=2)
    assert [row["problem"] for row in whole.rows] == [row["problem"] for row in parts.rows]
    for one, other in zip(whole.problems, parts.problems, strict=True):
        assert [sample.text for sample in one.samples] == [sample.text for sample in other.samples]
        assert one.samples[0].raw != one.samples[0].tempered
    assert whole.means["entropy"] == pytest.approx(parts.means["entropy"], rel=1e-5)
    assert [verdict.status for verdict in whole.verdicts] == [verdict.status for verdict in parts.verdicts]


def test_only_the_first_problems(tiny_model: LanguageModel) -> None:
    assert len(evaluate(tiny_model, problems=2).problems) == 2


def test_entropy_of_a_task_weighs_tokens_within_a_problem() -> None:
    from progrpo.measures import Params
    from progrpo.measures.tokens import measure

    short = Sample(text="", status="wrong", tokens=1, tempered=statistics(3.0))
    long = Sample(text="", status="wrong", tokens=3, finish="length", tempered=statistics(1.0))
    problem = replace(from_row({"problem": "q", "samples": []}), samples=(short, long))
    # (1 * 3 + 3 * 1) / 4 tokens; (1 + 3) / 2 tokens long; one of two cut
    assert measure(problem, Params()) == {"entropy": 1.5, "length": 2.0, "truncated": 0.5}
    without = replace(problem, samples=(replace(short, tempered=None),))
    assert measure(without, Params()) == {"length": 1.0, "truncated": 0.0}


def statistics(entropy: float) -> TokenStatistics:
    return TokenStatistics(probability=0.5, low_probability=0.5, confidence=0.5, entropy=entropy)
