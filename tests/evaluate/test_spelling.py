from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from progrpo.evaluate.spelling import token_texts
from stand_ins.rollouts import countdown_tokenizer


def byte_tokenizer() -> Any:
    """A token per byte, as GPT-2 and Qwen spell bytes, and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


BYTES = byte_tokenizer()


def spelled(text: str, tokenizer: Any = BYTES) -> list[str] | None:
    ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return token_texts(tokenizer, ids, text)


def test_a_character_of_several_tokens_belongs_to_the_last() -> None:
    assert spelled("aé€b") == ["a", "", "é", "", "", "€", "b", ""]


def test_special_tokens_that_the_run_kept_have_their_text() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["</think>", "<turn>"]})
    think, turn = tokenizer.convert_tokens_to_ids(["</think>", "<turn>"])
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    assert token_texts(tokenizer, [a, think, b, tokenizer.eos_token_id], "a</think>b") == ["a", "</think>", "b", ""]
    # an end token of the model's, which the tokenizer does not name as one
    assert token_texts(tokenizer, [a, think, b, turn], "a</think>b") == ["a", "</think>", "b", ""]
    # a run of before, which left all of them out
    assert token_texts(tokenizer, [a, think, b, turn], "ab") == ["a", "", "b", ""]


def test_bytes_that_are_no_character() -> None:
    # Latin-1's e acute alone is no UTF-8: the tokenizer decodes it to the replacement character.
    broken = BYTES.convert_tokens_to_ids(["a", "é", "b"])
    text = BYTES.decode(broken)
    assert "\N{REPLACEMENT CHARACTER}" in text
    found = token_texts(BYTES, broken, text)
    assert found is not None
    assert "".join(found) == text


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=12))
def test_the_tokens_spell_the_text(text: str) -> None:
    found = spelled(text)
    assert found is not None
    assert "".join(found) == text


@given(st.lists(st.integers(0, 255), max_size=12))
def test_any_bytes_are_spelled(ids: list[int]) -> None:
    text = BYTES.decode(ids, skip_special_tokens=True)
    found = token_texts(BYTES, ids, text)
    assert found is not None
    assert len(found) == len(ids)
    assert "".join(found) == text


@pytest.mark.parametrize("text", ["3/3=1,1+5=6", "1"])
def test_the_embedded_model(text: str) -> None:
    found = spelled(text, countdown_tokenizer())
    assert found is not None
    assert "".join(found) == text
    assert len(found) == len(text) + 1


def test_a_tokenizer_that_drops_the_first_space(tiny_folder: Any) -> None:
    from transformers import AutoTokenizer

    folder: Path = tiny_folder("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a b", add_special_tokens=False).input_ids
    text = tokenizer.decode(ids, skip_special_tokens=True)
    found = token_texts(tokenizer, ids, text)
    assert found is not None
    assert "".join(found) == text


def test_the_ids_of_another_tokenizer_are_not_spelled() -> None:
    assert token_texts(BYTES, BYTES("abc").input_ids, "abd") is None


def test_a_long_text_is_cut_without_decoding_every_prefix() -> None:
    assert spelled("é" * 1500) == ["", "é"] * 1500 + [""]
