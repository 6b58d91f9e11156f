"""RLVR training of language models that keeps exploring: ProGRPO (arXiv:2602.05281) and its rivals.

    import progrpo

    rows = [{"prompt": "What is 3 * 4?", "answer": "12"}, ...]

    def reward(prompts, completions, **columns):  # or score(text, problem)
        return [float(answer in text) for text, answer in zip(completions, columns["answer"])]

    run = progrpo.train("math", model="Qwen/Qwen2.5-0.5B-Instruct", task=rows, reward=reward, steps=100)
    run.metrics["rollout/reward"].plot()
    run.samples()                                           # the completions with verdict, confidence and advantage
    progrpo.evaluate(run, n=16).measures                    # Pass@k, majority vote, diversity, entropy with intervals
    progrpo.compare([run, other], out="comparison.html").differences
    progrpo.score(run, methods=["grpo", "progrpo"]).completions

train           a recipe, a mapping or keywords to a `TrainingRun`; callbacks are `Callback` objects or functions
evaluate        a model or run on benchmarks or rows to `Evaluations`
compare         runs side by side: `Comparison`
score           what several methods make of the rollouts a run recorded: `ScoredRollouts`
load_run        a run directory, finished or not
load_settings   a recipe with overrides, checked: `RunSettings`
algo, methods   the equations as pure functions of tensors, for use in any trainer

Everything the command line takes as `key=value` is a keyword here: steps=100, optim={"lr": 3e-6}, method="grpo",
**{"sampling.temperature": 0.9}. Names are imported on first use, so that `import progrpo` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from progrpo.algo.advantages import group_advantages
    from progrpo.algo.aggregate import sequence_weights, weighted_sum
    from progrpo.algo.confidence import sequence_confidence
    from progrpo.algo.logprobs import token_logprobs
    from progrpo.algo.reweight import confidence_shift, reweight_advantages
    from progrpo.algo.surrogate import clipped_surrogate
    from progrpo.api.compare import Comparison, compare
    from progrpo.api.evaluate import Evaluations, evaluate
    from progrpo.api.run import TrainingRun, load_run
    from progrpo.api.score import ScoredRollouts, score
    from progrpo.api.train import Callback, train
    from progrpo.errors import ProgrpoError, StopTraining
    from progrpo.train.settings import RunSettings, load_settings

_HOMES = {
    "sequence_confidence": "progrpo.algo.confidence",
    "group_advantages": "progrpo.algo.advantages",
    "reweight_advantages": "progrpo.algo.reweight",
    "confidence_shift": "progrpo.algo.reweight",
    "clipped_surrogate": "progrpo.algo.surrogate",
    "sequence_weights": "progrpo.algo.aggregate",
    "weighted_sum": "progrpo.algo.aggregate",
    "token_logprobs": "progrpo.algo.logprobs",
    "Callback": "progrpo.api.train",
    "Comparison": "progrpo.api.compare",
    "Evaluations": "progrpo.api.evaluate",
    "ProgrpoError": "progrpo.errors",
    "RunSettings": "progrpo.train.settings",
    "ScoredRollouts": "progrpo.api.score",
    "StopTraining": "progrpo.errors",
    "TrainingRun": "progrpo.api.run",
    "compare": "progrpo.api.compare",
    "load_run": "progrpo.api.run",
    "load_settings": "progrpo.train.settings",
    "score": "progrpo.api.score",
}
_PACKAGES = ("evaluate", "train")
"""Packages that are called, too (`callable_package.py`): `progrpo.train(...)` and `import progrpo.train.loop` both work."""

__all__ = [
    "Callback",
    "Comparison",
    "Evaluations",
    "ProgrpoError",
    "RunSettings",
    "ScoredRollouts",
    "StopTraining",
    "TrainingRun",
    "clipped_surrogate",
    "compare",
    "confidence_shift",
    "evaluate",
    "group_advantages",
    "load_run",
    "load_settings",
    "reweight_advantages",
    "score",
    "sequence_confidence",
    "sequence_weights",
    "token_logprobs",
    "train",
    "weighted_sum",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"progrpo.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'progrpo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
