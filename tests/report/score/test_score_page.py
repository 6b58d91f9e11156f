import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import HOSTILE

from progrpo.api.score_apply import apply_methods, load_methods
from progrpo.errors import ModelError
from progrpo.evaluate.spelling import Spelling
from progrpo.report.score import page as score_page
from progrpo.report.score.page import make_score_page
from progrpo.rollout.recorded import read_rollouts
from stand_ins.rollouts import countdown_tokenizer, group, write_rollouts

EMBEDDED = {"model": {"path": "embedded:countdown"}}


def page_of(
    path: Path,
    rows: list[dict[str, Any]],
    *,
    config: dict[str, Any] | None = None,
    model: str | None = None,
    methods: tuple[str, ...] = ("grpo", "progrpo"),
) -> str:
    file = read_rollouts(write_rollouts(path, rows, config))
    spelling = Spelling.of_run(file) if model is None else Spelling.of_model(model)
    return make_score_page(apply_methods([file], load_methods(methods, [])), spelling)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_tokens_have_texts_probabilities_and_the_least_likely_marked(tmp_path: Path) -> None:
    page = page_of(tmp_path, group("p"), config=EMBEDDED)
    data = data_of(page)
    assert data["methods"] == ["grpo", "progrpo"]
    first, _, third, _ = data["completions"]
    assert first["tokens"]["texts"] == ["1", "+", "2", "=", "3", "\x00<eos>"]
    assert first["tokens"]["probabilities"] == [0.5, 0.9, 0.9, 0.9, 0.9, 0.9]
    assert first["tokens"]["low"] == [1, 1, 0, 0, 0, 0]  # a tie goes to the earlier token
    assert third["tokens"]["low"] == [1, 1, 0, 0, 0, 0]
    # All lengths are equal: each token weighs one over the tokens, times the advantage.
    assert first["tokens"]["weights"] == pytest.approx(first["advantages"], abs=1e-3)
    assert "Token texts come from the tokenizer of embedded:countdown." in page


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "no settings of a run beside the file name a model; name one with --model"),
        ({"model": {"path": "/nowhere/at/all"}}, "no such folder"),
    ],
)
def test_without_a_tokenizer_ids_are_shown_and_the_page_says_so(
    tmp_path: Path, config: dict[str, Any] | None, reason: str
) -> None:
    page = page_of(tmp_path, group("p"), config=config)
    assert "Tokens are not shown as text: " in page
    assert reason in page
    assert "with --model." in page
    assert "does not turn their ids into their text" not in page
    tokens = data_of(page)["completions"][0]["tokens"]
    assert tokens["texts"] is None
    assert tokens["ids"] == [4, 13, 5, 17, 6, 1]


def test_a_tokenizer_that_spells_something_else_is_found_out(tmp_path: Path) -> None:
    page = page_of(tmp_path, group("p", completion="1+3=2"), model="embedded:countdown")
    assert "4 completions show token ids, because this tokenizer does not turn their ids into their text" in page
    assert data_of(page)["completions"][0]["tokens"]["texts"] is None
    with pytest.raises(ModelError):
        Spelling.of_model("/nowhere/at/all")


def test_a_file_without_tokens_has_a_page_too(tmp_path: Path) -> None:
    page = page_of(tmp_path, group("p", tokens=False), methods=("grpo", "dr_grpo"))
    assert [one["tokens"] for one in data_of(page)["completions"]] == [None] * 4
    assert "a run records them with record.tokens=true" in page


def test_hostile_text_is_data_and_never_markup(tmp_path: Path) -> None:
    rows = group("p<b>", completion=HOSTILE, prompt=HOSTILE, answer=HOSTILE, detail=HOSTILE)
    page = page_of(tmp_path, rows, config={"model": {"path": HOSTILE}})
    assert "<script>alert" not in page
    assert page.count("<script") == 2
    assert "p<b>" not in page
    data = data_of(page)
    assert data["completions"][0]["text"] == HOSTILE
    assert data["groups"][0] == {"name": "p<b>", "prompt": HOSTILE, "answer": HOSTILE}
    page.encode("utf-8")


def test_one_method_alone_and_the_same_page_twice(tmp_path: Path) -> None:
    rows = group("p")
    assert page_of(tmp_path / "a" / "run", rows, methods=("grpo",)).count("<svg") == 0
    file = read_rollouts(write_rollouts(tmp_path / "b", rows, EMBEDDED))
    methods = load_methods(("grpo", "weak=progrpo"), ["weak.alpha=0.1"])
    pages = [make_score_page(apply_methods([file], methods), Spelling.of_run(file)) for _ in range(2)]
    assert pages[0] == pages[1]
    assert "<code>alpha</code></td><td>–</td><td>0.1</td>" in pages[0]


def test_a_page_holds_whole_groups_within_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        *group("same", ("correct",) * 4),
        *group("mixed"),
        *group("other", ("correct", "correct", "wrong", "wrong")),
    ]
    monkeypatch.setattr(score_page, "TOKENS", 60)  # a group has 24
    page = page_of(tmp_path / "a", rows)
    assert {one["name"] for one in data_of(page)["groups"]} == {"mixed", "other"}
    assert "The 8 completions of the 2 groups in which the methods differ most." in page
    monkeypatch.setattr(score_page, "TOKENS", 1)
    assert len(data_of(page_of(tmp_path / "b", rows))["groups"]) == 1


def test_files_tell_groups_of_one_name_apart(tmp_path: Path) -> None:
    files = [read_rollouts(write_rollouts(tmp_path / name, group("p"))) for name in "ab"]
    page = make_score_page(apply_methods(files, load_methods(("grpo", "progrpo"), [])), Spelling())
    data = data_of(page)
    assert [one["name"] for one in data["groups"]] == ["p (step-000001)"] * 2
    assert [one["group"] for one in data["completions"]] == [0] * 4 + [1] * 4
    assert countdown_tokenizer().decode(data["completions"][0]["tokens"]["ids"], skip_special_tokens=True) == "1+2=3"
