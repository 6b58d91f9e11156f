"""A server in a thread that speaks the part of vLLM's protocol that engine vllm uses, on a model of ours: what comes over the
wire is loaded, and completions are drawn by engine hf."""

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from progrpo import engines
from progrpo.algo.logprobs import token_logprobs
from progrpo.engines import Request, Sampling
from progrpo.engines.vllm.transfer import InitInfo, UpdateInfo, Wire, received
from progrpo.model import LanguageModel
from progrpo.settings import Choice
from stand_ins.http_server import RefusedError, answering


class StandIn:
    """Args: model: copied.

    Attributes:
        bodies: of the completions asked for. calls: paths with queries, in their order. faults: what goes wrong: "abort",
        "ignore" (weights come and are not loaded), "hang" (no completion is answered), "refuse" (status 500).
    """

    def __init__(self, model: LanguageModel) -> None:
        module = copy.deepcopy(model.model)
        self.model = replace(model, model=module)
        with torch.no_grad():
            for parameter in module.parameters():  # the weights that it is started with are dummies
                parameter.zero_()
        self.bodies: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.faults: set[str] = set()
        self.version = "default"
        self.url = ""
        self._lock = threading.Lock()
        self._engine = engines.load(Choice(name="hf"), self.model)
        self._wire: Wire | None = None

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """What a call gives."""
        self.calls.append(path)
        match path.partition("?")[0]:
            case "/v1/models":
                return {"data": [{"id": "stand-in"}]}
            case "/get_world_size":
                return {"world_size": 1}
            case "/weight_info":
                return {"weight_version": self.version}
            case "/init_weight_transfer_engine":
                info = InitInfo(**body["init_info"])
                wire = Wire(info.host, info.port, rank=info.first_rank, world=info.world, timeout_s=info.timeout_s)
                wire.meet()
                self._wire = wire
            case "/update_weights":
                self._load(UpdateInfo(**body["update_info"]))
            case "/finish_weight_update":
                self.version = body["weight_version"]
            case "/v1/completions":
                return {"choices": [self._complete(body)]}
        return None

    def _load(self, info: UpdateInfo) -> None:
        assert self._wire is not None
        parameters = dict(self.model.model.named_parameters())
        for name, tensor in received(info, self._wire):
            if "ignore" not in self.faults:
                with torch.no_grad():
                    parameters[name].copy_(tensor)

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        while "hang" in self.faults:
            time.sleep(0.01)
        if "prompt_logprobs" in body:
            ids = torch.tensor(body["prompt"])[None]
            with self._lock, torch.no_grad():
                values = token_logprobs(self.model.model(ids).logits, ids)[0, 1:].tolist()
            pairs = zip(body["prompt"][1:], values, strict=True)
            return {"prompt_logprobs": [None, *({str(token): {"logprob": value}} for token, value in pairs)]}
        self.bodies.append(body)
        if "refuse" in self.faults:
            raise RefusedError(500, "out of memory")
        stops = tuple(set(body["stop_token_ids"]) - self.model.stop_ids) + tuple(body["stop"])
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body["top_p"],
            top_k=body["top_k"],
            max_new_tokens=body["max_tokens"],
            stop=stops,
        )
        request = Request(prompt_ids=torch.tensor(body["prompt"]), seeds=(body["seed"],))
        with self._lock:
            (result,) = self._engine.generate([request], sampling)
        (one,) = result.completions
        return {
            "text": one.text,
            "token_ids": one.token_ids.tolist(),
            "logprobs": {"token_logprobs": one.sampler_logprobs.tolist()},
            "finish_reason": "abort" if "abort" in self.faults else one.finish,
            "prompt_logprobs": None,
        }


@contextmanager
def serving(model: LanguageModel) -> Iterator[StandIn]:
    """A stand-in that answers until the end of the context."""
    stand_in = StandIn(model)
    with answering(lambda path, body, headers: stand_in.answer(path, body)) as stand_in.url:
        try:
            yield stand_in
        finally:
            stand_in.faults.clear()
