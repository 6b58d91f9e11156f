"""vLLM, in this process or as a server beside it: for long completions, large models, and sampling while training goes on.

It holds weights of its own: after each rollout's updates they are sent to it and compared by a probe. Its log-probs come from
another computation than the trainer's, which therefore scores again (`old_logprobs=auto`). docs/vllm.md has versions, set-up
and figures.
"""

from importlib.util import find_spec

from progrpo.engines import Engine
from progrpo.engines.vllm.params import VllmParams as Params
from progrpo.errors import ConfigError
from progrpo.model import LanguageModel
from progrpo.processes import launched

OWN_WEIGHTS = True


def prepare(params: Params, device: str) -> None:
    """Raises ConfigError if vLLM is needed here and is not installed, or several processes would share one colocated engine."""
    if (params.mode == "colocated" or params.start) and find_spec("vllm") is None:
        raise ConfigError(
            "engine vllm needs the package vllm: pip install 'progrpo[vllm]' (in an environment of its own if its torch is not "
            "yours); or give the urls of servers that run elsewhere (engine.mode=server), or set engine.name=hf"
        )
    if params.mode == "colocated" and launched().count > 1:
        raise ConfigError(
            "engine vllm, mode=colocated: works in one process so far, and several were started; set engine.mode=server"
        )


def make(model: LanguageModel, params: Params) -> Engine:
    if params.mode == "colocated":
        from progrpo.engines.vllm.colocated import ColocatedEngine

        return ColocatedEngine(model, params)
    from progrpo.engines.vllm.server import ServerEngine

    return ServerEngine(model, params)
