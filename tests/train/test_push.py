"""A checkpoint goes to a stand-in of the hub with a card made from the run; nothing goes anywhere unless it is asked for."""

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from progrpo.api.push import plan_push, send
from progrpo.cli.push import push as push_verb
from progrpo.errors import ConfigError, HubError, ModelError, RunDirectoryError
from progrpo.files import read_jsonl
from progrpo.report.card import make_card, without_folders
from progrpo.statistics import bootstrap_mean
from progrpo.train.watch import Best
from stand_ins.http_server import RefusedError, answering

TOKEN = "hf_of_a_test"


class Hub:
    """What the stand-in was asked for: repositories made, and files by name with what is in them."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.commits: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.refuses = 0

    def answer(self, path: str, body: dict[str, Any], headers: Mapping[str, str]) -> Any:
        self.tokens.add(headers.get("Authorization", ""))
        if self.refuses:
            raise RefusedError(self.refuses, "no")
        if path == "/api/repos/create":
            self.made.append(body)
            return {"url": f"{constants.ENDPOINT}/me/model", "name": "me/model", "id": "x"}
        if "/preupload/" in path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in body["files"]]
            return {"files": files}
        if "/commit/" in path:
            for line in body["lines"]:
                if line["key"] == "header":
                    self.commits.append(line["value"])
                else:
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return {"commitUrl": f"{constants.ENDPOINT}/me/model/commit/abc", "commitOid": "abc", "success": True}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        raise RefusedError(404, f"the stand-in knows no {path}")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    one = Hub()
    with answering(one.answer) as address:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield one


def test_a_checkpoint_and_its_card_in_one_commit(plain_run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    push_verb(plain_run, "me/model", checkpoint="latest", private=True, dry_run=False)
    assert capsys.readouterr().out.strip() == f"{constants.ENDPOINT}/me/model"
    assert hub.made[0]["name"] == "model"
    assert hub.made[0]["organization"] == "me"
    assert hub.made[0].get("private") is True or hub.made[0].get("visibility") == "private"
    assert hub.tokens - {""} == {f"Bearer {TOKEN}"}
    (commit,) = hub.commits
    assert commit["summary"] == "Checkpoint step-000004 of a progrpo run"
    folder = plain_run / "checkpoints/step-000004"
    # the model as it is on the disk, and nothing that a run goes on from
    assert set(hub.files) == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        *_tokenizer(folder),
    }
    assert all(hub.files[name] == (folder / name).read_bytes() for name in hub.files if name != "README.md")


def _tokenizer(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.name.startswith(("tokenizer", "special_tokens"))}


def test_the_card_says_what_it_is_and_how_it_did(plain_run: Path) -> None:
    card = plan_push(plain_run, "me/model").card
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["progrpo", "reinforcement-learning", "rlvr"],  # the method has the package's name
    }
    assert text.lstrip().startswith("# model\n")
    assert "method `progrpo`, task `countdown`, 4 of 4 optimiser steps" in text
    # last results with intervals, beside those before training
    rows = {step: read_jsonl(plain_run / f"evaluations/step-{step:06d}.jsonl") for step in (0, 4)}
    now, before = (bootstrap_mean([row["correct"] / row["n"] for row in rows[step]]) for step in (4, 0))
    cells = [f"{100 * one.mean:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]" for one in (now, before)]
    assert f"| Pass@1, % | {cells[0]} | {cells[1]} |" in text
    assert "### countdown, held-out problems: 4 problems x 4" in text
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert settings["method"]["alpha"] == 0.3
    assert settings["optim"]["lr"] == 1e-3
    environment = json.loads((plain_run / "environment.json").read_text())
    assert f"- torch {environment['versions']['torch']}" in text
    assert "- processes: 1\n" in text
    assert Path(environment["command"][0]).name in text
    # no folder of this machine
    assert str(plain_run.parent) not in card


def test_a_benchmark_of_another_checkpoint_is_left_out(own_run: Path) -> None:
    rows = (own_run / "evaluations/step-000004.jsonl").read_text()
    for name, step in (("mine", 4), ("earlier_one", 2)):
        (own_run / f"evaluations/{name}.jsonl").write_text(rows)
        header = {
            "task": name,
            "preset": None,
            "complete": True,
            "problems": 4,
            "settings": {"n": 4, "temperature": 0.6},
        }
        header["model"] = f"/x/run/checkpoints/step-{step:06d}"
        (own_run / f"evaluations/{name}.json").write_text(json.dumps(header))
    (own_run / "evaluations/aime").mkdir()
    (own_run / "evaluations/aime/step-000004.jsonl").write_text(rows)
    card = make_card(own_run, 4, repo="m", adapter=True, chosen_by="evaluate/pass@1")
    assert "### mine: 4 problems x 4" in card
    assert "### aime: 4 problems x 4" in card
    assert "earlier_one" not in card
    assert "library_name: peft" in card
    assert "A LoRA adapter of" in card
    assert "chosen as the best by `evaluate/pass@1`" in card
    at_two = make_card(own_run, 3, repo="m", adapter=False)
    assert "held-out problems: 4 problems x 4, at step 2" in at_two
    shutil.rmtree(own_run / "evaluations")
    assert "It was not evaluated." in make_card(own_run, 4, repo="m", adapter=False)


def test_the_best_is_pushed_as_such(own_run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    best = own_run / "checkpoints/best.json"
    best.write_text(json.dumps(Best(2, "evaluate/pass@1", 0.5, None)._asdict()))
    push = plan_push(own_run, "me/model", checkpoint="best")
    assert push.folder.name == "step-000002"
    assert "chosen as the best by" in push.card
    assert push.hint == ""
    latest = plan_push(own_run, "me/model")
    assert "chosen as the best by" not in latest.card
    assert latest.hint == (
        "this is step-000004, the latest; the best by evaluate/pass@1 (0.5) is that of step 2, which --checkpoint best takes"
    )
    for checkpoint, notes in ((None, [f"note: {latest.hint}"]), ("best", []), ("4", [])):
        push_verb(own_run, "me/model", checkpoint=checkpoint, dry_run=True)
        assert capsys.readouterr().err.splitlines() == notes
    send(push)
    assert hub.files["README.md"].decode() == push.card


def test_a_dry_run_sends_nothing(plain_run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    push_verb(plain_run, "me/model", checkpoint="4", private=False, dry_run=True)
    said = capsys.readouterr().out
    assert "# would be pushed to me/model, from" in said
    assert "model.safetensors" in said
    assert "trainer_state" not in said
    assert "## Results" in said
    assert not hub.tokens


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "answers with status 401 .*the token is not valid: `hf auth login`; nothing was committed"),
        (403, "answers with status 403 .*the token may not write there"),
    ],
)
def test_what_the_hub_refuses_is_one_line(plain_run: Path, hub: Hub, status: int, said: str) -> None:
    hub.refuses = status
    with pytest.raises(HubError, match=f"(?s)^me/model: http://127.0.0.1:[0-9]+ {said}") as told:
        send(plan_push(plain_run, "me/model"))
    assert "\n" not in str(told.value)
    assert TOKEN not in str(told.value)


def test_without_token_or_hub(plain_run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    push = plan_push(plain_run, "me/model")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(HubError, match="there is no token for the hub: log in with `hf auth login`, or set HF_TOKEN"):
        send(push)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        send(push)
    assert not hub.tokens


def test_what_cannot_be_pushed(plain_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'a/b/c' cannot be the name of a repository"):
        plan_push(plain_run, "a/b/c")
    with pytest.raises(RunDirectoryError, match="expected the directory of a training run"):
        plan_push(tmp_path, "me/model")
    with pytest.raises(ModelError, match="checkpoint=3: there is none of that step"):
        plan_push(plain_run, "me/model", checkpoint=3)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/me/runs/a", "a"),
        ("progrpo train /root/x/math.yaml out=/data/runs/b lr=1/2", "progrpo train math.yaml out=b lr=1/2"),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("https://arxiv.org/abs/2602.05281", "https://arxiv.org/abs/2602.05281"),
        ("runs/a ./mine.py ~/data/train.jsonl", "runs/a ./mine.py train.jsonl"),
        ("['/a/b.jsonl', '/c/d.jsonl']", "['b.jsonl', 'd.jsonl']"),
    ],
)
def test_folders_are_left_out(text: str, kept: str) -> None:
    assert without_folders(text) == kept
