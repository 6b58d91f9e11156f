"""Any endpoint that speaks OpenAI's API, to evaluate what it serves: chat messages, or token ids, in; text out.

Its weights are not ours: nothing is trained through it. The model that is named beside it gives tokenizer and chat template;
its weights are not read. A key is read from the environment, sent, and never written down.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from progrpo.engines import Capabilities, Done, Engine, Generated, Request, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines._groups import gathered, places
from progrpo.engines._http import AnswerError, HttpServer, all_at_once
from progrpo.errors import ConfigError, EngineError
from progrpo.model import LanguageModel
from progrpo.model.chat import DEFAULT_CHAT, Chat
from progrpo.settings import Settings
from progrpo.types import Completion

__all__ = ["NO_WEIGHTS", "OWN_WEIGHTS", "OpenAIEngine", "Params", "from_answer", "make", "to_body"]

OWN_WEIGHTS = True
NO_WEIGHTS = True

_UNKNOWN = -1
"""Stands for the id of a token that an endpoint gave as text alone."""
_AGAIN = (408, 409, 429, 500, 502, 503, 504)


class Params(Settings):
    url: str = Field(min_length=1, examples=["http://127.0.0.1:8000/v1"])
    """What stands before /chat/completions, for instance http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1, examples=["Qwen/Qwen2.5-7B-Instruct"])
    """The model's name at the endpoint."""
    api: Literal["chat", "completions"] = "chat"
    """chat: the problem's messages (a plain prompt as one of the user); the endpoint's own chat template applies. completions:
    the token ids of the prompt as training would see it; the endpoint must have the same tokenizer."""
    key_from: str = "OPENAI_API_KEY"
    """The environment variable with the key; none is sent where it is not set."""
    logprobs: Literal["raw", "processed", "none"] = "raw"
    """Which log-probs the endpoint gives: at temperature 1 (OpenAI; vLLM's default), of the distribution that was drawn from
    (vLLM's processed_logprobs), or none."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """More fields of each request, for instance {top_k: 20}."""
    connections: int = Field(32, gt=0)
    """Requests at a time."""
    timeout_s: float = Field(600.0, gt=0)
    """Seconds that one request may take."""
    retries: int = Field(5, ge=0)
    """How often a request is sent again that the endpoint was too busy for, after 1, 2, 4, ... seconds."""


def make(model: LanguageModel, params: Params) -> "OpenAIEngine":
    return OpenAIEngine(model, params)


class OpenAIEngine(Engine):
    capabilities = Capabilities(
        samples_trained_weights=False, entropies=False, entropy_gradients=False, prompt_logprobs=False, beside=True
    )

    def __init__(self, model: LanguageModel, params: Params) -> None:
        self._model, self._params = model, params
        key = os.environ.get(params.key_from, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._server = HttpServer(params.url, engine="openai", timeout_s=params.timeout_s, headers=headers)

    def update_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        raise ConfigError("engine openai: an endpoint's weights cannot be trained; use it with progrpo evaluate")

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        prompt_logprobs: bool = False,
        on_done: Done | None = None,
    ) -> list[Generated]:
        _require_known(sampling, self._params)
        ends = Ends(self._model, sampling)
        limits = [ends.limit(request) for request in requests]
        wanted = places(requests)

        def sample(number: int) -> Completion:
            index, place = wanted[number]
            body = to_body(
                requests[index], requests[index].seeds[place], sampling, limits[index], self._params, self._model.chat
            )
            return from_answer(self._ask(body), requests[index].seeds[place], sampling, self._params)

        answers = all_at_once(
            sample,
            len(wanted),
            connections=self._params.connections,
            silence_s=2 * self._params.timeout_s + 2.0**self._params.retries,
            engine="openai",
            servers=[self._server],
        )
        with closing(answers):
            return gathered(requests, ((*wanted[number], completion) for number, completion in answers), on_done)

    def close(self) -> None:
        self._server.close()

    def _ask(self, body: Mapping[str, Any]) -> Any:
        path = "/chat/completions" if self._params.api == "chat" else "/completions"
        for attempt in range(self._params.retries + 1):
            try:
                return self._server.call("POST", path, body, repeatable=True)
            except AnswerError as error:
                if error.status not in _AGAIN or attempt == self._params.retries:
                    raise
                time.sleep(2.0**attempt)
        raise AssertionError("the last attempt gives an answer or an error")


def to_body(
    request: Request, seed: int, sampling: Sampling, limit: int, params: Params, chat: Chat = DEFAULT_CHAT
) -> dict[str, Any]:
    """The JSON of one completion's request. Variables for the endpoint's chat template go by the name that vLLM and SGLang
    read.

    Raises:
        EngineError: chat is asked for, and the request holds token ids alone.
    """
    body: dict[str, Any] = {
        "model": params.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
        "max_tokens": limit,
        **({"stop": list(sampling.stop)} if sampling.stop else {}),
    }
    if params.api == "completions":
        body["prompt"] = request.prompt_ids.tolist()
        if params.logprobs != "none":
            body["logprobs"] = 1
        return body | params.extra
    if request.prompt is None:
        raise EngineError("engine openai, api=chat: the request holds token ids alone; set engine.api=completions")
    messages = ({"role": "user", "content": request.prompt},) if isinstance(request.prompt, str) else request.prompt
    body["messages"] = [dict(message) for message in messages]
    if chat.template_kwargs:
        body["chat_template_kwargs"] = dict(chat.template_kwargs)
    if params.logprobs != "none":
        body["logprobs"] = True
    return body | params.extra


def from_answer(answer: Any, seed: int, sampling: Sampling, params: Params) -> Completion:
    """The completion of an answer. Tokens whose ids the endpoint does not give have the id -1; without log-probs these are nan.

    Raises:
        EngineError: the answer holds no completion, or one that was broken off.
    """
    try:
        choice = answer["choices"][0]
        text = choice["text"] if params.api == "completions" else (choice["message"]["content"] or "")
        reason, details = choice["finish_reason"], choice.get("logprobs") or {}
        if params.api == "completions":
            values = details.get("token_logprobs") or []
        else:
            values = [one["logprob"] for one in details.get("content") or []]
        ids = choice.get("token_ids") or []
        count = len(ids) or len(values) or int((answer.get("usage") or {}).get("completion_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EngineError(f"engine openai: the answer holds no completion ({type(error).__name__}: {error})") from error
    if reason not in ("stop", "length"):
        raise EngineError(f"engine openai: a completion ended as {reason!r}; expected stop or length")
    known = params.logprobs != "none" and len(values) == count and all(value is not None for value in values)
    logprobs = torch.tensor(values if known else [torch.nan] * count, dtype=torch.float32)
    plain = sampling.top_p == 1 and sampling.temperature in (0, 1)
    tempered = known and (plain or (params.logprobs == "processed" and sampling.top_p == 1))
    return Completion(
        seed=seed,
        text=text,
        finish=reason,
        token_ids=torch.tensor(ids or [_UNKNOWN] * count, dtype=torch.long),
        sampler_logprobs=logprobs if tempered or params.logprobs == "processed" else torch.full((count,), torch.nan),
        logprobs_of="tempered" if tempered else "drawn" if known and params.logprobs == "processed" else "unknown",
        raw_logprobs=logprobs if sampling.raw and known and (plain or params.logprobs == "raw") else None,
    )


def _require_known(sampling: Sampling, params: Params) -> None:
    """Raises ConfigError if the API cannot say what was asked for."""
    if sampling.top_k and "top_k" not in params.extra:
        raise ConfigError(
            f"engine openai: OpenAI's API has no top_k; for an endpoint that has one set engine.extra.top_k={sampling.top_k}"
        )
    if numbers := [stop for stop in sampling.stop if isinstance(stop, int)]:
        raise ConfigError(f"engine openai: completions are stopped by strings, not by token ids; got {numbers[0]}")
