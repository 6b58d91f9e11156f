"""The verb `score` on made-up rollouts whose advantages are worked out by hand, and on those of a real run."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from progrpo.cli.score import run_score
from progrpo.errors import ProgrpoError
from stand_ins.rollouts import group, rollout_row, write_rollouts

GRPO = [0.75 / 0.500001] + [-0.25 / 0.500001] * 3
"""Rewards 1, 0, 0, 0: mean 0.25, sample standard deviation sqrt(0.75 / 3) = 0.5, and eps 1e-6."""
SHIFT = [0.4 - math.sqrt(0.45), 0.4 - math.sqrt(0.225), 0.4 - 0.8, 0.4 - 0.4]
"""c(q) - c(o), see stand_ins/rollouts.py."""
BOTH = ("grpo", "progrpo")


def scored(
    tmp_path: Path,
    rows: Sequence[Mapping[str, Any]],
    *settings: str,
    methods: Sequence[str] = BOTH,
    config: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The rows that `--out FILE.jsonl` writes."""
    file, out = write_rollouts(tmp_path / "run", rows, config), tmp_path / "out.jsonl"
    run_score([str(file), *settings], methods, None, out, 0)
    return [json.loads(line) for line in out.read_text().splitlines()]


def column(rows: Sequence[Mapping[str, Any]], label: str, name: str = "advantages") -> list[float]:
    return [row[name][label] for row in rows]


def refusal(tmp_path: Path, rows: Sequence[Mapping[str, Any]], *settings: str, methods: Sequence[str] = BOTH) -> str:
    with pytest.raises(ProgrpoError) as refused:
        scored(tmp_path, rows, *settings, methods=methods)
    return str(refused.value)


def test_advantages_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    rows = scored(tmp_path, group("p"))
    assert column(rows, "grpo") == pytest.approx(GRPO)
    assert column(rows, "progrpo") == pytest.approx([a + 0.3 * s for a, s in zip(GRPO, SHIFT, strict=True)])
    assert [row["confidence"] for row in rows] == pytest.approx([0.4 - s for s in SHIFT])
    assert [row["recorded"] for row in rows] == [0.5] * 4


def test_the_same_method_twice_and_alpha_0_is_grpo_to_the_last_bit(tmp_path: Path) -> None:
    methods = ("grpo", "off=progrpo", "strong=progrpo")
    rows = scored(tmp_path, group("p"), "off.alpha=0", "strong.alpha=1", methods=methods)
    assert column(rows, "off") == column(rows, "grpo")
    assert column(rows, "strong") == pytest.approx([a + s for a, s in zip(GRPO, SHIFT, strict=True)])


def test_rows_may_stand_in_any_order(tmp_path: Path) -> None:
    rows = [*group("p"), *group("q", ("wrong", "correct", "wrong", "correct"))]
    shuffled = [rows[i] for i in (5, 0, 3, 6, 1, 7, 2, 4)]
    one, two = scored(tmp_path / "a", rows), scored(tmp_path / "b", shuffled)
    key = lambda row: (row["problem"], row["index"])  # noqa: E731
    drop = lambda row: {name: value for name, value in row.items() if name != "file"}  # noqa: E731
    assert [drop(row) for row in sorted(one, key=key)] == [drop(row) for row in sorted(two, key=key)]


def test_a_problem_met_twice_makes_two_groups(tmp_path: Path) -> None:
    rows = scored(tmp_path, [*group("p"), *group("p", ("correct",) * 4)])
    assert column(rows, "grpo") == pytest.approx([*GRPO, 0, 0, 0, 0])


def test_a_failed_verdict_is_neutral_as_in_training(tmp_path: Path) -> None:
    statuses = ("correct", "wrong", "wrong", "timeout")
    rows = scored(tmp_path / "a", group("p", statuses))
    # rewards 1, 0, 0: mean 1/3, sample deviation sqrt((4/9 + 1/9 + 1/9) / 2) = 0.57735
    assert column(rows, "grpo") == pytest.approx([1.154699, -0.577349, -0.577349, 0], abs=1e-5)
    assert column(rows, "progrpo")[3] == 0
    wrong = scored(tmp_path / "b", group("p", statuses), config={"verify": {"failed": "wrong"}})
    assert column(wrong, "grpo") == pytest.approx(GRPO)


def test_weights_are_those_of_the_runs_optimiser_steps(tmp_path: Path) -> None:
    rows = [*group("p"), *(cut(row, 3) for row in group("q"))]
    # sequence weights 1 / (8 * length), times 4 * 6 + 4 * 3 = 36 tokens: 0.75 and 1.5
    whole = scored(tmp_path / "a", rows, methods=["grpo"])
    expected = [[a * w] * n for w, n in ((0.75, 6), (1.5, 3)) for a in GRPO]
    assert column(whole, "grpo", "token_weights") == [pytest.approx(one) for one in expected]
    # a step per group: 1 / (4 * length) times 4 * length tokens
    config = {"batch": {"prompts": 2, "minibatch_prompts": 1}}
    parts = scored(tmp_path / "b", rows, methods=["grpo"], config=config)
    expected = [[a] * n for n in (6, 3) for a in GRPO]
    assert column(parts, "grpo", "token_weights") == [pytest.approx(one) for one in expected]


def test_weights_of_tokens_that_a_method_treats_apart(tmp_path: Path) -> None:
    # Entropies 0.5 but for the second token of the first completion: it alone is among the 1/24 most uncertain tokens, and
    # trains with its advantage on a mean over one token, in units of one over 24.
    rows = group("p")
    rows[0]["entropies"] = [0.5, 0.9, 0.5, 0.5, 0.5, 0.5]
    found = scored(tmp_path, rows, "high_entropy.fraction=0.04", methods=["high_entropy"])
    assert column(found, "high_entropy", "token_weights")[0] == pytest.approx([0, 24 * GRPO[0], 0, 0, 0, 0])
    assert not any(any(one) for one in column(found, "high_entropy", "token_weights")[1:])


def test_predicted_entropy_changes_need_slopes(tmp_path: Path) -> None:
    assert "predicted_entropy_change" not in scored(tmp_path / "a", group("p"), methods=["grpo"])[0]
    rows = [row | {"entropy_gradients": [0.1, 0, 0, 0, 0, -0.3]} for row in group("p")]
    # Each token's dJ/dlog p is its advantage over 24 tokens; the slopes of a completion sum to -0.2.
    found = column(scored(tmp_path / "b", rows, methods=["grpo"]), "grpo", "predicted_entropy_change")
    assert found == pytest.approx([-0.2 * advantage / 24 for advantage in GRPO])


def test_methods_that_need_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ProgrpoError, match="method 'ppo' reads values, token_states, which a rollouts file does not hold"
    ):
        scored(tmp_path, group("p"), methods=["ppo"])


def cut(row: dict[str, Any], length: int) -> dict[str, Any]:
    """The row with the first tokens of its completion alone."""
    return (
        row | {"length": length} | {name: row[name][:length] for name in ("token_ids", "sampler_logprobs", "entropies")}
    )


def test_a_fixed_length_is_the_runs_limit(tmp_path: Path) -> None:
    # 1 / (4 * 12) times 24 tokens = 0.5, of an advantage of 0.75 or -0.25
    rows = scored(tmp_path, group("p"), methods=["dr_grpo"], config={"sampling": {"max_new_tokens": 12}})
    expected = [[weight] * 6 for weight in (0.375, -0.125, -0.125, -0.125)]
    assert column(rows, "dr_grpo", "token_weights") == [pytest.approx(one) for one in expected]


def test_rewards_suffice_for_methods_that_read_no_log_probs(tmp_path: Path) -> None:
    rows = scored(tmp_path, group("p", tokens=False), methods=["grpo", "dapo", "dr_grpo"])
    assert column(rows, "dapo") == pytest.approx(GRPO)
    assert [row["confidence"] for row in rows] == [0.25] * 4


def test_a_method_that_reads_log_probs_undeclared_is_refused(tmp_path: Path, make_module: Callable[[str], str]) -> None:
    source = (
        '"""Mine."""\nfrom progrpo import methods\n'
        "def advantages(batch, params):\n"
        "    return methods.Advantages(values=batch.old_logprobs.mean(dim=1).view(batch.rewards.shape))\n"
    )
    name = make_module(source)
    message = refusal(tmp_path, group("p", tokens=False), methods=["grpo", name])
    assert "method 'module' reads log-probs" in message
    assert message.endswith("record.tokens=true")
    # a file of the same run that has them is named
    rollouts = tmp_path / "run" / "rollouts"
    (rollouts / "step-000004.jsonl").write_text(json.dumps({"token_ids": [1]}) + "\n")
    (rollouts / "step-000005.jsonl").write_text(json.dumps({"problem": "p"}) + "\n")
    with pytest.raises(ProgrpoError, match="record.tokens=true; beside it step-000004.jsonl of this run has them$"):
        run_score([str(rollouts / "step-000001.jsonl")], ["grpo", name], None, tmp_path / "out.jsonl", 0)


@pytest.mark.parametrize(
    ("rows", "settings", "methods", "message"),
    [
        ([], (), BOTH, "the file has no rows"),
        (group("p", tokens=False), (), BOTH, "reads the log-probs of prompts, but"),
        (group("p", tokens=False), (), BOTH, "record.tokens=true"),
        (group("p", prompt_logprobs=None), (), BOTH, "engine.name=hf, or old_logprobs=engine"),
        (group("p"), (), ("grpo", "progpro"), "did you mean 'progrpo'"),
        (group("p"), (), ("grpo", "grpo"), "'grpo' stands 2 times; label each use of a method"),
        (group("p"), (), ("a.b=grpo",), "a label without dots"),
        (group("p"), ("progpro.alpha=1",), BOTH, "did you mean 'progrpo'"),
        (group("p"), ("alpha=1",), BOTH, "'alpha' is no method given here"),
        (group("p"), ("progrpo.alhpa=1",), BOTH, "unknown key 'alhpa'; did you mean 'alpha'"),
        (group("p"), ("progrpo.name=grpo",), BOTH, "named by --method progrpo=NAME"),
        ([*group("p"), *group("q")[:3]], (), BOTH, "problem 'q': expected completions 0 to 3"),
        ([*group("p"), group("p")[2]], (), BOTH, "does it hold a row twice?"),
        ([rollout_row("p", 0)], (), BOTH, "groups of one completion"),
        ([*group("p"), *group("q", tokens=False)], (), BOTH, "rows with token ids and rows without"),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, rows: list[dict[str, Any]], settings: tuple[str, ...], methods: tuple[str, ...], message: str
) -> None:
    assert message in refusal(tmp_path, rows, *settings, methods=methods)
    assert not (tmp_path / "out.jsonl").exists()


def test_files_in_and_out_are_checked_first(tmp_path: Path) -> None:
    file = str(write_rollouts(tmp_path / "run", group("p")))
    taken = tmp_path / "taken.html"
    taken.write_text("precious")
    for words, model, out, message in (
        ([file], None, taken, "nothing was overwritten"),
        ([file], None, tmp_path / "page.pdf", "ends in .html"),
        ([file], "some/model", None, "only a page shows tokens"),
        (["progrpo.alpha=1"], None, None, "no rollouts file"),
        ([str(tmp_path / "nowhere.jsonl")], None, None, "no such file"),
        ([file], "/nowhere/at/all", tmp_path / "page.html", "no such folder"),
    ):
        with pytest.raises(ProgrpoError, match=message):
            run_score(words, BOTH, model, out, 0)
    assert taken.read_text() == "precious"
    assert not (tmp_path / "page.html").exists()


def test_the_terminal_says_where_methods_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*group("p"), *group("[bold]q", ("correct",) * 4)]
    run_score([str(write_rollouts(tmp_path / "run", rows))], BOTH, None, None, 3)
    shown = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line.split() for line in shown.splitlines()}
    assert "8 completions in 2 groups" in shown
    assert lines["ties broken, %"][-1] == "33.3"  # of 3 + 6 pairs, 3: the shift leaves the second group alone
    assert lines["exactly 0, %"][-2:] == ["50.0", "50.0"]
    assert lines["mean"][-2:] == ["0.000", "−0.028"]  # 0.3 times the sum of SHIFT, over 8
    first = [line for line in shown.splitlines() if line.strip().startswith("p ")]
    # the largest shifts: completions 2 (-0.12), 0 (-0.08) and 1 (-0.02)
    assert [line.split()[1] for line in first[1:]] == ["2", "0", "1"]
    assert "[bold]q" in shown
    assert "no settings of a run beside it" in shown


def test_what_differs_from_the_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"batch": {"prompts": 2}, "old_logprobs": "trainer"}
    file = str(write_rollouts(tmp_path / "run", group("p"), config))
    run_score([file, "now.logprobs_from=current", "now.alpha=1"], ("grpo", "now=progrpo"), None, None, 0)
    shown = capsys.readouterr().out
    assert "1 group, but its run makes 2; all of it counts as one step" in shown
    assert "its run trained on log-probs of its own passes" in shown
    assert "now: training reads the policy anew before each optimiser step" in shown
    assert "now: alpha=1 can flip the sign of an advantage at group size 4" in shown


def test_the_module_of_the_verb_imports_no_torch() -> None:
    code = "import progrpo.cli.score, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_a_real_run_gives_the_advantages_it_trained_on(tmp_path: Path) -> None:
    from progrpo.train.loop import train
    from progrpo.train.settings import load_settings

    recipe = tmp_path / "recipe.yaml"
    task = {"name": "countdown", "numbers": 4, "max_number": 8, "max_target": 24, "min_used": 3, "min_solutions": 4}
    recipe.write_text(
        yaml.safe_dump(
            {
                "steps": 2,
                "out": str(tmp_path / "run"),
                "model": {"path": "embedded:countdown"},
                "task": task | {"train_size": 40, "test_size": 4},
                "method": {"name": "progrpo", "preset": "equilibrium"},
                "sampling": {"max_new_tokens": 40},
                "batch": {"prompts": 8, "group": 8, "minibatch_prompts": 4, "micro_tokens": 2048},
                "record": {"tokens": True},
            }
        )
    )
    train(load_settings(recipe))
    file, out, page = tmp_path / "run/rollouts/step-000001.jsonl", tmp_path / "out.jsonl", tmp_path / "page.html"
    words = [str(file), "same.preset=equilibrium"]
    run_score(words, ["same=progrpo", "grpo"], None, out, 5)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 64
    assert column(rows, "same") == [row["recorded"] for row in rows]
    assert column(rows, "grpo") != column(rows, "same")
    run_score(words, ["same=progrpo", "grpo"], None, page, 0)
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    assert all("".join(one["tokens"]["texts"]).split("\x00")[0] == one["text"] for one in data["completions"])
