"""Cosine and Vendi score by hand and against their definitions; embeddings against sentence-transformers."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.errors import ConfigError, ModelError
from progrpo.measures import _embeddings
from progrpo.measures.diversity import semantic_cosine
from progrpo.measures.semantic import Params, measure, over_task, prepare, vendi_score
from progrpo.types import ProblemResult, Sample
from stand_ins.needs import need

shapes = st.tuples(st.integers(2, 8), st.integers(1, 8), st.integers(0, 1000))
LONG = "we add the first two terms and compare . " * 40
TEXTS = ["The sum is 12.", "", r"$\frac{1}{2} + x_1 = 4$, so $x_1 = 3.5$", LONG, LONG + "so the answer is seven"]


def made(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)) + 0.1


@given(shapes)
def test_the_linear_formula_is_the_mean_over_pairs(shape: tuple[int, int, int]) -> None:
    rows = made(*shape)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [units[i] @ units[j] for i in range(len(units)) for j in range(i)]
    assert semantic_cosine(rows) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert semantic_cosine(rows[::-1]) == pytest.approx(semantic_cosine(rows), abs=1e-12)
    assert -1 / (len(rows) - 1) - 1e-12 <= semantic_cosine(rows) <= 1 + 1e-12


def test_cosine_by_hand() -> None:
    # Pairs of (1, 0), (0, 2), (1, 1): 0, 1/sqrt 2, 1/sqrt 2.
    assert semantic_cosine(np.array([[1.0, 0], [0, 2], [1, 1]])) == pytest.approx(math.sqrt(2) / 3)
    assert semantic_cosine([[1.0, 0.0], [1.0, 0.0], [0.0, 5.0]]) == pytest.approx(1 / 3)
    assert math.isnan(semantic_cosine(np.ones((1, 3))))
    assert math.isnan(semantic_cosine(["a single text"]))
    assert math.isnan(semantic_cosine([]))


@given(shapes)
def test_vendi_from_either_side_is_its_definition(shape: tuple[int, int, int]) -> None:
    rows = made(*shape)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(units @ units.T / len(units))
    expected = math.exp(-sum(value * math.log(value) for value in values if value > 1e-14))
    assert vendi_score(rows) == pytest.approx(expected, rel=1e-9)
    assert 1 - 1e-9 <= vendi_score(rows) <= min(rows.shape) + 1e-9


def test_vendi_by_hand() -> None:
    assert vendi_score(np.eye(5)) == pytest.approx(5)
    assert vendi_score(np.ones((5, 3))) == pytest.approx(1)
    # Two of one kind and one of another: eigenvalues 2/3 and 1/3.
    expected = math.exp(math.log(3) - 2 / 3 * math.log(2))
    assert vendi_score(np.array([[1.0, 0], [1, 0], [0, 1]])) == pytest.approx(expected)


@pytest.mark.parametrize(
    "rows", [np.ones(3), [1.0, 2.0], np.array([[1.0, 0], [0, 0]]), np.array([[math.nan, 1], [1, 1]])]
)
def test_embeddings_without_direction_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="embeddings: expected"):
        semantic_cosine(rows)


def test_no_embedding_has_no_vendi_score() -> None:
    with pytest.raises(ValueError, match="at least one"):
        vendi_score(np.empty((0, 3)))


def test_a_missing_extra_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_embeddings, "PACKAGES", ("numpy", "no_such_package"))
    _embeddings.model_folder.cache_clear()
    with pytest.raises(ConfigError, match=r"no_such_package not installed; pip install 'progrpo\[semantic\]'"):
        prepare(Params())


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError, match="expected the weights of all-MiniLM-L6-v2"):
        _embeddings.check_weights(tmp_path / "model.safetensors")


@pytest.fixture(scope="session")
def encoder() -> _embeddings.Encoder:
    for package in _embeddings.PACKAGES:
        need(package)
    return _embeddings.encoder("cpu")


def test_the_model_is_loaded_once_and_is_the_right_one(encoder: _embeddings.Encoder) -> None:
    assert _embeddings.encoder("cpu") is encoder
    prepare(Params())


def test_first_is_what_sentence_transformers_gives(encoder: _embeddings.Encoder) -> None:
    expected = encoder._model.encode(TEXTS)
    np.testing.assert_allclose(encoder.first(TEXTS), expected, atol=1e-6)
    assert encoder.first([TEXTS[0], *TEXTS]).shape == (6, 384)
    assert encoder.first([]).shape == (0, 384)


def test_windows_see_what_the_first_one_does_not(encoder: _embeddings.Encoder) -> None:
    first, windowed = encoder.first(TEXTS), encoder.windowed(TEXTS)
    np.testing.assert_array_equal(first[3], first[4])
    assert float(windowed[3] @ windowed[4]) < 0.999
    np.testing.assert_allclose(windowed[:3], first[:3], atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(windowed, axis=1), 1, atol=1e-6)


def test_a_long_text_is_the_mean_of_its_windows(encoder: _embeddings.Encoder) -> None:
    # One token per word: 254 words fill a window, so the text is three windows of words, the last one of 92.
    words = ("one two three four five six seven eight nine ten " * 60).split()
    parts = [" ".join(words[start : start + 254]) for start in (0, 254, 508)]
    mean = encoder._model.encode(parts).sum(axis=0)
    np.testing.assert_allclose(encoder.windowed([" ".join(words)])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_texts_are_embedded_once(encoder: _embeddings.Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    embed = encoder._embed
    monkeypatch.setattr(encoder, "_embed", lambda texts: asked.extend(texts) or embed(texts))
    monkeypatch.setattr(_embeddings, "_REMEMBERED", 2)
    encoder.first(["one new text", "another one", "one new text"])
    encoder.windowed(["another one", "one new text"])
    assert asked == ["one new text", "another one"]
    encoder.first(["a third"])  # forgets the one not asked for longest
    encoder.first(["one new text", "another one"])
    assert asked == ["one new text", "another one", "a third", "another one"]


def test_correct_completions_within_and_over_problems(encoder: _embeddings.Encoder) -> None:
    alike = tuple(Sample(text=TEXTS[0], status="correct") for _ in range(3))
    other = (Sample(text=TEXTS[2], status="correct"), Sample(text="wrong", status="wrong"))
    problems = [ProblemResult(problem="p", samples=alike), ProblemResult(problem="q", samples=other)]
    params = Params(device="cpu")
    found = measure(problems[0], params)
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-6)
    assert set(found) == {"semantic_cosine", "semantic_cosine/windowed", "vendi", "vendi/windowed"}
    assert measure(problems[1], params) == {}
    pooled = over_task(problems, params)
    cosine = float(encoder.first([TEXTS[0]])[0] @ encoder.first([TEXTS[2]])[0])
    # Of six pairs three are alike and three are of the two texts.
    assert pooled["semantic_cosine/pooled"] == pytest.approx((3 + 3 * cosine) / 6, abs=1e-6)
    assert over_task(problems, Params(device="cpu", pooled=False)) == {}
    texts = [sample.text for judged in problems for sample in judged.samples if sample.correct]
    assert semantic_cosine(texts, device="cpu") == pooled["semantic_cosine/pooled"]
