"""The scripts for real models: what the warm-up learns, and the table of statistics."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_replies_are_learned_and_prompts_and_padding_are_not() -> None:
    from warm_up import make_batch

    tokens, weights = make_batch([([5, 6], [7, 1]), ([5], [8, 9, 1])], pad_id=0)
    assert tokens.tolist() == [[5, 6, 7, 1], [5, 8, 9, 1]]
    assert weights.tolist() == [[0, 0, 1, 1], [0, 1, 1, 1]]
    tokens, weights = make_batch([([5, 6], [7, 1]), ([5], [1])], pad_id=0)
    assert tokens[1].tolist() == [5, 1, 0, 0]
    assert weights[1].tolist() == [0, 1, 0, 0]


def test_the_worked_answers_become_likelier(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the task's training questions, with the end token; a few steps on two of them."""
    import warm_up
    from make_embedded_model import pretrain
    from progrpo.algo.logprobs import token_logprobs
    from progrpo.tasks import reasoning_gym
    from progrpo.tasks._reasoning_gym import Question

    entries = [
        {"question": f"1+{n}?", "answer": str(n + 1), "metadata": {"answer_cot": f"1+{n}={n + 1}"}} for n in (1, 2)
    ]
    drawn = {"train": [Question(dataset="sums", seed=n, entry=entry) for n, entry in enumerate(entries)], "test": []}
    monkeypatch.setattr(reasoning_gym, "_questions", lambda settings, split: drawn)
    settings = {"dataset": "sums", "chat": False, "tag": "a", "instruction": ""}
    examples = warm_up.examples_of(tiny_model, settings)
    spelled = [tiny_model.tokenizer.decode(reply) for _, reply in examples]
    # What stands in the tiny tokenizer of "1+1=2\n<a>2</a>".
    assert [text.replace("<unk>", "") for text in spelled] == ["1+1=2a2/a<eos>", "1+2=3a3/a<eos>"]
    tokens, weights = warm_up.make_batch(examples, tiny_model.pad_id)

    def likelihood() -> float:
        with torch.no_grad():
            return float((token_logprobs(tiny_model.model(input_ids=tokens).logits, tokens) * weights).sum())

    before = likelihood()
    optimizer = torch.optim.AdamW(tiny_model.model.parameters(), lr=1e-3)
    pretrain(tiny_model.model, lambda: (tokens, weights), steps=8, lr=1e-3, optimizers=[optimizer])
    assert likelihood() > before


def test_a_row_of_the_table() -> None:
    from shift_statistics import HEADINGS, command, row, table

    facts = {"problems": 4, "group": 8, "judged": 32, "correct": 8, "mixed": 3, "c_prompt": 0.0015, "c_correct": None}
    facts |= {"c_incorrect": 0.0043, "spread": 0.0029, "spread_mixed": 0.001, "log_spread": 0.5}
    found = {"facts": facts, "variants": [{"label": "progrpo paper", "default": {"share": 0.25}}]}
    cells = row("gsm_symbolic", 0.6, found)
    assert cells[:6] == ["gsm_symbolic", "0.6", "4 x 8", "25.0%", "3", "0.0015"]
    assert cells[6:] == ["–", "0.0043", "0.0029", "0.0010", "0.5000", "0.2500"]
    facts |= {"c_prompt": 1.49e-5, "log_spread": 0.0}
    assert row("gsm_symbolic", 0.6, found)[5:11] == ["1.5e-05", "–", "0.0043", "0.0029", "0.0010", "0.0000"]
    assert table([cells]).count("\n") == 2
    assert len(cells) == len(HEADINGS)
    args = argparse.Namespace(n=8, problems=4, out=Path("runs/s"), settings=["task.chat=false"])
    words = command("a.gguf", "chain_sum", 1.0, args)
    assert words[2:] == [
        *("progrpo", "shift", "a.gguf", "--task", "reasoning_gym", "task.dataset=chain_sum", "temperature=1.0"),
        *("-n", "8", "--problems", "4", "--out", str(Path("runs/s/chain_sum-1")), "task.chat=false"),
    ]
