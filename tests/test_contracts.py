"""What a variation may define, and what it may give: one checker for all packages."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo import engines, measures, methods, plugins, rewards, tasks
from progrpo.engines import Capabilities, Engine, Generated, Request, check_generated
from progrpo.errors import ConfigError, DataError, PluginError, VerifierError
from progrpo.rewards._results import as_verdict
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Completion, Problem, ProblemResult, Verdict

PACKAGES: dict[str, ModuleType] = {
    "methods": methods,
    "rewards": rewards,
    "tasks": tasks,
    "engines": engines,
    "measures": measures,
}
BUILT_IN = [(package, name) for package in plugins.PACKAGES for name in plugins.names(package)]
PROBLEM = Problem(id="p", prompt="")

GOOD = {
    "methods": "def advantages(batch, params): ...",
    "rewards": "def score(text, problem, params): return 1.0",
    "tasks": """
from progrpo.settings import Settings
class Params(Settings): ...
def load(split, params): return []
REWARD = "math"
""",
    "engines": """
from progrpo.settings import Settings
class Params(Settings): ...
def make(model, params): ...
""",
    "measures": "def measure(judged, params): return {}",
}


def load(package: str, path: Path | str) -> Any:
    """Through the door that users take."""
    choice = Choice(name=str(path))
    if package == "measures":
        return measures.load([choice])
    return engines.choose(choice) if package == "engines" else PACKAGES[package].load(choice)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def made(text: str) -> Path:
        path = tmp_path / f"mine_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(f'"""Mine."""\n{text}\n')
        return path

    return made


@pytest.mark.parametrize(("package", "name"), BUILT_IN)
def test_every_built_in_variation_keeps_the_contract(package: str, name: str) -> None:
    plugins.check_contract(PACKAGES[package].CONTRACT, name, plugins.load(package, name))


@pytest.mark.parametrize("package", plugins.PACKAGES)
def test_the_docstring_explains_every_name_of_the_contract(package: str) -> None:
    module = PACKAGES[package]
    text = f"{module.__doc__} {methods.HOOKS if package == 'methods' else ''}"
    assert [name for name in module.CONTRACT.names if name not in text] == []


@pytest.mark.parametrize("package", plugins.PACKAGES)
def test_a_file_that_keeps_the_contract_loads(package: str, write: Callable[[str], Path]) -> None:
    load(package, write(GOOD[package]))


TYPOS = [
    ("methods", "def advantage(batch, params): ...", "unknown function 'advantage'; did you mean 'advantages'"),
    ("methods", "PRESET = {}", "unknown constant 'PRESET'; did you mean 'PRESETS'"),
    ("methods", "ALARM = {}", "unknown constant 'ALARM'; did you mean 'ALARMS'"),
    ("rewards", "def gold_faults(problem, params): ...", "unknown function 'gold_faults'; did you mean 'gold_fault'"),
    ("rewards", "SLOWLY = True", "unknown constant 'SLOWLY'; did you mean 'SLOW'"),
    ("rewards", "warmup = lambda params: None", "unknown function 'warmup'; did you mean 'warm'"),
    ("rewards", "PATTERN = 'x'", "unknown constant 'PATTERN'. A reward may define: Params, score, score_all,"),
    ("tasks", "SAMPLE = {}", "unknown constant 'SAMPLE'; did you mean 'SAMPLES'"),
    ("tasks", "samples = {}", "unknown constant 'samples'; did you mean 'SAMPLES'"),
    ("tasks", "def summarize(problems, params): ...", "unknown function 'summarize'; did you mean 'summarise'"),
    ("engines", "def makes(model, params): ...", "unknown function 'makes'; did you mean 'make'\\? An engine may"),
    ("engines", "MAKE = 1", "unknown constant 'MAKE'"),
    ("measures", "NEED_CANONICAL = True", "unknown constant 'NEED_CANONICAL'; did you mean 'NEEDS_CANONICAL'"),
    ("measures", "def over_tasks(problems, params): ...", "unknown function 'over_tasks'; did you mean 'over_task'"),
    ("measures", "__all__ = ['prepared']\ndef prepared(params): ...", "'prepared'; did you mean 'prepare'"),
    (
        "rewards",
        "from progrpo import rewards\nclass Param(rewards.Params): ...",
        "unknown settings class 'Param'; did you mean 'Params'",
    ),
]


@pytest.mark.parametrize(("package", "line", "message"), TYPOS)
def test_a_mistyped_name_is_refused_with_the_nearest(
    package: str, line: str, message: str, write: Callable[[str], Path]
) -> None:
    with pytest.raises(PluginError, match=message):
        load(package, write(f"{GOOD[package]}\n{line}"))


@pytest.mark.parametrize(
    "text",
    [
        "import logging, math\nlogger = logging.getLogger(__name__)",
        "from progrpo.rewards.path import MOVES\nfrom progrpo.algo.shapes import require_shape",
        "from progrpo.rewards.path import *",
        "_LIMIT = 3\ndef _helper(): ...",
        "__all__ = ['helper', 'LIMIT']\nLIMIT = 3\ndef helper(): ...",
        "from typing import Literal, TypeVar\nT = TypeVar('T')\nMode = Literal['a', 'b']\nCell = tuple[int, int]",
        "class Grid: ...\nclass GridError(ValueError): ...",
    ],
)
def test_what_is_imported_private_or_listed_is_nobodys_hook(text: str, write: Callable[[str], Path]) -> None:
    load("rewards", write(f"{text}\n{GOOD['rewards']}"))


@pytest.mark.parametrize(
    ("package", "text", "message"),
    [
        ("rewards", "", r"must define score\(text, problem\[, params\]\)"),
        ("measures", "", r"must define measure\(judged, params\)"),
        ("engines", "", r"must define Params \(a subclass of progrpo.settings.Settings\)"),
        ("engines", GOOD["engines"].replace("make", "_make"), r"must define make\(model, params\) -> Engine"),
        ("tasks", GOOD["tasks"].replace("load", "_load"), r"must define load\(split\[, params\]\)"),
    ],
)
def test_a_missing_part_is_refused(package: str, text: str, message: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(PluginError, match=message):
        load(package, write(text))


@pytest.mark.parametrize(
    ("package", "text", "message"),
    [
        (
            "methods",
            "def advantages(batch): ...",
            r"advantages\(batch\) cannot be called as advantages\(batch, params\)",
        ),
        ("rewards", "def score(text): ...", r"score\(text\) cannot be called as score\(text, problem\[, params\]\)"),
        ("rewards", "def score(text, problem, params, more): ...", "cannot be called as"),
        ("rewards", "def score(text, *, problem): ...", "cannot be called as"),
        ("rewards", "score = 1.0", "score is a constant; expected score"),
        (
            "rewards",
            f"{GOOD['rewards']}\ndef SLOW(params): ...",
            r"SLOW is a function; expected SLOW \(True or False\)",
        ),
        ("rewards", f"{GOOD['rewards']}\nParams = dict", "Params must be a subclass of progrpo.settings.Settings"),
        (
            "methods",
            "from progrpo.settings import Settings\nclass Params(Settings): ...",
            "Params must be a subclass of progrpo.methods.Params",
        ),
        ("tasks", GOOD["tasks"] + "def summarise(problems): ...", r"called as summarise\(problems, params\)"),
        ("engines", GOOD["engines"].replace("model, ", ""), r"called as make\(model, params\)"),
        ("measures", "def measure(judged): ...", r"called as measure\(judged, params\)"),
    ],
)
def test_a_part_that_cannot_be_used_as_the_contract_says_is_refused(
    package: str, text: str, message: str, write: Callable[[str], Path]
) -> None:
    with pytest.raises(PluginError, match=message):
        load(package, write(text))


def test_a_path_is_loaded_once_and_named_where_it_is_wrong(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(GOOD["rewards"])
    monkeypatch.chdir(tmp_path)
    assert plugins.load("rewards", str(path)) is plugins.load("rewards", f"./{path.name}")
    with pytest.raises(PluginError, match=r"rewards: './absent.py' is no Python file \(looked for .*absent.py\)"):
        plugins.load("rewards", "./absent.py")
    with pytest.raises(PluginError, match="is no Python file"):
        plugins.load("rewards", str(tmp_path))
    broken = write("import nothing_of_this_name")
    for _ in range(2):  # a file that failed is not half there afterwards
        with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
            plugins.load("rewards", str(broken))


@pytest.mark.parametrize(
    ("name", "label"), [("math", "math"), ("mylab.tasks.mine", "mine"), ("./a/mine.py", "mine"), ("mine.py", "mine")]
)
def test_labels(name: str, label: str) -> None:
    assert plugins.label(name) == label


VERDICT = Verdict(status="correct", reward=0.5, extracted="4", parts={"math": 0.5})
RESULTS: list[tuple[object, str, float, str]] = [
    (VERDICT, "correct", 0.5, ""),
    (replace(VERDICT, reward=np.float32(0.5)), "correct", 0.5, ""),
    (0.25, "correct", 0.25, ""),
    (2, "correct", 2.0, ""),
    (0.0, "wrong", 0.0, ""),
    (-1, "wrong", -1.0, ""),
    (Fraction(1, 2), "correct", 0.5, ""),
    (np.float32(0.5), "correct", 0.5, ""),
    (np.int64(0), "wrong", 0.0, ""),
    (np.array(1.5), "correct", 1.5, ""),
    (torch.tensor(1.5), "correct", 1.5, ""),
    (torch.tensor(-2), "wrong", -2.0, ""),
    (True, "correct", 3.0, ""),
    (False, "wrong", -3.0, ""),
    (np.bool_(True), "correct", 3.0, ""),
    (torch.tensor(False), "wrong", -3.0, ""),
    (None, "bad_gold", -3.0, "reward 'mine' gave no verdict (None)"),
    (math.nan, "crashed", -3.0, "gave nan; expected a Verdict, a finite number, a bool or None"),
    (-math.inf, "crashed", -3.0, "gave -inf; expected"),
    (torch.tensor(math.nan), "crashed", -3.0, "expected a Verdict, a finite number"),
    (10**400, "crashed", -3.0, "expected a Verdict, a finite number"),
    (1j, "crashed", -3.0, "gave 1j; expected"),
    ("1.0", "crashed", -3.0, "gave '1.0'; expected"),
    ([1.0], "crashed", -3.0, r"gave [1.0]; expected"),
    (torch.tensor([1.0]), "crashed", -3.0, "expected a Verdict, a finite number"),
    ({"reward": 1.0}, "crashed", -3.0, "expected a Verdict, a finite number"),
    (replace(VERDICT, status="right"), "crashed", -3.0, "has the status 'right'; expected one of correct, wrong"),
    (replace(VERDICT, reward=math.nan), "crashed", -3.0, "has the reward nan; expected a finite number"),
    (replace(VERDICT, reward=None), "crashed", -3.0, "has the reward None; expected a finite number"),
    (replace(VERDICT, extracted=4), "crashed", -3.0, "has extracted=4; expected text or None"),
    (replace(VERDICT, canonical=("a",)), "crashed", -3.0, "has canonical=('a',); expected text or None"),
    (replace(VERDICT, detail=None), "crashed", -3.0, "has detail=None; expected text"),
    (replace(VERDICT, parts={"math": math.inf}), "crashed", -3.0, "has parts={'math': inf}; expected finite numbers"),
]


@pytest.mark.parametrize(("given_", "status", "reward", "detail"), RESULTS, ids=[repr(row[0])[:40] for row in RESULTS])
def test_what_becomes_of_a_result(given_: object, status: str, reward: float, detail: str) -> None:
    verdict = as_verdict(given_, rewards.Params(correct_reward=3.0, wrong_reward=-3.0), "mine")
    assert (verdict.status, verdict.reward, type(verdict.reward)) == (status, reward, float)
    assert detail in verdict.detail


def test_a_sound_verdict_is_handed_on_as_it_is() -> None:
    assert as_verdict(VERDICT, rewards.Params(), "mine") is VERDICT


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.binary(max_size=3)))
def test_no_result_becomes_a_reward_that_is_no_number(value: object) -> None:
    verdict = as_verdict(value, rewards.Params(), "mine")
    assert math.isfinite(verdict.reward)
    assert verdict.failed == (not isinstance(value, int | float) or plugins.number(value) is None)
    assert verdict.correct == (not verdict.failed and value > 0)  # type: ignore[operator]


PLAIN = '''"""Rewards as plain functions."""
import os
from dataclasses import dataclass
from progrpo import rewards
from progrpo.types import Verdict
{slow}
class Params(rewards.Params):
    share: float = 0.5
def score(text, problem, params):
    if text == "none":
        return None
    if text == "nan":
        return float("nan")
    if text == "verdict":
        return Verdict(status="correct", reward=params.share, detail=str(os.getpid()))
    return len(text) % 2 == 0
'''
TEXTS = ["ab", "abc", "none", "nan", "verdict"]


@pytest.mark.parametrize("slow", ["", "SLOW = True"])
def test_a_reward_by_path_judges_here_and_in_workers(slow: str, tmp_path: Path) -> None:
    path = tmp_path / "my.reward v1.py"  # a dot and a blank
    path.write_text(PLAIN.format(slow=slow))
    choice = Choice(name=str(path), share=0.75)
    with Verifier(choice, VerifySettings(workers=1)) as verifier:
        verdicts = verifier.judge([(text, PROBLEM) for text in TEXTS])
    assert [verdict.status for verdict in verdicts] == ["correct", "wrong", "bad_gold", "crashed", "correct"]
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, 0.0, 0.0, 0.75]
    assert (verdicts[-1].detail == str(os.getpid())) == (not slow)


def test_no_verdict_does_not_stop_a_run_and_no_number_does(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PLAIN.format(slow=""))
    with Verifier(Choice(name=str(path)), VerifySettings()) as verifier:
        verifier.require_trustworthy(verifier.judge([("none", PROBLEM)] * 4))
        with pytest.raises(VerifierError, match="4 of 4 .* gave nan; expected"):
            verifier.require_trustworthy(verifier.judge([("nan", PROBLEM)] * 4))


def test_a_function_by_itself_is_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plainlab").mkdir()
    path = tmp_path / "plainlab" / "mine.py"
    path.write_text("LENGTH = 2\ndef length_ok(text, problem): return len(text) - LENGTH\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("plainlab.mine:length_ok", f"{path}:length_ok"):
        with Verifier(Choice(name=name), VerifySettings()) as verifier:
            verdicts = verifier.judge([("abc", PROBLEM), ("a", PROBLEM)])
        assert [(verdict.status, verdict.reward) for verdict in verdicts] == [("correct", 1.0), ("wrong", -1.0)]
    with pytest.raises(PluginError, match="has no function 'width_ok'"):
        rewards.load(Choice(name="plainlab.mine:width_ok"))


def test_a_length_term_that_is_no_number_is_a_failure_of_the_reward(write: Callable[[str], Path]) -> None:
    text = f"{GOOD['rewards']}\nfrom dataclasses import replace\ndef length_term(verdict, tokens, params):\n"
    path = write(f"{text}    return replace(verdict, reward=float('inf') if tokens else 7.0)")
    with Verifier(Choice(name=str(path)), VerifySettings()) as verifier:
        (verdict,) = verifier.judge([("a", PROBLEM)])
        assert verifier.length_term(verdict, 0).reward == 7.0
        shaped = verifier.length_term(verdict, 1)
    assert (shaped.status, shaped.reward) == ("crashed", 0.0)
    assert "has the reward inf" in shaped.detail


def test_a_gold_check_gives_text_or_none(write: Callable[[str], Path]) -> None:
    path = write(f"{GOOD['rewards']}\ndef gold_fault(problem, params): return False")
    with Verifier(Choice(name=str(path)), VerifySettings()) as verifier:
        (fault,) = verifier.gold_faults([PROBLEM])
    assert "gold_fault gave False; expected text, or None" in str(fault)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ("['x']", PluginError, "row 0 of split 'train' is 'x'; expected a progrpo.types.Problem"),
        ("[{'prompt': 'x'}, 'y']", DataError, "split train, row 2: expected a row .*, got 'y'"),
        ("[{'prompts': 'x'}]", DataError, "split train, row 1: no 'prompt'; the row has prompts"),
        ("[Problem(id='1', prompt='x'), Problem(id=2, prompt='x')]", PluginError, "row 1 .* whose id is text"),
        ("(Problem(id='1', prompt='x') for _ in range(2))", PluginError, "load gave a generator; expected a list"),
        ("[Problem(id='1', prompt='x')] * 2", DataError, "problem '1': the id '1' is that of another problem already"),
        ("[]", DataError, "has no problems"),
        (
            "[Problem(id='1', prompt='x', answer=5)]",
            PluginError,
            "problem '1' of split 'train': its answer is 5; expected text",
        ),
        ("[Problem(id='1', prompt='x', answer=float('nan'))]", PluginError, "its answer is nan"),
        (
            "[Problem(id='1', prompt='x', answer='1', accepted=(2,))]",
            PluginError,
            r"accepted is \(2,\); expected a tuple",
        ),
        ("[Problem(id='1', prompt=None)]", PluginError, "its prompt is None; expected text, or a tuple of"),
        ("[Problem(id='1', prompt=())]", PluginError, r"its prompt is \(\)"),
        ("[Problem(id='1', prompt=({'role': 'user'},))]", PluginError, r"its prompt is \(\{'role': 'user'\},\)"),
    ],
)
def test_what_a_task_loads_is_checked(
    rows: str, error: type[Exception], message: str, write: Callable[[str], Path]
) -> None:
    text = GOOD["tasks"].replace("return []", f"return {rows}")
    with pytest.raises(error, match=message):
        tasks.problems(Choice(name=str(write(f"from progrpo.types import Problem\n{text}"))), "train")


def test_the_reward_of_a_task_is_a_choice(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="its reward"):
        tasks.reward(Choice(name=str(write(GOOD["tasks"].replace('"math"', "5")))))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("{'a': 1, 'b': None, 'c': np.float32(0.5), 'd': True}", {"a": 1.0, "c": 0.5, "d": 1.0}),
        ("{'a': float('nan')}", "measure '.*', problem 'p' gave nan for 'a'; expected a name and a finite number"),
        ("{'a': 'b'}", "gave 'b' for 'a'"),
        ("{1: 2.0}", "gave 2.0 for 1"),
        ("[1.0]", r"gave \[1.0\]; expected a mapping"),
        ("None", "gave None; expected a mapping"),
    ],
)
def test_what_a_measure_gives_is_checked(values: str, expected: object, write: Callable[[str], Path]) -> None:
    text = f"import numpy as np\ndef measure(judged, params): return {values}\ndef over_task(problems, params): return {values}"
    (measure,) = measures.load([Choice(name=str(write(text)))])
    if isinstance(expected, dict):
        assert measure.measure(ProblemResult(problem="p")) == measure.over_task([]) == expected
        return
    with pytest.raises(PluginError, match=str(expected)):
        measure.measure(ProblemResult(problem="p"))
    with pytest.raises(PluginError, match="over_task gave"):
        measure.over_task([])


class _Silent(Engine):
    capabilities = Capabilities(samples_trained_weights=True)

    def update_weights(self, *args: Any) -> None:
        pass

    def generate(self, *args: Any, **kwargs: Any) -> list[Generated]:
        return []


def completion(seed: int, tokens: int = 2, **changes: Any) -> Completion:
    fields = {
        "token_ids": torch.zeros(tokens),
        "sampler_logprobs": torch.zeros(tokens),
        "entropies": torch.zeros(tokens),
    }
    return Completion(seed=seed, text="", finish="stop", **(fields | changes))


def generated(*completions: Completion, prompt: int | None = 3) -> Generated:
    logprobs = None if prompt is None else torch.zeros(prompt)
    return Generated(prompt_logprobs=logprobs, completions=completions)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([generated(completion(1), completion(2))], None),
        ([generated(completion(1), completion(2), prompt=None)], None),
        ([], "generate gave 0 results for 1 requests"),
        ([generated(completion(1))], r"completions of the seeds \(1,\); expected \(1, 2\), in order"),
        ([generated(completion(2), completion(1))], r"of the seeds \(2, 1\)"),
        ([generated(completion(1), completion(2), prompt=2)], r"prompt_logprobs has shape \(2,\); .* 3 prompt tokens"),
        (
            [generated(completion(1), completion(2, sampler_logprobs=torch.zeros(3)))],
            r"result 0, seed 2: sampler_logprobs has shape \(3,\); expected one number for each of 2 tokens",
        ),
        ([generated(completion(1, raw_entropies=torch.zeros(1)), completion(2))], "seed 1: raw_entropies has shape"),
    ],
)
def test_what_an_engine_gives_is_checked(results: list[Generated], message: str | None) -> None:
    asked = [Request(prompt_ids=torch.zeros(3), seeds=(1, 2))]
    if message is None:
        check_generated(_Silent(), asked, results)
        return
    with pytest.raises(PluginError, match=f"engine .*_Silent.*{message}"):
        check_generated(_Silent(), asked, results)


def test_an_engine_is_an_engine(write: Callable[[str], Path]) -> None:
    with pytest.raises(PluginError, match="make gave None; expected a progrpo.engines.Engine"):
        engines.load(Choice(name=str(write(GOOD["engines"]))), None)  # type: ignore[arg-type]
