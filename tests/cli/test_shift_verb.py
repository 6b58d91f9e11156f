"""The verb `shift`: its numbers worked out by hand, and the verb as a user calls it.

Two groups of four, one token each, so that c(o) is its probability. GRPO's advantages with the population standard
deviation (ddof=0; the preset paper): 1, 1, -1, -1 in the first group, 0 in the second; with the sample one 0.8660 for 1.
    group 1: correct correct incorrect incorrect, c(o) 0.5 0.3 0.6 0.2 (mean 0.4), c(q) 0.4
    group 2: all correct, c(o) 0.9 0.7 0.3 0.1 (mean 0.5), c(q) 0.2
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from progrpo.cli import app
from progrpo.cli.shift import run_shift
from progrpo.errors import ConfigError, DataError, ModelError, PluginError, RunDirectoryError
from progrpo.evaluate.shift import TARGETS, VARIANTS, effect, measure, with_alpha
from progrpo.report.shift.figure import picture
from progrpo.report.shift.words import About, markdown, notes, tables
from progrpo.types import RolloutBatch

CORRECT = ((True, True, False, False), (True, True, True, True))
PROBABILITIES = ((0.5, 0.3, 0.6, 0.2), (0.9, 0.7, 0.3, 0.1))
ABOUT = About(
    model="m",
    task="t",
    split="train",
    temperature=1.0,
    max_new_tokens=5,
    seed=0,
    statuses={"correct": 6, "wrong": 2},
    excluded=0,
    other_scorer=False,
)
COUNTDOWN = [
    "task.numbers=3",
    "task.max_number=6",
    "task.max_target=20",
    "task.min_used=2",
    "task.min_solutions=1",
    "task.train_size=9",
]


def batch(
    correct: Sequence[Sequence[bool]] = CORRECT,
    probabilities: Sequence[Sequence[float]] = PROBABILITIES,
    lost: tuple[int, int] | None = None,
) -> RolloutBatch:
    right, chances = torch.tensor(correct), torch.tensor(probabilities)
    rewards = right.float()
    if lost is not None:
        rewards[lost] = math.nan
    return RolloutBatch(
        rewards=rewards,
        correct=right,
        truncated=torch.zeros_like(right),
        lengths=torch.ones_like(right, dtype=torch.long),
        mask=torch.ones(right.numel(), 1, dtype=torch.bool),
        old_logprobs=chances.log().reshape(-1, 1),
        prompt_logprobs=torch.tensor([[0.0, math.log(0.4)], [0.0, math.log(0.2)]]),
        prompt_mask=torch.tensor([[False, True], [False, True]]),
    )


def test_shares_at_the_defaults() -> None:
    found = {one.label: one.default for one in measure(batch()).variants}
    # 0.3 (0.4 - c): -0.03 0.03 -0.06 0.06, its mean 0; 0.18 of 4. The all-correct group is left alone.
    assert found["progrpo paper"].share == pytest.approx(0.045, rel=1e-4)
    # mean c - c: 0.6 in the first group, -0.4 -0.2 0.2 0.4 in the second; 1.8 of 4 * 0.8660
    assert found["progrpo equilibrium"].share == pytest.approx(1.8 / (4 * 0.75**0.5), rel=1e-4)
    assert found["progrpo equilibrium"].size == pytest.approx(1.8 / 8, rel=1e-4)
    # q = 5/8 3/8; weights 0.8 + 0.4 (3/8, 5/8) = 0.95 1.05; 0.05 of the two positive advantages of four
    assert found["ucpo"].share == pytest.approx(0.025, rel=1e-4)
    # first group: rewards 0.875 0.9375 0 0, advantages 0.80534 0.92465 -0.86500 twice: 0.1214 from 0.8660;
    # second: 0.8125 0.875 0.9375 1, advantages -1.16190 -0.38730 0.38730 1.16190
    assert found["unlikeliness"].share == pytest.approx((0.1214 + 3.0984) / (4 * 0.75**0.5), rel=1e-3)


def test_flips_and_correct_below_zero() -> None:
    found = {one.label: one.default for one in measure(batch()).variants}
    assert (found["progrpo paper"].sign_flips, found["progrpo paper"].negative_correct) == (0.0, 0.0)
    assert found["progrpo equilibrium"].negative_correct == pytest.approx(2 / 6)  # 0.9 and 0.7 of the second group
    assert found["unlikeliness"].negative_correct == pytest.approx(2 / 6)
    # 12 (0.4 - c) = -1.2 1.2 -2.4 2.4: of 1 1 -1 -1 the first and the last turn; of six correct the first is below 0
    strong = effect(with_alpha(VARIANTS["progrpo paper"], 12.0), batch())
    assert (strong.sign_flips, strong.negative_correct) == (0.5, pytest.approx(1 / 6))


@pytest.mark.parametrize("label", [label for label, choice in VARIANTS.items() if choice.name == "progrpo"])
def test_the_alpha_for_a_share_gives_it(label: str) -> None:
    found = next(one for one in measure(batch()).variants if one.label == label)
    assert set(found.alphas) == set(TARGETS)
    for share, alpha in found.alphas.items():
        assert effect(with_alpha(VARIANTS[label], alpha), batch()).share == pytest.approx(share, rel=1e-4)
    assert found.compared is not None
    assert (found.compared.alpha, found.compared.share) == (found.alphas[0.2], pytest.approx(0.2, rel=1e-4))


def test_variants_without_alpha_have_a_share_alone() -> None:
    found = [one for one in measure(batch()).variants if one.label in ("ucpo", "unlikeliness")]
    assert [(one.default.alpha, one.alphas, one.compared) for one in found] == [(None, {}, None)] * 2


def test_facts() -> None:
    facts = measure(batch()).facts
    assert (facts.mixed, facts.all_correct, facts.all_incorrect, facts.correct) == (1, 1, 0, 6)
    assert facts.c_prompt == pytest.approx(0.3)
    assert facts.c_correct == pytest.approx(2.8 / 6)
    assert facts.c_incorrect == pytest.approx(0.4)
    # |c - mean|: 0.1 0.1 0.2 0.2, and 0.4 0.2 0.2 0.4
    assert facts.spread == pytest.approx(1.8 / 8)
    assert facts.spread_mixed == pytest.approx(0.6 / 4)
    # log 0.5, log 0.3: ln(5/3)/2 from their mean, twice; the second group -0.1054 -0.3567 -1.2040 -2.3026, mean -0.9921:
    # 0.8868 0.6355 0.2118 1.3104
    assert facts.log_spread == pytest.approx((0.5108 + 3.0445) / 6, rel=1e-3)
    assert facts.length_correlation is None  # all have one token


def test_correlation_with_length_is_among_the_correct() -> None:
    # correct: 1 token of 0.5, 2 tokens of 0.25 together (the second of 0.5 each); two points lie on a line: -1.
    # The incorrect ones, long and likely, would turn it.
    right = torch.tensor([[True, True, False, False]])
    half = math.log(0.5)
    found = RolloutBatch(
        rewards=right.float(),
        correct=right,
        truncated=torch.zeros_like(right),
        lengths=torch.tensor([[1, 2, 2, 2]]),
        mask=torch.tensor([[True, False], [True, True], [True, True], [True, True]]),
        old_logprobs=torch.tensor([[half, 0.0], [half, half], [-0.01, -0.01], [-0.02, -0.01]]),
        prompt_logprobs=torch.tensor([[0.0, half]]),
        prompt_mask=torch.tensor([[False, True]]),
    )
    assert measure(found).facts.length_correlation == pytest.approx(-1.0)


def test_a_completion_without_a_verdict_is_left_out() -> None:
    facts = measure(batch(lost=(0, 3))).facts
    assert (facts.judged, facts.correct) == (7, 6)
    assert facts.c_incorrect == pytest.approx(0.6)
    # among the correct, a completion without a verdict has their mark and is none of them
    every = measure(batch(correct=((True,) * 4,) * 2, lost=(0, 3)))
    assert (every.facts.correct, every.facts.all_correct, len(every.correct)) == (7, 2, 7)


def words(found: RolloutBatch, **about: Any) -> tuple[str, str]:
    """The notes, and the page."""
    from dataclasses import replace

    measured, said = measure(found), replace(ABOUT, **about)
    picture(measured)
    return "\n".join(notes(measured, said)), markdown(measured, said)


def test_what_cannot_be_computed_is_said() -> None:
    none, page = words(batch(correct=((False,) * 4,) * 2))
    assert "no completion is correct" in none
    assert "| c(o), mean of the correct | cannot be computed: no correct completion |" in page
    assert "| spread of c(o), mixed groups alone | cannot be computed: no mixed group |" in page
    assert "no share, no sign flip and no alpha can be computed" in none
    assert "Alpha for a share" not in page
    assert "nan" not in page
    every, page = words(batch(correct=((True,) * 4,) * 2))
    assert "no share, no sign flip and no alpha can be computed" in every
    assert "progrpo equilibrium: at its default (alpha 1) its shift is all the advantage there is" in every
    assert "| progrpo equilibrium | 1 | – | – |" in page


def test_negligible_and_overwhelming_defaults_are_said() -> None:
    close = ((0.5, 0.501, 0.5, 0.501), (0.5, 0.501, 0.5, 0.501))
    said, _ = words(batch(probabilities=close))
    # 0.3 * 0.0005 a completion of 1: 0.015 %
    assert (
        "progrpo paper: at its default (alpha 0.3) this is GRPO on this model: its shift is 0.015 % of the adv" in said
    )
    assert "progrpo balanced: " not in said  # standard deviations do not mind
    same, page = words(batch(probabilities=((0.5,) * 4,) * 2))
    assert "progrpo paper: its shift is the same for all completions of a group: this is GRPO on this model" in same
    assert "Alpha for a share" not in page
    # one mixed group among many all-correct ones: what acts there outweighs the verdicts
    long = RolloutBatch(
        **{
            name: torch.cat([getattr(batch(), name), *[getattr(batch(), name)[-half:]] * 3])
            for name, half in (
                *(
                    (name, 1)
                    for name in ("rewards", "correct", "truncated", "lengths", "prompt_logprobs", "prompt_mask")
                ),
                *((name, 4) for name in ("mask", "old_logprobs")),
            )
        }
    )
    assert "unlikeliness: at its default the shift outweighs the verdicts" in words(long)[0]


def test_failed_verdicts_are_counted() -> None:
    said, page = words(batch(lost=(0, 3)), statuses={"correct": 6, "wrong": 1, "timeout": 1})
    assert "1 of 8 verdicts failed" in said
    assert "| verdict timeout | 1 |" in page


def test_tables_have_a_cell_for_each_head() -> None:
    grids = [part for part in tables(measure(batch()), ABOUT).split("\n\n") if part.startswith("|")]
    assert len(grids) == 3
    for grid in grids:
        assert len({line.count("|") for line in grid.splitlines()}) == 1


# --- the verb ---


@pytest.fixture(scope="module")
def model(tiny_folder: Callable[..., Path]) -> Path:
    return tiny_folder(seed=3)


def shift(model: object, out: Path | None, *settings: str, n: int = 2, problems: int = 3) -> None:
    run_shift(str(model), "countdown", [*COUNTDOWN, "max_new_tokens=5", *settings], n, problems, out)


def test_the_embedded_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_shift("embedded:countdown", "countdown", ["max_new_tokens=40"], 6, 8, tmp_path / "s")
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "s/shift.json").read_text())
    assert "embedded:countdown on countdown, train split, T 1, at most 40 tokens" in out
    assert (found["facts"]["problems"], found["facts"]["group"]) == (8, 6)
    assert sum(found["about"]["statuses"].values()) == 48
    assert len(found["correct"]) == found["facts"]["correct"] > 0
    labels = [one["label"] for one in found["variants"]]
    assert labels == list(VARIANTS)
    paper = found["variants"][0]
    assert 0.001 < paper["default"]["share"] < 1
    assert paper["alphas"]["0.2"] == pytest.approx(0.3 * 0.2 / paper["default"]["share"])
    assert found["asked"]["environment"]["seed"] == 0
    page = (tmp_path / "s/shift.md").read_text()
    assert "(shift.svg)" in page
    assert (tmp_path / "s/shift.svg").read_text().startswith("<?xml")
    shift_again = tmp_path / "again"
    run_shift("embedded:countdown", "countdown", ["max_new_tokens=40"], 6, 8, shift_again)
    assert json.loads((shift_again / "shift.json").read_text())["variants"] == found["variants"]


def test_completions_of_a_run_end_where_its_own_did(tmp_path: Path) -> None:
    words = [
        "steps=1",
        "evaluate.every=0",
        "batch.prompts=2",
        "batch.group=2",
        "task.train_size=20",
        "task.test_size=2",
    ]
    run = tmp_path / "run"
    recipe = Path(__file__).parents[2] / "recipes" / "demo" / "grpo.yaml"
    done = CliRunner().invoke(app, ["train", str(recipe), f"out={run}", *words, 'sampling.stop=["="]'])
    assert done.exit_code == 0, done.output
    for subject, given, stop in (
        (run, [], ["="]),
        (run, ["stop=[]"], []),
        (run / "checkpoints/step-000001", [], ["="]),
    ):
        out = tmp_path / f"{subject.name}{len(given)}"
        run_shift(str(subject), "countdown", given, 2, 2, out)
        assert json.loads((out / "shift.json").read_text())["asked"]["settings"]["stop"] == stop


def test_as_typed(model: Path, tmp_path: Path) -> None:
    words = [
        "shift",
        str(model),
        *COUNTDOWN,
        "max_new_tokens=2",
        "--task",
        "countdown",
        "--group",
        "3",
        "--problems",
        "2",
    ]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "s")])
    assert done.exit_code == 0, done.output
    assert "The model on 2 problems of the train split, 3 completions each" in done.output
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"shift.json", "shift.md", "shift.svg"}
    assert "x>=2" in CliRunner().invoke(app, ["shift", "--help"]).output


def test_a_model_that_solves_nothing(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shift(model, tmp_path)
    out = capsys.readouterr().out
    assert "no completion is correct" in out
    assert "cannot be computed" in out
    assert "NaN" not in (tmp_path / "shift.json").read_text()


def test_a_task_without_a_training_split(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{i}+{i}=", "answer": str(2 * i)}) + "\n" for i in range(1, 4)))
    settings = [f"task.test={rows}", "task.chat=false", "max_new_tokens=3"]
    run_shift(str(model), "file", settings, 2, 3, tmp_path / "s")
    out = capsys.readouterr().out
    assert "on file, test split" in out
    assert "task file has no training split" in out
    with pytest.raises(DataError, match=r"no file for the test split; give task\.test=FILE"):
        run_shift(str(model), "file", [], 2, 3, tmp_path / "t")
    with pytest.raises(DataError, match="no such file"):  # a mistyped training file is no missing split
        run_shift(str(model), "file", [*settings, f"task.train={tmp_path}/none.jsonl"], 2, 3, tmp_path / "t")


def test_bad_input_is_refused_before_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progrpo.cli.shift.load_model", None)
    with pytest.raises(ConfigError, match="-n 1: a group of one has no advantage"):
        shift(model, tmp_path, n=1)
    with pytest.raises(ConfigError, match="--problems 0"):
        shift(model, tmp_path, problems=0)
    with pytest.raises(
        ConfigError, match="^override 'temperature=0': temperature: input should be greater than 0, got 0"
    ):
        shift(model, tmp_path, "temperature=0")
    with pytest.raises(ConfigError, match="unknown key 'temprature'; did you mean 'temperature'"):
        shift(model, tmp_path, "temprature=1")
    with pytest.raises(ConfigError, match="the model is the first argument"):
        shift(model, tmp_path, "model.path=x")
    with pytest.raises(PluginError, match="unknown name 'hff'"):
        shift(model, tmp_path, "engine=hff")
    with pytest.raises(PluginError, match="unknown name 'countdwn'"):
        run_shift(str(model), "countdwn", [], 2, 3, tmp_path)
    with pytest.raises(ConfigError, match="--task: name what"):
        run_shift(str(model), None, [], 2, 3, tmp_path)
    with pytest.raises(ModelError, match="no-such"):
        shift("no-such/model", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="is a file, expected a folder"):
        shift(model, tmp_path / "file")
    (tmp_path / "shift.md").write_text("mine")
    with pytest.raises(RunDirectoryError, match="exists; choose another --out, nothing was overwritten"):
        shift(model, tmp_path)


def test_an_engine_without_prompt_log_probs(model: Path, tmp_path: Path, make_module: Callable[[str], str]) -> None:
    name = make_module(
        "from progrpo.engines import hf\n"
        "from progrpo.engines.hf import Params\n"
        "def make(model, params):\n"
        "    engine = hf.make(model, params)\n"
        "    ask = engine.generate\n"
        "    engine.generate = lambda requests, sampling, prompt_logprobs=False, on_done=None: "
        "ask(requests, sampling, on_done=on_done)\n"
        "    return engine\n"
    )
    with pytest.raises(PluginError, match=r"gave no log-probs of the prompts.*use engine\.name=hf"):
        shift(model, tmp_path, f"engine.name={name}")
