"""Prompts to token ids and token ids to text, by the conventions of the model's own tokenizer and chat template."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from progrpo.errors import DataError, ModelError
from progrpo.model.chat import DEFAULT_CHAT, Chat, unknown_variables
from progrpo.types import Message

_AS_TEXT = "plain text: task.chat=false where the task makes messages of texts, else write the data's messages as text"
_MARK = "Qzx7"
"""Stands for the assistant's words where a template is rendered to see what follows them."""


def encode_prompt(tokenizer: Any, prompt: str | Sequence[Message], chat: Chat = DEFAULT_CHAT) -> Tensor:
    """Token ids [Q] of a prompt: chat messages through the model's own chat template, plain text as it stands.

    Messages that end with the assistant's are continued, not closed. Plain text is given the tokens that the tokenizer puts
    before every text, but no second beginning-of-text where it brings its own, and no end-of-text after it.

    Raises:
        DataError: messages for a tokenizer without a chat template, or that the template refuses; text that is no text
            (a lone surrogate); plain text where `chat` has something to add to messages; or a prompt without tokens.
    """
    if isinstance(prompt, str) and chat:
        raise DataError(
            "model.system_prompt and model.chat_template_kwargs are for chat messages, and the prompt is plain text, which no "
            "template renders; give chat messages (task.chat=true makes them of texts), or leave the two out"
        )
    if isinstance(prompt, str):
        ids = _text_ids(tokenizer, prompt)
    elif getattr(tokenizer, "chat_template", None):
        ids = _ids(tokenizer, _rendered(tokenizer, prompt, chat), add_special_tokens=False)
    else:
        raise DataError(
            f"the prompt is chat messages but the tokenizer has no chat template; give {_AS_TEXT}, or take a model with a "
            "template"
        )
    if not ids:
        raise DataError(f"the prompt has no tokens: {prompt!r:.80}")
    return torch.tensor(ids, dtype=torch.long)


def decode(tokenizer: Any, ids: Sequence[int], dropped: Collection[int]) -> str:
    """The text of token ids, special tokens such as </think> included, without those `dropped` (end tokens and filler)."""
    kept = [token for token in ids if token not in dropped]
    # Cleaning up would take blanks from before punctuation that the model wrote: from within strings of code, too.
    text: str = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def each_spelled(tokenizer: Any, sequences: Sequence[Tensor]) -> tuple[tuple[str, ...], ...]:
    """What each token spells by itself, special tokens such as </think> included.

    Signs of ASCII are whole tokens or parts of one in every tokenizer, so that line breaks and tags stand in these texts; a
    letter of several bytes that lie in several tokens does not.

    Args:
        sequences: [T] token ids each.
    """
    texts: dict[int, str] = {}
    for token in {int(token) for ids in sequences for token in ids.unique()}:
        texts[token] = decode(tokenizer, [token], ())
    return tuple(tuple(texts[token] for token in ids.tolist()) for ids in sequences)


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that goes on from another: no beginning or end of text is added."""
    return _ids(tokenizer, text, add_special_tokens=False)


def end_of_turn(tokenizer: Any, chat: Chat = DEFAULT_CHAT) -> int | None:
    """The added token with which the chat template ends the assistant's turn; None without one.

    Raises:
        DataError: the template cannot be rendered with a user's and an assistant's message.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    turns = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": _MARK})
    _, mark, after = _rendered(tokenizer, turns, chat, whole=True).rpartition(_MARK)
    if not mark:
        return None
    added = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for token in _ids(tokenizer, after, add_special_tokens=False):
        if token in added:
            return token
        if tokenizer.decode([token]).strip():
            return None
    return None


def _shows_system_prompt(tokenizer: Any, chat: Chat) -> bool:
    """Whether the words of a system message stand in what the template makes of it; true where there is no template."""
    if not getattr(tokenizer, "chat_template", None):
        return True
    marked = replace(chat, system_prompt=_MARK)
    return _MARK in _rendered(tokenizer, ({"role": "user", "content": "Hi"},), marked)


def notes(tokenizer: Any, stop_ids: Collection[int], chat: Chat = DEFAULT_CHAT) -> list[str]:
    """What of the tokenizer's conventions a user should know before training, a sentence each.

    Args:
        stop_ids: what ends a completion by the model's and the tokenizer's own word, without the template's end of turn.
    """
    sentences = unknown_variables(tokenizer, chat)
    probe = _ids(tokenizer, "a")
    plain = _ids(tokenizer, "a", add_special_tokens=False)
    if probe[-1:] == [tokenizer.eos_token_id] and plain[-1:] != probe[-1:]:
        sentences.append(
            f"the tokenizer ends every text with {tokenizer.eos_token!r}; prompts, which are to be continued, go without"
        )
    try:
        if chat.system_prompt is not None and not _shows_system_prompt(tokenizer, chat):
            sentences.append(
                "the chat template leaves system messages out: model.system_prompt does nothing with this model"
            )
        turn = end_of_turn(tokenizer, chat)
    except DataError as error:
        return [*sentences, f"whether the chat template ends a turn with a token of its own is not known: {error}"]
    if turn is not None and turn not in stop_ids:
        sentences.append(
            f"the chat template ends a turn with {tokenizer.convert_ids_to_tokens(turn)!r}, which neither tokenizer nor model "
            "names as an end token; it ends completions, too"
        )
    if turn is not None:
        greeting = _rendered(tokenizer, ({"role": "user", "content": "Hi"},), chat)
        opened = _ids(tokenizer, greeting, add_special_tokens=False)
        if opened[-1:] == [turn]:
            sentences.append(
                f"the chat template leaves a prompt at {tokenizer.convert_ids_to_tokens(turn)!r}, after which no answer is "
                "opened; does it honour add_generation_prompt?"
            )
    return sentences


def require_embedded(tokenizer: Any, rows: int, name: str, unused: Collection[int] = ()) -> None:
    """Check that the model has an embedding for every token the tokenizer may give, but those `unused`.

    Raises:
        ModelError: the pad token, or any other, has an id beyond the embedding's rows.
    """
    if tokenizer.pad_token_id >= rows:
        raise ModelError(
            f"{name}: the pad token {tokenizer.pad_token!r} has id {tokenizer.pad_token_id}, but the model embeds {rows} "
            f"tokens only; name one it knows, for instance model.pad_token='{tokenizer.eos_token}'"
        )
    beyond = sorted(
        (index, token) for token, index in tokenizer.get_vocab().items() if index >= rows and index not in unused
    )
    if beyond:
        index, token = beyond[0]
        more = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        raise ModelError(
            f"{name}: the tokenizer's token {token!r} has id {index}{more}, but the model embeds {rows} tokens (ids 0 to "
            f"{rows - 1}): a prompt that holds it cannot be read. Use the tokenizer that belongs to these weights, or give the "
            "model more rows with resize_token_embeddings and save it anew"
        )


def _rendered(tokenizer: Any, messages: Sequence[Message], chat: Chat, *, whole: bool = False) -> str:
    """The text of a chat: `whole` as it stands, else up to where the assistant goes on."""
    count = len(messages)
    messages = chat.messages(messages)
    goes_on = not whole and bool(messages) and messages[-1].get("role") == "assistant"
    try:
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=not whole and not goes_on,
            continue_final_message=goes_on,
            **chat.template_kwargs,
        )
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        roles = ", ".join(str(message.get("role")) for message in messages)
        said = str(error).split("\n")[0] or type(error).__name__
        system = "leave out model.system_prompt, " if len(messages) > count else ""
        raise DataError(
            f"the model's chat template refuses messages of the roles {roles}: {said:.200}; {system}give it other messages, or "
            f"{_AS_TEXT}"
        ) from error
    return text


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    ids = _ids(tokenizer, text)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not ids or (ids[:2] != [begin, begin] and ids[-1] != end):
        return ids
    plain = _ids(tokenizer, text, add_special_tokens=False)
    at = next((start for start in range(len(ids)) if ids[start : start + len(plain)] == plain), None)
    if not plain or at is None:
        return ids
    before, after = ids[:at], ids[at + len(plain) :]
    if begin is not None and plain[0] == begin and before[-1:] == [begin]:
        before = before[:-1]
    return [*before, *plain, *(token for token in after if token != end)]


def _ids(tokenizer: Any, text: str, **options: Any) -> list[int]:
    try:
        return list(tokenizer(text, **options).input_ids)
    except (UnicodeError, TypeError) as error:  # which of the two depends on the tokenizer's kind
        raise DataError(f"the prompt cannot be written in UTF-8 (a lone surrogate?): {text!r:.80}: {error}") from error
