"""Engine openai, on a server in this process."""

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from progrpo import engines
from progrpo.cli import app
from progrpo.engines import Engine, Request, Sampling
from progrpo.engines.openai import Params, from_answer, owner, to_body
from progrpo.errors import ConfigError, EngineError
from progrpo.model import LanguageModel
from progrpo.model.chat import Chat
from progrpo.settings import Choice
from stand_ins.http_server import RefusedError, answering

KEY = "sk-not-to-be-written-down"
SAMPLING = Sampling(max_new_tokens=6)


class Endpoint:
    """Answers every request with the same text, and remembers what it was asked. As vLLM and OpenAI's it leaves the stop string
    out of a text that is longer.

    Attributes:
        owned_by: who it says that it is; None: it has no list of models. says_why: it names the stop string, as vLLM does.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.busy = 0
        self.reason = "stop"
        self.text = "12"
        self.owned_by: str | None = "openai"
        self.says_why = False
        self.lists = 0

    def answer(self, path: str, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        if path == "/v1/models":
            self.lists += 1
            if self.owned_by is None:
                raise RefusedError(404, "no such page")
            return {"data": [{"id": "other", "owned_by": "other"}, {"id": "served", "owned_by": self.owned_by}]}
        self.bodies.append(body)
        self.keys.append(headers.get("Authorization"))
        if self.busy:
            self.busy -= 1
            raise RefusedError(429, "too many requests")
        if path == "/v1/chat/completions":
            content = [{"token": "1", "logprob": -0.5}, {"token": "2", "logprob": -0.25}]
            choice = {"message": {"content": self._cut(body)}, "logprobs": {"content": content}}
        else:
            choice = {"text": self._cut(body), "logprobs": {"token_logprobs": [-0.5, -0.25]}}
        if self.says_why:
            choice["stop_reason"] = next((stop for stop in body.get("stop", ()) if stop in self.text), None)
        return {"choices": [choice | {"finish_reason": self.reason}], "usage": {"completion_tokens": 2}}

    def _cut(self, body: Mapping[str, Any]) -> str:
        text = self.text
        for stop in body.get("stop", ()):
            before, found, _ = text.partition(stop)
            text = before + (found if body.get("include_stop_str_in_output") else "")
        return text


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def url(endpoint: Endpoint) -> Iterator[str]:
    with answering(endpoint.answer) as address:
        yield f"{address}/v1"


def engine_at(url: str, model: LanguageModel, **params: Any) -> Engine:
    return engines.load(Choice(name="openai", url=url, model="served", **params), model)


def test_chat_and_completions(
    endpoint: Endpoint, url: str, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ids = tiny_model.encode_prompt("1+1=")
    request = Request(prompt_ids=ids, seeds=(3, 4), prompt="1+1=")
    done: list[int] = []
    (result,) = engine_at(url, tiny_model).generate([request], SAMPLING, on_done=lambda index, _: done.append(index))
    assert done == [0]
    assert [(one.seed, one.text, one.finish) for one in result.completions] == [(3, "12", "stop"), (4, "12", "stop")]
    first = result.completions[0]
    assert (first.token_ids.tolist(), first.sampler_logprobs.tolist()) == ([-1, -1], [-0.5, -0.25])
    assert sorted(body["seed"] for body in endpoint.bodies) == [3, 4]
    assert endpoint.bodies[0]["messages"] == [{"role": "user", "content": "1+1="}]
    assert endpoint.keys == [f"Bearer {KEY}"] * 2
    monkeypatch.delenv("OPENAI_API_KEY")
    engine_at(url, tiny_model, api="completions", extra={"top_k": 4}).generate([request], SAMPLING)
    assert (endpoint.bodies[-1]["prompt"], endpoint.bodies[-1]["top_k"]) == (ids.tolist(), 4)
    assert endpoint.keys[-1] is None


def test_variables_of_the_chat_template_are_sent_where_it_is_the_endpoints() -> None:
    chat = Chat(system_prompt="brief", template_kwargs={"enable_thinking": False})
    request = Request(prompt_ids=torch.tensor([1]), seeds=(3,), prompt=({"role": "user", "content": "1"},))
    at = {"url": "http://x", "model": "m"}
    assert to_body(request, 3, SAMPLING, 6, Params(**at), chat)["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in to_body(request, 3, SAMPLING, 6, Params(**at))
    assert "chat_template_kwargs" not in to_body(request, 3, SAMPLING, 6, Params(**at, api="completions"), chat)


def test_which_log_probs_they_are() -> None:
    def of(sampling: Sampling, **params: Any) -> Any:
        answer = {"choices": [{"text": "x", "finish_reason": "length", "logprobs": {"token_logprobs": [-1.0]}}]}
        return from_answer(answer, 1, sampling, Params(url="http://x", model="m", api="completions", **params))

    plain, warm = Sampling(max_new_tokens=6, raw=True), Sampling(max_new_tokens=6, raw=True, temperature=0.6)
    assert (of(plain).logprobs_of, of(plain).raw_logprobs.tolist()) == ("tempered", [-1.0])
    # At temperature 0.6 the endpoint's numbers, which are at 1, are no log-probs of what was drawn from.
    assert (of(warm).logprobs_of, of(warm).raw_logprobs.tolist()) == ("unknown", [-1.0])
    assert bool(of(warm).sampler_logprobs.isnan().all())
    assert (of(warm, logprobs="processed").logprobs_of, of(warm, logprobs="processed").raw_logprobs) == (
        "tempered",
        None,
    )
    for cut in (Sampling(max_new_tokens=6, top_p=0.9), Sampling(max_new_tokens=6, top_k=2)):
        assert (of(cut, logprobs="processed").logprobs_of, of(cut).logprobs_of) == ("drawn", "unknown")
    assert (of(plain, logprobs="none").logprobs_of, of(plain, logprobs="none").raw_logprobs) == ("unknown", None)


def test_an_endpoint_that_is_busy_is_asked_again(
    endpoint: Endpoint, url: str, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("progrpo.engines.openai.time.sleep", waited.append)
    endpoint.busy = 3
    request = Request(prompt_ids=tiny_model.encode_prompt("1"), seeds=(1,), prompt="1")
    (result,) = engine_at(url, tiny_model).generate([request], SAMPLING)
    assert (result.completions[0].text, waited) == ("12", [1.0, 2.0, 4.0])
    endpoint.busy = 9
    with pytest.raises(EngineError, match="answered 429 .*too many requests"):
        engine_at(url, tiny_model, retries=1).generate([request], SAMPLING)


def test_what_cannot_be_asked(endpoint: Endpoint, url: str, tiny_model: LanguageModel) -> None:
    ours = engine_at(url, tiny_model)
    request = Request(prompt_ids=tiny_model.encode_prompt("1"), seeds=(1,))
    with pytest.raises(EngineError, match=r"holds token ids alone; set engine.api=completions"):
        ours.generate([request], SAMPLING)
    with pytest.raises(ConfigError, match=r"no top_k; .* set engine.extra.top_k=5"):
        ours.generate([request], Sampling(max_new_tokens=3, top_k=5))
    with pytest.raises(ConfigError, match="stopped by strings, not by token ids; got 7"):
        ours.generate([request], Sampling(max_new_tokens=3, stop=(7,)))
    with pytest.raises(ConfigError, match="cannot be trained; use it with progrpo evaluate"):
        ours.update_weights([], 0)
    endpoint.reason = "content_filter"
    with pytest.raises(EngineError, match="ended as 'content_filter'"):
        engine_at(url, tiny_model, api="completions").generate([request], SAMPLING)
    for answer in ({}, {"choices": []}, {"choices": [{"finish_reason": "stop"}]}, {"error": "x"}):
        with pytest.raises(EngineError, match="the answer holds no completion"):
            from_answer(answer, 1, SAMPLING, Params(url="http://x", model="m"))


def one_request(model: LanguageModel) -> list[Request]:
    return [Request(prompt_ids=model.encode_prompt("1"), seeds=(1,), prompt="1")]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_vllm_is_asked_for_all_that_it_would_take_from_the_model(
    endpoint: Endpoint, url: str, tiny_model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.owned_by, endpoint.text = "vllm", "1</a> and more"
    ours = engine_at(url, tiny_model)
    for _ in range(2):
        (result,) = ours.generate(one_request(tiny_model), Sampling(max_new_tokens=6, top_k=5, stop=("</a>",)))
    assert result.completions[0].text == "1</a>"
    body = endpoint.bodies[-1]
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (5, 0.0, 1.0)
    assert (body["presence_penalty"], body["frequency_penalty"], body["include_stop_str_in_output"]) == (0.0, 0.0, True)
    assert endpoint.lists == 1
    ours.generate(one_request(tiny_model), SAMPLING)
    assert endpoint.bodies[-1]["top_k"] == 0  # all; unsent it were the model's own
    assert "include_stop_str_in_output" not in endpoint.bodies[-1]
    assert warnings(caplog) == []


@pytest.mark.parametrize("owned_by", ["openai", None])
def test_of_another_endpoint_its_own_defaults_are_warned_of_once(
    endpoint: Endpoint, url: str, tiny_model: LanguageModel, caplog: pytest.LogCaptureFixture, owned_by: str | None
) -> None:
    endpoint.owned_by = owned_by
    ours = engine_at(url, tiny_model)
    for _ in range(2):
        ours.generate(one_request(tiny_model), SAMPLING)
    assert endpoint.bodies[0].keys() == {"model", "temperature", "top_p", "seed", "max_tokens", "messages", "logprobs"}
    (words,) = warnings(caplog)
    assert f"{url} does not say that it is vLLM" in words
    assert "so top_k, min_p, repetition_penalty are not sent and its own defaults apply" in words
    caplog.clear()
    extra = {"top_k": 0, "min_p": 0, "repetition_penalty": 1}
    engine_at(url, tiny_model, extra=extra).generate(one_request(tiny_model), SAMPLING)
    assert (endpoint.bodies[-1]["repetition_penalty"], warnings(caplog)) == (1, [])


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_stop_string_that_was_left_out_is_put_back_or_warned_of(
    endpoint: Endpoint, url: str, tiny_model: LanguageModel, caplog: pytest.LogCaptureFixture, api: str
) -> None:
    extra = {"top_k": 0, "min_p": 0, "repetition_penalty": 1}
    stopped = Sampling(max_new_tokens=6, stop=("</b>", "</a>"))

    def text(sampling: Sampling = stopped, **more: Any) -> str:
        ours = engine_at(url, tiny_model, api=api, extra=extra | more)
        for _ in range(2):
            (result,) = ours.generate(one_request(tiny_model), sampling)
        return result.completions[0].text

    endpoint.text, endpoint.says_why = "1</a> and more", True
    assert (text(), warnings(caplog)) == ("1</a>", [])
    assert text(include_stop_str_in_output=True) == "1</a>"  # not twice
    endpoint.text = "its own end"
    assert (text(), warnings(caplog)) == ("its own end", [])
    endpoint.text, endpoint.says_why = "1</a> and more", False
    assert (text(SAMPLING), text(include_stop_str_in_output=True), warnings(caplog)) == (endpoint.text, "1</a>", [])
    assert text() == "1"
    (words,) = warnings(caplog)
    assert f"{url} does not say which stop string ended a completion, and may leave it out of the text" in words


def test_lists_of_models_that_say_nothing() -> None:
    assert owner({"data": [{"id": "a", "owned_by": "x"}, {"id": "m", "owned_by": "vllm"}]}, "m") == "vllm"
    for models in (None, [], "no", {}, {"data": None}, {"data": ["m", {"id": "a", "owned_by": "vllm"}, {"id": "m"}]}):
        assert owner(models, "m") is None


def test_messages_go_as_they_are(tiny_model: LanguageModel) -> None:
    messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1="})
    request = Request(prompt_ids=torch.tensor([5]), seeds=(1,), prompt=messages)
    body = to_body(request, 1, Sampling(max_new_tokens=6, stop=("x",)), 4, Params(url="http://x", model="m"))
    assert body["messages"] == [dict(message) for message in messages]
    assert (body["max_tokens"], body["stop"], body["logprobs"]) == (4, ["x"], True)


def test_an_evaluation_of_an_endpoint(
    endpoint: Endpoint, url: str, tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the model but its tokenizer is read, and the key is in no file."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    verb = importlib.import_module("progrpo.api.evaluate")
    monkeypatch.setattr(verb, "load_model", lambda *_: pytest.fail("the weights were read"))
    words = ["evaluate", str(tiny_folder()), "--task", "countdown", "-n", "2", "--out", str(tmp_path / "e")]
    words += ["engine.name=openai", f"engine.url={url}", "engine.model=served", "evaluate.problems=3"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert len(endpoint.bodies) == 6
    assert endpoint.keys[0] == f"Bearer {KEY}"
    texts = [path.read_text() for path in (tmp_path / "e").rglob("*") if path.is_file()]
    assert any("served" in text for text in texts)
    assert not any(KEY in text for text in texts)
