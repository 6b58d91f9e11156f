"""Where a completion ends: end tokens, stop strings, and the limit of tokens. The same for every engine."""

from collections.abc import Sequence

from torch import Tensor

from progrpo.engines import Request, Sampling
from progrpo.errors import DataError
from progrpo.model import LanguageModel
from progrpo.model.tokenizer import decode, encode_text


class Ends:
    """What ends completions of a model under given sampling settings.

    Attributes:
        ids: tokens that end a completion: the model's own and those of `sampling.stop`.
        texts: strings that do, with the token that completes them.

    Raises:
        ConfigError: `sampling.stop` names a token that the model does not have.
    """

    def __init__(self, model: LanguageModel, sampling: Sampling) -> None:
        self._model, self._sampling = model, sampling
        self.ids = model.stop_ids | sampling.stop_ids(model.model.config.get_text_config().vocab_size)
        self.texts = tuple(stop for stop in sampling.stop if isinstance(stop, str))
        # A token stands for one byte at least, so that these hold whatever may complete a string.
        self.window = max((len(text.encode()) for text in self.texts), default=0) + 8
        self._may_complete: dict[int, bool] = {}
        # Some tokenizers strip the blank before a text, so that what follows other tokens is decoded behind one of them.
        self._before = encode_text(model.tokenizer, "a")[-1:] if self.texts else []
        self._text_before = self._decoded(self._before)

    def limit(self, request: Request) -> int:
        """The most tokens a completion of this request has: `max_new_tokens` or its own limit, or what the positions leave.

        Raises:
            DataError: the prompt leaves no room at all.
        """
        positions, prompt = self._model.positions, len(request.prompt_ids)
        most = self._sampling.max_new_tokens
        most = most if request.limit is None else min(most, request.limit)
        if positions is None:
            return most
        if prompt >= positions:
            why = (
                "" if self._model.border is None else ", beyond which its rotary embeddings change with the longest row"
            )
            raise DataError(
                f"a prompt of {prompt} tokens leaves no room for a completion in the model's {positions} positions{why}; "
                "shorten it, or take a model of more positions"
            )
        return min(most, positions - prompt)

    def may_complete(self, token: int) -> bool:
        """Whether this token may be the last of a stop string; cheap, and no for nearly all."""
        if not self.texts:
            return False
        possible = self._may_complete.get(token)
        if possible is None:
            text = self._text([token])
            # Part of a character says nothing of the character.
            possible = "\N{REPLACEMENT CHARACTER}" in text or any(stop[-1] in text for stop in self.texts)
            self._may_complete[token] = possible
        return possible

    def complete(self, tail: Sequence[int]) -> bool:
        """Whether a stop string stands in the text of a completion's last `window` tokens."""
        text = self._text(tail)
        return any(stop in text for stop in self.texts)

    def first(self, tokens: Sequence[int]) -> int | None:
        """How many of these tokens stand before and in the first stop string, the one that completes it included; None
        without one."""
        for count, token in enumerate(tokens, start=1):
            if self.may_complete(token) and self.complete(tokens[max(0, count - self.window) : count]):
                return count
        return None

    def text(self, token_ids: Tensor) -> str:
        """The text of a completion (see `LanguageModel.decode`): stop strings are part of it, end tokens are not."""
        return self._model.decode(token_ids, self.ids)

    def _text(self, tokens: Sequence[int]) -> str:
        """What these tokens spell behind others."""
        text = self._decoded([*self._before, *tokens])
        return text.removeprefix(self._text_before) if text.startswith(self._text_before) else self._decoded(tokens)

    def _decoded(self, tokens: Sequence[int]) -> str:
        return decode(self._model.tokenizer, tokens, ())
