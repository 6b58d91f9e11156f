"""vLLM as one server or several beside the trainer: completions over HTTP, weights by its transfer calls."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from progrpo.engines import Capabilities, Done, Engine, Generated, Request, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines._groups import gathered, places
from progrpo.engines._http import HttpServer, all_at_once
from progrpo.engines.vllm.mapping import require_known, to_completion, to_sampling
from progrpo.engines.vllm.params import VllmParams
from progrpo.engines.vllm.started import StartedServer
from progrpo.engines.vllm.transfer import Wire, announcement, chunks
from progrpo.engines.vllm.weights import Probe, named_tensors
from progrpo.errors import EngineError
from progrpo.model import LanguageModel
from progrpo.processes import launched
from progrpo.types import Completion

_WIRE_TIMEOUT_S = 120.0


class ServerEngine(Engine):
    """See `progrpo.engines.vllm`. Of several processes of a run the main one starts the server and sends weights."""

    checks_weights = True

    capabilities = Capabilities(
        samples_trained_weights=False, entropies=False, entropy_gradients=False, prompt_logprobs=False, beside=True
    )

    def __init__(self, model: LanguageModel, params: VllmParams) -> None:
        self._model, self._params = model, params
        self._main = launched().main
        self._wire: Wire | None = None
        self._loaded = False
        self._started: StartedServer | None = None
        urls = params.urls
        if params.start:
            if self._main:
                self._started = StartedServer(model, params)
                urls = (self._started.url,)
            else:
                urls = (f"http://{params.host}:{params.port}",)
        self._servers = [HttpServer(url, engine="vllm", timeout_s=params.timeout_s) for url in urls]
        try:
            for server in self._servers:
                if self._started is not None:
                    self._started.await_ready(server, params.start_timeout_s)
                elif params.start:
                    _await(lambda server=server: server.call("GET", "/health", timeout_s=5.0) is None, params)  # type: ignore[misc]
                else:
                    server.call("GET", "/health", timeout_s=30.0)
            self._names = [str(server.call("GET", "/v1/models")["data"][0]["id"]) for server in self._servers]
        except BaseException:
            self.close()
            raise
        self._probes = [
            Probe(model, lambda tokens, place=place: self._prompt_logprobs(place, tokens))  # type: ignore[misc]
            for place in range(len(self._servers))
        ]

    def update_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        dtype = torch.float32 if self._model.precision == "fp32" else torch.bfloat16
        named = named_tensors(self._model, tensors, dtype)
        if self._main:
            self._send(named, version)
            for probe in self._probes:
                probe.check(version)
        else:
            for _ in named:  # gathering a sharded tensor takes every process
                pass
            _await(lambda: self._versions() == {str(version)}, self._params)
        self._loaded = True
        self.version = version

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        prompt_logprobs: bool = False,
        on_done: Done | None = None,
    ) -> list[Generated]:
        require_known(sampling)
        if not requests:
            return []
        if not self._loaded:
            self.update_weights(self._model.model.named_parameters(), self.version)
        version = self.version
        self._require_version(version, "before sampling")
        ends = Ends(self._model, sampling)
        limits = [ends.limit(request) for request in requests]
        wanted = places(requests)

        def sample(number: int) -> Completion:
            index, place = wanted[number]
            return self._sample(
                index, requests[index], requests[index].seeds[place], sampling, ends, limits[index], version
            )

        answers = all_at_once(
            sample,
            len(wanted),
            connections=self._params.connections,
            silence_s=self._params.timeout_s,
            engine="vllm",
            servers=self._servers,
        )
        with self._dead_named(), closing(answers):
            results = gathered(requests, ((*wanted[number], completion) for number, completion in answers), on_done)
        self._require_version(version, "while it sampled")
        return results

    def close(self) -> None:
        for server in self._servers if hasattr(self, "_servers") else ():
            server.close()
        if self._started is not None:
            self._started.close()
            self._started = None
        self._wire = None

    def _sample(
        self, index: int, request: Request, seed: int, sampling: Sampling, ends: Ends, limit: int, version: int
    ) -> Completion:
        # A group's completions go to one server: they share their prompt in its cache.
        place = index % len(self._servers)
        body = {
            "model": self._names[place],
            "prompt": request.prompt_ids.tolist(),
            "add_special_tokens": False,
            "return_token_ids": True,
            **to_sampling(sampling, seed, limit, ends),
        }
        choice = self._servers[place].call("POST", "/v1/completions", body, repeatable=True)["choices"][0]
        return to_completion(
            sampling,
            ends,
            seed=seed,
            token_ids=choice["token_ids"] or [],
            logprobs=(choice["logprobs"] or {}).get("token_logprobs", []),
            reason=choice["finish_reason"],
            version=version,
        )

    def _send(self, named: Iterable[tuple[str, Tensor]], version: int) -> None:
        with self._dead_named():
            wire = self._wire or self._meet()
            self._everywhere("POST", f"/pause?mode={'wait' if self._params.in_flight == 'finish' else 'abort'}")
            self._everywhere("POST", "/start_weight_update")
            for chunk in chunks(named):

                def send(chunk: list[tuple[str, Tensor]] = chunk) -> None:
                    for _, tensor in chunk:
                        wire.broadcast(tensor)

                self._beside("/update_weights", [{"update_info": announcement(chunk)}] * len(self._servers), send)
            self._everywhere("POST", "/finish_weight_update", {"weight_version": str(version)})
            # Keys and values of the old weights.
            self._everywhere("POST", "/reset_prefix_cache")
            self._everywhere("POST", "/resume")
            self._require_version(version, "after the sync")

    def _meet(self) -> Wire:
        """Bring the workers of all servers to one broadcast."""
        sizes = [int(server.call("GET", "/get_world_size")["world_size"]) for server in self._servers]
        host, world = self._params.host, 1 + sum(sizes)
        wire = Wire(host, 0, rank=0, world=world, timeout_s=_WIRE_TIMEOUT_S)
        firsts = [1 + sum(sizes[:place]) for place in range(len(sizes))]
        bodies = [
            {
                "init_info": {
                    "host": host,
                    "port": wire.port,
                    "first_rank": first,
                    "world": world,
                    "timeout_s": _WIRE_TIMEOUT_S,
                }
            }
            for first in firsts
        ]
        self._beside("/init_weight_transfer_engine", bodies, wire.meet)
        self._wire = wire
        return wire

    def _beside(self, path: str, bodies: Sequence[dict[str, Any]], work: Callable[[], None]) -> None:
        """Call every server, and do meanwhile what it waits for."""
        failures: list[EngineError] = []

        def call(place: int) -> None:
            try:
                self._servers[place].call("POST", path, bodies[place])
            except EngineError as error:
                failures.append(error)

        threads = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(len(bodies))]
        for thread in threads:
            thread.start()
        try:
            work()
        except RuntimeError as error:
            for thread in threads:
                thread.join(5.0)
            raise (
                failures[0]
                if failures
                else EngineError(f"engine vllm: the exchange of weights broke off ({str(error).splitlines()[0]})")
            ) from error
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _everywhere(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        for server in self._servers:
            server.call(method, path, body)

    def _versions(self) -> set[str]:
        return {str(server.call("GET", "/weight_info")["weight_version"]) for server in self._servers}

    def _require_version(self, version: int, when: str) -> None:
        with self._dead_named():
            if (versions := self._versions()) != {str(version)}:
                raise EngineError(
                    f"engine vllm: {when} the server holds the weights of step {', '.join(sorted(versions))}; expected "
                    f"{version}: does another run send it weights?"
                )

    def _prompt_logprobs(self, place: int, tokens: list[int]) -> list[float]:
        body = {
            "model": self._names[place],
            "prompt": tokens,
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
            "add_special_tokens": False,
        }
        (choice,) = self._servers[place].call("POST", "/v1/completions", body)["choices"]
        pairs = zip(choice["prompt_logprobs"][1:], tokens[1:], strict=True)
        return [float(values[str(token)]["logprob"]) for values, token in pairs]

    def _dead_named(self) -> "_DeadServer":
        return _DeadServer(self._started)


class _DeadServer:
    """Adds to an error what a started server that has died said last."""

    def __init__(self, started: StartedServer | None) -> None:
        self._started = started

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: object) -> None:
        if isinstance(value, EngineError) and self._started is not None and self._started.ended:
            raise EngineError(f"engine vllm: the server died: {self._started.last_words()}") from value


def _await(ready: Callable[[], bool], params: VllmParams) -> None:
    """Raises EngineError if it is not so in time."""
    until = time.monotonic() + params.start_timeout_s
    while time.monotonic() < until:
        try:
            if ready():
                return
        except EngineError:
            pass
        time.sleep(0.2)
    raise EngineError(f"engine vllm: the main process's server was not ready after {params.start_timeout_s:g} s")
