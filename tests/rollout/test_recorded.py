import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo.errors import DataError
from progrpo.rollout.recorded import read_rollouts
from stand_ins.rollouts import group, rollout_row, write_rollouts


def test_groups_come_back_as_they_were(tmp_path: Path) -> None:
    found = read_rollouts(write_rollouts(tmp_path, group("p", ("correct", "wrong", "timeout", "wrong"))))
    (one,) = found.groups
    assert found.tokens
    assert found.prompt_logprobs
    assert [verdict.status for verdict in one.verdicts] == ["correct", "wrong", "timeout", "wrong"]
    assert [completion.text for completion in one.completions] == ["1+2=3", "1*2=2", "2-1=1", "1+1=2"]
    assert one.completions[0].token_ids.tolist() == [4, 13, 5, 17, 6, 1]
    assert one.completions[2].sampler_logprobs.tolist() == pytest.approx([math.log(0.8)] * 6)
    assert one.prompt_logprobs is not None
    assert one.prompt_logprobs.tolist() == pytest.approx([math.log(p) for p in (0.1, 0.4, 0.5, 0.9)])
    assert found.recorded[0][0] == {"advantage": 0.5, "confidence": 0.25}
    assert (found.step_groups, found.longest, found.failed_as) == (1, 6, "neutral")


def test_the_runs_settings_count_where_the_file_is_a_whole_rollout(tmp_path: Path) -> None:
    config: dict[str, Any] = {"batch": {"prompts": 2, "minibatch_prompts": 1}, "sampling": {"max_new_tokens": 40}}
    whole = read_rollouts(write_rollouts(tmp_path / "a", [*group("p"), *group("q")], config))
    assert (whole.step_groups, whole.longest) == (1, 40)
    part = read_rollouts(write_rollouts(tmp_path / "b", [*group("p"), *group("q"), *group("r")], config))
    assert part.step_groups == 3


def test_columns_under_the_names_of_older_versions(tmp_path: Path) -> None:
    rows = group("p", entropy_gradients=[-0.1, 0, 0, 0, 0, 0.2])
    old = {"sampler_logprobs": "logprobs", "entropy_gradients": "entropy_slopes"}
    renamed = [{old.get(name, name): value for name, value in row.items()} for row in rows]
    assert {"logprobs", "entropy_slopes"} <= renamed[0].keys()
    (today,) = read_rollouts(write_rollouts(tmp_path / "today", rows)).groups
    (before,) = read_rollouts(write_rollouts(tmp_path / "before", renamed)).groups
    for one, other in zip(today.completions, before.completions, strict=True):
        assert torch.equal(one.sampler_logprobs, other.sampler_logprobs)
        assert one.entropy_gradients is not None
        assert other.entropy_gradients is not None
        assert torch.equal(one.entropy_gradients, other.entropy_gradients)


def test_impossible_log_probs_and_a_certain_zero(tmp_path: Path) -> None:
    read_rollouts(write_rollouts(tmp_path, group("p", sampler_logprobs=[-math.inf, 1e-7, 0.0, -1.0, -1.0, -1.0])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": None}, "no column 'problem'"),
        ({"problem": 3}, "'problem' must be text, got 3"),
        ({"completion": 3}, "'completion' must be text"),
        ({"index": -1}, "'index' must be a whole number >= 0"),
        ({"index": True}, "'index' must be a whole number >= 0"),
        ({"reward": None}, "no column 'reward'"),
        ({"reward": math.nan}, "'reward' must be a finite number"),
        ({"status": "right"}, "'status' must be one of correct, wrong"),
        ({"finish": "tired"}, "'finish' must be stop or length"),
        ({"length": 5}, "'length' is 5 but there are 6 'token_ids'"),
        ({"sampler_logprobs": [-1.0]}, "6 'token_ids' but 1 'sampler_logprobs'"),
        ({"sampler_logprobs": [math.nan] * 6}, "'sampler_logprobs' must be a list of numbers"),
        ({"sampler_logprobs": [0.5] * 6}, "'sampler_logprobs' holds 0.5; a log-probability is at most 0"),
        ({"entropies": None}, "token ids but no column 'entropies'"),
        ({"prompt_ids": None}, "token ids but no column 'prompt_ids'"),
        ({"prompt_logprobs": [-1.0]}, "4 'prompt_ids' but 1 'prompt_logprobs'"),
        ({"token_ids": ["1"]}, "'token_ids' must be a list of token ids"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    damaged = {key: value for key, value in (rollout_row("p", 3) | change).items() if value is not None}
    rows = [*group("p")[:3], damaged]
    with pytest.raises(DataError, match="line 4") as refused:
        read_rollouts(write_rollouts(tmp_path, rows))
    assert message in str(refused.value)


@pytest.mark.parametrize("line", ["{", "[1]", '{"problem": "p"', "[" * 99_999])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rollout_row("p", 0)) + "\n" + line)
    with pytest.raises(DataError, match="line 2: (not JSON|expected a JSON object)"):
        read_rollouts(path)


def test_null_among_log_probs_is_minus_infinity(tmp_path: Path) -> None:
    """What cannot be has the log-probability -inf, and JSON has no word for it."""
    path = write_rollouts(tmp_path, group("p"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["sampler_logprobs" if "sampler_logprobs" in rows[0] else "logprobs"][2] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_rollouts(path).groups[0].completions[0].sampler_logprobs
    assert found[2] == -math.inf
    assert found.isfinite().sum() == len(found) - 1


def test_a_compressed_file_and_several_accepted_answers(tmp_path: Path) -> None:
    path = write_rollouts(tmp_path, group("p"))
    rows = [json.loads(line) | {"answer": ["3", "4"]} for line in path.read_text().splitlines()]
    packed = path.with_name("step-000002.jsonl.gz")
    packed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    problem = read_rollouts(packed).groups[0].problem
    assert (problem.answer, problem.accepted) == ("3", ("4",))
