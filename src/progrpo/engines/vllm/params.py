"""The settings of engine vllm."""

from typing import Any, Literal

from pydantic import Field, model_validator

from progrpo.settings import Settings


class VllmParams(Settings):
    """`mode=colocated` needs nothing more; `mode=server` needs `start=true` or the addresses of servers."""

    mode: Literal["colocated", "server"] = "colocated"
    """colocated: vLLM runs in the trainer's process, and they take turns. server: it runs beside it, as `vllm serve`."""
    urls: tuple[str, ...] = ()
    """Servers that were started by hand (docs/vllm.md says how), for instance http://127.0.0.1:8000; completions are spread
    over them. The run does not stop them."""
    start: bool = False
    """Start one server, and stop it when the run ends, however it ends."""
    host: str = "127.0.0.1"
    """Address on which a started server listens, and on which weights are handed to servers. Whoever reaches it can change the
    weights: leave it local unless servers run on other machines of a network of your own."""
    port: int = Field(0, ge=0, le=65535)
    """Of a started server; 0 takes a free one."""
    max_rows: int = Field(256, gt=0)
    """Completions decoded side by side (vLLM's max_num_seqs)."""
    max_model_len: int | None = Field(None, gt=0)
    """Tokens of prompt and completion together that the cache must hold; None: the model's positions."""
    memory_fraction: float = Field(0.4, gt=0, le=1)
    """Of a GPU's memory for weights and cache (gpu_memory_utilization)."""
    cache_gib: float | None = Field(None, gt=0)
    """A fixed size of the cache; None: what `memory_fraction` leaves, and 1 on a CPU."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that a started server spreads the model over."""
    cuda_graphs: bool = True
    """On CUDA, capture graphs; false decodes eagerly, as on a CPU."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """More arguments of vLLM's LLM (or, with dashes for underscores, of `vllm serve`), for instance {block_size: 32}."""
    in_flight: Literal["finish", "abort"] = "finish"
    """What becomes of requests that a server still works on when new weights come: they are awaited, or aborted. Never are a
    completion's tokens drawn from two policies."""
    connections: int = Field(128, gt=0)
    """Requests a server is sent at a time."""
    timeout_s: float = Field(600.0, gt=0)
    """A server from which no request comes back for so long hangs, and ends the run."""
    start_timeout_s: float = Field(900.0, gt=0)
    """A started server that is not ready after so long does."""

    @model_validator(mode="after")
    def _one_way(self) -> "VllmParams":
        if self.mode == "server" and self.start == bool(self.urls):
            raise ValueError(
                "mode=server: give the urls of servers that run, or start=true, which starts one; one of the two"
            )
        if self.mode == "colocated" and (self.start or self.urls):
            raise ValueError("start and urls belong to mode=server")
        return self
