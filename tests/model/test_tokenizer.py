import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from progrpo.errors import ConfigError, DataError, ModelError
from progrpo.model import ModelSettings, load_model
from progrpo.model.chat import Chat
from progrpo.model.tokenizer import decode, encode_prompt, end_of_turn, notes, require_embedded
from progrpo.settings import parse

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "</think>")
LETTERS = "abcdefghijklmnopqrstuvwxyzHQ0123456789+=\n "
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def characters(template: str | None = None, *, around: str = "$A") -> Any:
    """A tokenizer of one token per character that puts special tokens `around` a text ("<s> $A </s>")."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *LETTERS))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    made.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(token, vocabulary[token]) for token in around.split() if token != "$A"]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[4:]),
    )
    tokenizer.chat_template = template
    return tokenizer


def spelled(tokenizer: Any, prompt: Any) -> list[str]:
    return tokenizer.convert_ids_to_tokens(encode_prompt(tokenizer, prompt).tolist())


@pytest.mark.parametrize(
    ("around", "prompt", "expected"),
    [
        ("$A", "ab", ["a", "b"]),
        ("<s> $A", "ab", ["<s>", "a", "b"]),
        ("<s> $A", "<s>ab", ["<s>", "a", "b"]),  # a rendered prompt brings its own
        ("<s> $A", "<s><s>ab", ["<s>", "<s>", "a", "b"]),  # what the text says twice is the text's
        ("$A", "<s><s>ab", ["<s>", "<s>", "a", "b"]),
        ("<s> $A </s>", "ab", ["<s>", "a", "b"]),
        ("$A </s>", "ab", ["a", "b"]),
        ("$A </s>", "ab</s>", ["a", "b", "</s>"]),  # as the user wrote it
        ("<s> $A </s>", "<s>ab", ["<s>", "a", "b"]),
        ("$A", "</s>", ["</s>"]),
    ],
)
def test_text_gets_one_beginning_and_no_end(around: str, prompt: str, expected: list[str]) -> None:
    assert spelled(characters(around=around), prompt) == expected


def test_a_begun_answer_is_continued() -> None:
    tokenizer = characters(CHATML, around="<s> $A")
    asked = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b = "})
    assert tokenizer.decode(encode_prompt(tokenizer, asked)).endswith("<|im_start|>assistant\nb = ")
    closed = (*asked, {"role": "user", "content": "c"})
    assert tokenizer.decode(encode_prompt(tokenizer, closed)).endswith("c<|im_end|>\n<|im_start|>assistant\n")
    assert encode_prompt(tokenizer, closed)[0] == SPECIAL.index("<|im_start|>")  # the template says how a chat begins


def test_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be written in UTF-8"):
        encode_prompt(characters(), "a\ud800b")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{{ raise_exception('System role not supported') }}",
            "refuses .* roles system, user: System role not supported",
        ),
        ("{{ messages[0]['content'] + 1 }}", "refuses .* roles system, user: can only concatenate str"),
        ("{{ nothing.at.all }}", "refuses .* roles system, user: 'nothing' is undefined"),
    ],
)
def test_a_template_that_raises_is_one_line(template: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        encode_prompt(characters(template), ({"role": "system", "content": "a"}, {"role": "user", "content": "b"}))
    assert "\n" not in str(caught.value)


def test_special_tokens_stay_in_the_text() -> None:
    tokenizer = characters()
    ids = [SPECIAL.index(token) if token in SPECIAL else len(SPECIAL) + LETTERS.index(token) for token in "ab"]
    ids = [SPECIAL.index("</think>"), *ids, SPECIAL.index("<pad>"), SPECIAL.index("</s>")]
    assert decode(tokenizer, ids, {0, 2}) == "</think>ab"
    assert decode(tokenizer, ids, {0}) == "</think>ab</s>"


def test_blanks_before_punctuation_stay() -> None:
    """Some tokenizers ask for texts to be cleaned up, which would make print('a.b') of this."""
    written = "print(' a . b ')"
    vocabulary = {token: index for index, token in enumerate(sorted(set(written)))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=True)
    ids = tokenizer(written).input_ids
    assert tokenizer.decode(ids) != written
    assert decode(tokenizer, ids, ()) == written


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, None),
        (CHATML, "<|im_end|>"),
        ("{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}", "</s>"),
        ("{% for m in messages %}{{ m['content'] }} </s>{% endfor %}", "</s>"),
        ("{% for m in messages %}{{ m['role'][0] }}={{ m['content'] }}{% endfor %}", None),
        ("{% for m in messages %}{{ m['content'] }}\nq<|im_end|>{% endfor %}", None),  # words come first
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", None),  # nothing of what was said
    ],
)
def test_the_end_of_a_turn(template: str | None, expected: str | None) -> None:
    tokenizer = characters(template)
    found = end_of_turn(tokenizer)
    assert (None if found is None else tokenizer.convert_ids_to_tokens(found)) == expected


def test_what_is_said_of_the_conventions() -> None:
    eos, turn = SPECIAL.index("</s>"), SPECIAL.index("<|im_end|>")
    assert notes(characters(CHATML), {eos, turn}) == []
    assert notes(characters(), {eos}) == []
    (said,) = notes(characters(CHATML), {eos})
    assert "ends a turn with '<|im_end|>'" in said
    (said,) = notes(characters(around="<s> $A </s>"), {eos})
    assert "ends every text with '</s>'" in said
    (said,) = notes(characters("{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"), {eos})
    assert "leaves a prompt at '</s>', after which no answer is opened" in said
    chat = Chat(system_prompt="be brief")
    assert notes(characters(CHATML), {eos, turn}, chat) == []
    only_users = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
    (said,) = notes(characters(only_users), {eos, turn}, chat)
    assert "leaves system messages out: model.system_prompt does nothing" in said
    (said,) = notes(characters("{{ raise_exception('no') }}"), {eos})
    assert "is not known: the model's chat template refuses messages of the roles user, assistant: no" in said


def test_the_end_of_a_turn_ends_completions_and_is_said_once(
    tiny_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    config = folder / "tokenizer_config.json"
    template = "{% for m in messages %}{{ m['content'] }}<unk>{% endfor %}"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": template}))
    with caplog.at_level(logging.WARNING):
        model = load_model(ModelSettings(path=str(folder), device="cpu"))
        load_model(ModelSettings(path=str(folder), device="cpu"), again=True)
    assert model.stop_ids == {1, 2}  # <eos> and <unk>
    assert sum("ends a turn with '<unk>'" in one.getMessage() for one in caplog.records) == 1
    text = model.decode(torch.tensor([5, 2, 0, 1]))
    assert text == model.tokenizer.decode([5])


def test_tokens_beyond_the_embedding_are_refused() -> None:
    tokenizer = characters()
    size = len(SPECIAL) + len(LETTERS)
    require_embedded(tokenizer, size, "tiny")
    said = (
        rf"tiny: the tokenizer's token '9' has id {len(SPECIAL) + LETTERS.index('9')} and 4 more, but the model embeds"
    )
    with pytest.raises(ModelError, match=said):
        require_embedded(tokenizer, len(SPECIAL) + LETTERS.index("9"), "tiny")


THINKING = CHATML.replace("assistant\n{% endif", "assistant\n{% if not enable_thinking %}</think>{% endif %}{% endif")


def test_a_system_prompt_goes_before_chats_that_have_none() -> None:
    tokenizer, chat = characters(CHATML), Chat(system_prompt="be")
    asked, briefed = {"role": "user", "content": "a"}, {"role": "system", "content": "b"}

    def text(*messages: dict[str, str], chat: Chat = chat) -> str:
        return str(tokenizer.decode(encode_prompt(tokenizer, messages, chat)))

    begin = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert text(asked) == f"<|im_start|>system\nbe<|im_end|>\n{begin}"
    assert text(asked, chat=Chat()) == begin
    assert text(asked, chat=Chat(system_prompt="")) == f"<|im_start|>system\n<|im_end|>\n{begin}"
    assert text(briefed, asked) == f"<|im_start|>system\nb<|im_end|>\n{begin}"  # the chat's own stays, alone


def test_variables_reach_the_template_and_unknown_ones_are_said() -> None:
    tokenizer = characters(THINKING)
    asked = ({"role": "user", "content": "a"},)
    thinks, thinks_not = (
        Chat(template_kwargs={"enable_thinking": True}),
        Chat(template_kwargs={"enable_thinking": False}),
    )
    assert tokenizer.decode(encode_prompt(tokenizer, asked, thinks)).endswith("assistant\n")
    assert tokenizer.decode(encode_prompt(tokenizer, asked, thinks_not)).endswith("assistant\n</think>")
    eos, turn = SPECIAL.index("</s>"), SPECIAL.index("<|im_end|>")
    assert notes(tokenizer, {eos, turn}, thinks_not) == []
    (said,) = notes(
        tokenizer, {eos, turn}, Chat(template_kwargs={"thinking": False})
    )  # "enable_thinking" is another word
    assert said == "model.chat_template_kwargs: the chat template names no 'thinking' and will ignore it"
    with pytest.raises(ConfigError, match="chat_template_kwargs: tokenize is no variable of a template"):
        parse(ModelSettings, {"path": "x", "chat_template_kwargs": {"tokenize": True}}, where="model")


@pytest.mark.parametrize("chat", [Chat(system_prompt=""), Chat(template_kwargs={"enable_thinking": False})])
def test_plain_text_is_not_silently_left_without_them(chat: Chat) -> None:
    with pytest.raises(DataError, match="the prompt is plain text, which no template renders"):
        encode_prompt(characters(THINKING), "a", chat)
