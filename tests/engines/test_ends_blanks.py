"""Stop strings with blanks, where a tokenizer strips the one before a text."""

from dataclasses import replace

import pytest
from transformers import LlamaTokenizer

from progrpo.engines import Sampling
from progrpo.engines._ends import Ends
from progrpo.model import LanguageModel

TOKENS = ("<unk>", "<s>", "</s>", "▁Human", ":", "▁foo", "▁", "▁Q", "foo", "<0x0A>", "<0xC3>", "<0xA9>", "▁a")


@pytest.mark.parametrize(
    ("stop", "tokens", "first"),
    [
        ("Human:", ["▁Human", ":", "▁foo"], 2),
        ("Human: ", ["▁Human", ":", "▁foo"], 3),
        ("Q: ", ["▁Q", ":", "▁", "foo"], 3),
        (" foo", ["▁Q", "▁foo"], 2),
        ("foo foo", ["▁Q", "foo", "foo", "▁foo"], 4),
        ("\n\n", ["▁foo", "<0x0A>", "<0x0A>"], 3),
        ("é", ["▁foo", "<0xC3>", "<0xA9>"], 3),
        ("Q: ", ["▁Q", ":", "foo", "▁"], None),
    ],
)
def test_they_are_found_at_the_token_that_completes_them(
    tiny_model: LanguageModel, stop: str, tokens: list[str], first: int | None
) -> None:
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    tokenizer = LlamaTokenizer(
        vocab=vocabulary, merges=[], unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    ends = Ends(replace(tiny_model, tokenizer=tokenizer), Sampling(max_new_tokens=9, stop=(stop,)))
    assert ends.first([vocabulary[token] for token in tokens]) == first
