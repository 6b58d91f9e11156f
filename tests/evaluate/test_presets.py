from types import SimpleNamespace

import pytest

from progrpo.errors import ConfigError
from progrpo.evaluate import EvaluateSettings
from progrpo.evaluate.presets import SUITES, expand, require_default_task, require_kept, samples


def test_suites_are_expanded_once() -> None:
    assert expand(["aime25", "math", "countdown"])[:3] == ["aime25", "aime24", "amc23"]
    assert expand(["paper"]) == list(SUITES["paper"])
    assert len(SUITES["paper"]) == 11


def test_samples_of_a_preset() -> None:
    assert samples(SimpleNamespace(), "recommended") == 64
    assert samples(SimpleNamespace(SAMPLES={"paper": 16, "recommended": 16}), "paper") == 16


def test_a_preset_holds_its_sampling_fast() -> None:
    default = EvaluateSettings().model_dump()
    require_kept("paper", default, 8192)
    require_kept("paper", default, 32_768)
    require_kept("recommended", default, 5)
    with pytest.raises(ConfigError, match=r"evaluate\.temperature is 0\.6 under a preset, got 1"):
        require_kept("recommended", {**default, "temperature": 1.0}, 8192)
    with pytest.raises(ConfigError, match="must be one of 8192 and 32768"):
        require_kept("paper", default, 5)


def test_a_preset_takes_a_benchmark_whole_and_as_it_is() -> None:
    from progrpo.tasks.aime24 import Params

    require_default_task("paper", "aime24", Params(path="x", expected=None, chat=False))  # where it lies is free
    with pytest.raises(ConfigError, match=r"task\.aime24\.instruction is '' under a preset, got 'Think.'"):
        require_default_task("paper", "aime24", Params(instruction="Think."))
    require_default_task("paper", "mine", Params(instruction="Think."))  # no benchmark of the paper
    with pytest.raises(ConfigError, match="a preset takes all problems"):
        require_kept("paper", EvaluateSettings(problems=3).model_dump(), 8192)
