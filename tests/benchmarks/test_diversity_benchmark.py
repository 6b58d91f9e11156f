"""The benchmark of Self-BLEU runs at a tiny size and says what it measured."""

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.slow  # importing nltk takes seconds
def test_the_script_says_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "diversity.py"
    spec = importlib.util.spec_from_file_location("diversity_benchmark", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(["--small"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Self-BLEU-4, 3 problems x 6 completions x 80 tokens, one thread"
    assert "nltk, 1 of 3 problems" in lines[2]
    assert lines[3].endswith("6 BLEUs equal to the last bit")
    texts = script.make_texts(2, 3, 50, seed=0)
    assert [len(text.split()) for part in texts for text in part] == [50] * 6
    assert texts == script.make_texts(2, 3, 50, seed=0)
