import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo import engines
from progrpo.engines import Request, Sampling
from progrpo.model import LanguageModel
from progrpo.settings import Choice, parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from progrpo.types import Group, Problem, Verdict
from stand_ins.runs import tiny_settings


@pytest.fixture
def groups(tiny_model: LanguageModel) -> tuple[Group, ...]:
    """Four problems of three completions of unequal lengths, sampled from the tiny model; verdicts made up."""
    engine = engines.load(Choice(name="hf"), tiny_model)
    prompts = ("1 2=3:", "12 34 56=78:", "5:", "9 9=18:")
    requests = [
        Request(prompt_ids=tiny_model.encode_prompt(prompt), seeds=(10 * p, 10 * p + 1, 10 * p + 2))
        for p, prompt in enumerate(prompts)
    ]
    results = engine.generate(requests, Sampling(max_new_tokens=9, temperature=1.5), prompt_logprobs=True)
    right = ((True, False, False), (True, True, False), (False, False, False), (True, False, True))
    return tuple(
        Group(
            problem=Problem(id=str(p), prompt=prompts[p]),
            prompt_ids=requests[p].prompt_ids,
            prompt_logprobs=result.prompt_logprobs,
            completions=result.completions,
            verdicts=tuple(
                Verdict(status="correct" if ok else "wrong", reward=float(ok), canonical="x") for ok in right[p]
            ),
        )
        for p, result in enumerate(results)
    )


@pytest.fixture
def settings(tiny_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The settings of a run of half a second on the tiny model; keyword arguments replace whole sections."""
    return lambda **changes: tiny_settings(tiny_folder(), tmp_path / "run") | changes


@pytest.fixture(scope="session")
def settings_into(tiny_folder: Callable[..., Path]) -> Callable[[Path], dict[str, Any]]:
    """`settings` of a run into a folder of one's own choice, for runs that several tests share."""
    return lambda out: tiny_settings(tiny_folder(), out)


@pytest.fixture(scope="session")
def plain_run(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `settings()`, made once for all tests that only read it."""
    out = tmp_path_factory.mktemp("plain") / "run"
    return train(parse(RunSettings, tiny_settings(tiny_folder(), out), where="test")).path


@pytest.fixture
def own_run(plain_run: Path, tmp_path: Path) -> Path:
    """A copy of `plain_run` where `settings()` would have made it, to change or to resume."""
    own = shutil.copytree(plain_run, tmp_path / "run")
    config = own / "config.yaml"
    config.write_text(config.read_text().replace(str(plain_run), str(own)))
    return own


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
