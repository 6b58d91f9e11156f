"""A `vllm serve` of the run's own: started, watched, and gone when the run is."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progrpo.engines._http import HttpServer
from progrpo.engines.vllm import _supervise
from progrpo.engines.vllm.params import VllmParams
from progrpo.engines.vllm.start import BACKEND, ENVIRONMENT, arguments, write_description
from progrpo.errors import EngineError
from progrpo.files import to_json
from progrpo.model import LanguageModel

_PROGRAM = ("-m", "vllm.entrypoints.cli.main", "serve")
_LAST_LINES = 5


class StartedServer:
    """Args: params: with `start`. program: what stands after Python's name and before the folder of the model.

    Attributes:
        url: where it will answer.
    """

    def __init__(self, model: LanguageModel, params: VllmParams, *, program: tuple[str, ...] = _PROGRAM) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="progrpo-vllm-")
        folder = Path(self._folder.name)
        write_description(model, folder / "model")
        self._log = folder / "server.log"
        port = params.port or free_port(params.host)
        self.url = f"http://{params.host}:{port}"
        engine_settings = {**arguments(model, params), "tensor_parallel_size": params.tensor_parallel}
        command = [sys.executable, *program, str(folder / "model"), "--host", params.host, "--port", str(port)]
        command += ["--served-model-name", "policy", "--generation-config", "vllm"]
        command += ["--weight-transfer-config", to_json({"backend": BACKEND}), *flags(engine_settings)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, _supervise.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(os.environ),
                start_new_session=True,
            )

    def await_ready(self, server: HttpServer, timeout_s: float) -> None:
        """Raises EngineError if it ends before it answers, or does not answer in time."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise EngineError(f"engine vllm: the server ended while it started: {self.last_words()}")
            try:
                server.call("GET", "/health", timeout_s=5.0)
            except EngineError:
                time.sleep(0.5)
            else:
                return
        raise EngineError(
            f"engine vllm: the server was not ready after engine.start_timeout_s={timeout_s:g} s: {self.last_words()}"
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def last_words(self) -> str:
        """The last errors in its log, in one line."""
        lines = self._log.read_text("utf-8", "replace").splitlines() if self._log.exists() else []
        errors = [line for line in lines if "Error" in line or "error:" in line]
        return " | ".join(line.strip() for line in (errors or lines)[-_LAST_LINES:])[-800:] or "it said nothing"

    def close(self) -> None:
        """End it, with all that it started."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._folder.cleanup()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables a server is started with: ours, its calls for weights open, and none that makes it one of our processes."""
    several = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in variables.items() if name not in several}
    return {**ENVIRONMENT, **kept, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_SERVER_DEV_MODE": "1"}


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Arguments of vLLM's engine as those of `vllm serve`: --max-num-seqs 8, --no-enable-chunked-prefill; None is left out."""
    words: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", to_json(value) if isinstance(value, dict | list) else str(value)]
    return words


def free_port(host: str) -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as one:
        one.bind((host, 0))
        port: int = one.getsockname()[1]
    return port
