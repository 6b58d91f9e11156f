"""Any endpoint that speaks OpenAI's API, to evaluate what it serves: chat messages, or token ids, in; text out.

Its weights are not ours: nothing is trained through it. The model that is named beside it gives tokenizer and chat template;
its weights are not read. A key is read from the environment, sent, and never written down.
"""

import logging
import os
import threading
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
from progrpo.engines.vllm.mapping import to_distribution
from progrpo.errors import ConfigError, EngineError
from progrpo.model import LanguageModel
from progrpo.model.chat import DEFAULT_CHAT, Chat
from progrpo.settings import Settings
from progrpo.types import Completion

__all__ = ["NO_WEIGHTS", "OWN_WEIGHTS", "OpenAIEngine", "Params", "from_answer", "make", "owner", "to_body"]

logger = logging.getLogger(__name__)

OWN_WEIGHTS = True
NO_WEIGHTS = True

_UNKNOWN = -1
"""Stands for the id of a token that an endpoint gave as text alone."""
_AGAIN = (408, 409, 429, 500, 502, 503, 504)
_ENDED_BY = ("stop_reason", "matched_stop")
"""Where vLLM and SGLang say which stop string ended a completion, or that none did."""


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
        self._is_vllm: bool | None = None
        self._warned: set[str] = set()
        self._lock = threading.Lock()

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
        vllm = self._ask_whether_vllm()
        _require_known(sampling, self._params, vllm=vllm)
        ends = Ends(self._model, sampling)
        limits = [ends.limit(request) for request in requests]
        wanted = places(requests)
        path = "/chat/completions" if self._params.api == "chat" else "/completions"

        def sample(number: int) -> Completion:
            index, place = wanted[number]
            request, seed = requests[index], requests[index].seeds[place]
            body = to_body(request, seed, sampling, limits[index], self._params, self._model.chat, vllm=vllm)
            answer = self._ask("POST", path, body)
            completion = from_answer(answer, seed, sampling, self._params)
            if _may_lack_its_stop(answer, completion, sampling):
                self._warn_once(
                    "engine openai: %s does not say which stop string ended a completion, and may leave it out of the text: a "
                    "reward that looks for it (a closing tag) then finds no answer; leave sampling.stop empty, or set in "
                    "engine.extra what makes the endpoint keep it (SGLang: no_stop_trim=true)"
                )
            return completion

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

    def _ask_whether_vllm(self) -> bool:
        """Whether the endpoint says that it is vLLM; asked once. Warns of what is not known of any other."""
        if self._is_vllm is None:
            try:
                self._is_vllm = owner(self._ask("GET", "/models"), self._params.model) == "vllm"
            except EngineError as error:  # not every endpoint has it, and one that is gone will not complete either
                logger.info("%s", error)
                self._is_vllm = False
        names = [name for name in ("top_k", "min_p", "repetition_penalty") if name not in self._params.extra]
        if not self._is_vllm and names:
            self._warn_once(
                "engine openai: %s does not say that it is vLLM (owned_by in its list of models), so "
                f"{', '.join(names)} are not sent and its own defaults apply: figures may not compare with those of other "
                "engines; set in engine.extra what the endpoint takes, for instance {top_k: 0, repetition_penalty: 1.0}"
            )
        return self._is_vllm

    def _warn_once(self, message: str) -> None:
        with self._lock:
            known = message in self._warned
            self._warned.add(message)
        if not known:
            logger.warning(message, self._server.url)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        for attempt in range(self._params.retries + 1):
            try:
                return self._server.call(method, path, body, repeatable=True)
            except AnswerError as error:
                if error.status not in _AGAIN or attempt == self._params.retries:
                    raise
                time.sleep(2.0**attempt)
        raise AssertionError("the last attempt gives an answer or an error")


def to_body(
    request: Request,
    seed: int,
    sampling: Sampling,
    limit: int,
    params: Params,
    chat: Chat = DEFAULT_CHAT,
    *,
    vllm: bool = False,
) -> dict[str, Any]:
    """The JSON of one completion's request. Variables for the endpoint's chat template go by the name that vLLM and SGLang
    read.

    Args:
        vllm: name all that vLLM would else take from the model's generation_config.json, and have it keep stop strings. False:
            what OpenAI's API knows.

    Raises:
        EngineError: chat is asked for, and the request holds token ids alone.
    """
    body: dict[str, Any] = {
        "model": params.model,
        **(to_distribution(sampling) if vllm else {"temperature": sampling.temperature, "top_p": sampling.top_p}),
        "seed": seed,
        "max_tokens": limit,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
        if vllm:
            body["include_stop_str_in_output"] = True
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
    A stop string that the endpoint left out of the text is put back where the answer says which it was.

    Raises:
        EngineError: the answer holds no completion, or one that was broken off.
    """
    try:
        choice = answer["choices"][0]
        text = choice["text"] if params.api == "completions" else (choice["message"]["content"] or "")
        reason, details = choice["finish_reason"], choice.get("logprobs") or {}
        ended_by = next((choice[key] for key in _ENDED_BY if key in choice), None)
        # Kept, it stands in the text; left out, it cannot, as its first place ends the completion.
        if reason == "stop" and isinstance(ended_by, str) and ended_by in sampling.stop and ended_by not in text:
            text += ended_by
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
    whole = sampling.top_p == 1 and sampling.top_k == 0
    plain = whole and sampling.temperature in (0, 1)
    tempered = known and (plain or (params.logprobs == "processed" and whole))
    return Completion(
        seed=seed,
        text=text,
        finish=reason,
        token_ids=torch.tensor(ids or [_UNKNOWN] * count, dtype=torch.long),
        sampler_logprobs=logprobs if tempered or params.logprobs == "processed" else torch.full((count,), torch.nan),
        logprobs_of="tempered" if tempered else "drawn" if known and params.logprobs == "processed" else "unknown",
        raw_logprobs=logprobs if sampling.raw and known and (plain or params.logprobs == "raw") else None,
    )


def _may_lack_its_stop(answer: Any, completion: Completion, sampling: Sampling) -> bool:
    """Whether a stop string may have ended it that is neither in its text nor named by the answer."""
    if completion.finish != "stop" or any(str(stop) in completion.text for stop in sampling.stop):
        return False
    return bool(sampling.stop) and not any(key in answer["choices"][0] for key in _ENDED_BY)


def owner(models: Any, name: str) -> str | None:
    """Who serves a model, as the endpoint's list of models has it; None where it does not say."""
    listed = models.get("data") if isinstance(models, dict) else None
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("id") == name:
            return one.get("owned_by")
    return None


def _require_known(sampling: Sampling, params: Params, *, vllm: bool) -> None:
    """Raises ConfigError if the API cannot say what was asked for."""
    if sampling.top_k and not vllm and "top_k" not in params.extra:
        raise ConfigError(
            f"engine openai: OpenAI's API has no top_k; for an endpoint that has one set engine.extra.top_k={sampling.top_k}"
        )
    if numbers := [stop for stop in sampling.stop if isinstance(stop, int)]:
        raise ConfigError(f"engine openai: completions are stopped by strings, not by token ids; got {numbers[0]}")
