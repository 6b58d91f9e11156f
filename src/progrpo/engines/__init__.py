"""One way to generate = one file.

The contract:
    Params          its settings, a `Settings` model
    make            make(model, params) -> Engine: set it up on a `LanguageModel`
and, where it is needed:
    prepare         prepare(params, device): called before the model is loaded, with its torch device as text; raises a
                    `ProgrpoError` where this machine or its packages cannot run the engine
    OWN_WEIGHTS     True where it samples from weights of its own, which `update_weights` brings: a sharded model is then
                    streamed to it tensor by tensor, and training sends the weights before it samples anything
    NO_WEIGHTS      True where it has use for the tokenizer alone: evaluations then read no weights
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any

from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field, PrivateAttr, StrictInt, StrictStr
from torch import Tensor

from progrpo import plugins
from progrpo.errors import ConfigError, PluginError
from progrpo.model import LanguageModel, pick_device
from progrpo.model.precision import Precision
from progrpo.settings import Choice, Settings, parse
from progrpo.types import Completion, Message, TokenTemperatures

Stops = Annotated[
    tuple[Annotated[StrictStr, Field(min_length=1)] | Annotated[StrictInt, Field(ge=0)], ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str | int) else value,
        json_schema_input_type=str | int | tuple[str | int, ...],
    ),
]
"""Strings and token ids that end a completion."""


class Sampling(Settings):
    """How completions are drawn."""

    temperature: float = Field(1.0, ge=0)
    """Divides the logits. 0 takes the likeliest token (evaluation only)."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the likeliest tokens whose probabilities first reach this sum; 1 keeps all."""
    top_k: int = Field(0, ge=0)
    """Keep this many likeliest tokens; 0 keeps all."""
    max_new_tokens: int = Field(gt=0, examples=[1024])
    """Completions are cut here, the end token included, or where the model's positions end."""
    stop: Stops = ()
    """What ends a completion beside the model's own end tokens: token ids, left out of the text, and strings, which stay in
    it with the token that completes them. One alone may stand without a list."""
    raw: bool = False
    """Also report log-probs and entropies at temperature 1, from the same logits: what evaluations say of the policy
    itself."""

    _temperatures: TokenTemperatures | None = PrivateAttr(None)

    @property
    def temperatures(self) -> TokenTemperatures | None:
        """What a method makes of the temperature of each token, for engines with `Capabilities.token_temperatures`; None
        leaves it."""
        return self._temperatures

    def with_temperatures(self, temperatures: TokenTemperatures) -> "Sampling":
        """The same sampling with these."""
        copy = self.model_copy()
        copy._temperatures = temperatures
        return copy

    def stop_ids(self, rows: int) -> frozenset[int]:
        """The token ids of `stop`.

        Args:
            rows: ids that the model has.

        Raises:
            ConfigError: one is not below `rows`.
        """
        ids = frozenset(stop for stop in self.stop if isinstance(stop, int))
        if unknown := sorted(token for token in ids if token >= rows):
            raise ConfigError(f"sampling.stop: the model has no token {unknown[0]}; expected ids below {rows}")
        return ids


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Request:
    """One prompt and the seed of each completion wanted of it.

    Attributes:
        prompt: what `prompt_ids` were made of, for an engine that makes its own of it; None where nobody knows.
        limit: tokens of a completion at most, where these are fewer than `Sampling.max_new_tokens`; None: those.
    """

    prompt_ids: Int[Tensor, " Q"]
    seeds: tuple[int, ...]
    prompt: str | tuple[Message, ...] | None = None
    limit: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Generated:
    """The answer to one request.

    Attributes:
        prompt_logprobs: of each prompt token at the sampling temperature, position 0 holding 0; None unless asked for.
    """

    prompt_logprobs: Float[Tensor, " Q"] | None
    completions: tuple[Completion, ...]


Done = Callable[[int, Generated], None]
"""Called with the index of a request and its result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What an engine can give as it is set up.

    Attributes:
        samples_trained_weights: the log-probs it reports come from the very weights that are trained, or from these in bf16,
            so that they may serve as old log-probs and for the confidences.
        entropies: the entropy of each distribution it draws from. entropy_gradients: `Completion.entropy_gradients`.
        prompt_logprobs: log-probs of the prompts' tokens.
        batch_invariant: tokens and log-probs of a completion are the same to the last bit whatever else is asked.
        token_temperatures: it draws each token at a temperature of its own (`Sampling.temperatures`). Log-probs and
            entropies are those at the sampling temperature, as they are before top-p and top-k.
        beside: it may generate, called by another thread, while the trainer computes and changes its own weights.
    """

    samples_trained_weights: bool
    entropies: bool = True
    entropy_gradients: bool = True
    prompt_logprobs: bool = True
    batch_invariant: bool = False
    beside: bool = False
    token_temperatures: bool = False


class Engine(ABC):
    """Generates completions. Token ids go in and come out; text is never re-tokenised.

    Attributes:
        capabilities: of this instance. version: optimiser steps behind the weights that sample.
        checks_weights: `update_weights` itself makes sure that the weights arrived; training else asks a probe.
    """

    capabilities: Capabilities
    version: int = 0
    checks_weights: bool = False

    @abstractmethod
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        *,
        prompt_logprobs: bool = False,
        on_done: Done | None = None,
    ) -> list[Generated]:
        """Sample one completion per seed, in the order of the requests and seeds.

        A completion depends on the weights, its prompt, the sampling settings and its seed; not on what else is asked.

        Args:
            on_done: called with the index of a request and its result as soon as all its completions are there, in the
                order they finish, on the calling thread; a result is also in the returned list. What it raises ends
                the generation. An engine that never calls it merely lets nobody begin early.
        """

    @abstractmethod
    def update_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take over the trained weights, and set `version`.

        An engine is made with the weights as they are; this is called once after the last update of each rollout, before
        anything is generated with what it made, and timed as the phase `sync`.

        Args:
            tensors: the model's parameters by name; an engine that samples from the trained model itself need not read them.
            version: optimiser steps made.
        """

    def close(self) -> None:  # noqa: B027 - a default, not a gap: an engine in this process holds nothing to give back
        """Give back processes and memory; nothing is generated afterwards. May be called again."""


CONTRACT = plugins.Contract(
    kind="engine",
    names={
        "Params": "a subclass of progrpo.settings.Settings",
        "make": "make(model, params) -> Engine",
        "prepare": "prepare(params, device)",
        "OWN_WEIGHTS": "True or False",
        "NO_WEIGHTS": "True or False",
    },
    required=(("Params",), ("make",)),
    settings=Settings,
)


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """An engine chosen, its settings validated, before there is a model to set it up on."""

    name: str
    module: ModuleType
    params: Any

    @property
    def own_weights(self) -> bool:
        """See `OWN_WEIGHTS` above."""
        return bool(getattr(self.module, "OWN_WEIGHTS", False))

    @property
    def no_weights(self) -> bool:
        """See `NO_WEIGHTS` above."""
        return bool(getattr(self.module, "NO_WEIGHTS", False))

    def prepare(self, device: str) -> None:
        """Check that this machine can run it, before a model is loaded.

        Args:
            device: of the model: a torch device, or "auto".

        Raises:
            ConfigError: no such device. ProgrpoError: the engine's own word why not.
        """
        device = str(pick_device(device))
        if hasattr(self.module, "prepare"):
            self.module.prepare(self.params, device)

    def make(self, model: LanguageModel) -> Engine:
        """Set it up on a model.

        Raises:
            PluginError: what it makes is no `Engine`, or says nothing of its capabilities.
        """
        engine = self.module.make(model, self.params)
        if not isinstance(engine, Engine):
            raise PluginError(f"engine {self.name!r}: make gave {engine!r:.80}; expected a progrpo.engines.Engine")
        if not isinstance(getattr(engine, "capabilities", None), Capabilities):
            raise PluginError(
                f"engine {self.name!r}: no capabilities; expected a progrpo.engines.Capabilities on the engine"
            )
        return engine


def sampling_precision(engine: Choice, of_model: Precision) -> Precision:
    """The number format that samples beside a model of this precision: engine `hf` may have one of its own."""
    own: Precision | None = engine.params.get("precision") if engine.name == "hf" else None
    return own or of_model


def choose(choice: Choice) -> EngineSetup:
    """Import the chosen engine and validate its settings, without setting it up.

    Raises:
        PluginError: unknown name, or a file that does not keep the contract.
        ConfigError: unknown or invalid setting.
    """
    module = plugins.load("engines", choice.name)
    plugins.check_contract(CONTRACT, choice.name, module)
    hint = plugins.of_another("engines", choice.name, kind="engine")
    return EngineSetup(
        choice.name, module, parse(module.Params, choice.params, where=f"engine {choice.name}", hint=hint)
    )


def load(choice: Choice, model: LanguageModel) -> Engine:
    """`choose`, and set it up on a model."""
    return choose(choice).make(model)


def check_generated(engine: Engine, requests: Sequence[Request], results: Sequence[Generated]) -> None:
    """Hold what an engine gave against what was asked: every seed of every request, and a number for every token.

    Raises:
        PluginError: something is missing, stands in another order or has another length.
    """
    name = f"{type(engine).__module__}.{type(engine).__qualname__}"
    if len(results) != len(requests):
        raise PluginError(f"engine {name}: generate gave {len(results)} results for {len(requests)} requests")
    for index, (request, result) in enumerate(zip(requests, results, strict=True)):
        where = f"engine {name}: result {index}"
        seeds = tuple(completion.seed for completion in result.completions)
        if seeds != tuple(request.seeds):
            raise PluginError(
                f"{where} has completions of the seeds {seeds}; expected {tuple(request.seeds)}, in order"
            )
        if result.prompt_logprobs is not None and result.prompt_logprobs.shape != request.prompt_ids.shape:
            raise PluginError(
                f"{where}: prompt_logprobs has shape {tuple(result.prompt_logprobs.shape)}; expected one number for each of "
                f"{len(request.prompt_ids)} prompt tokens"
            )
        for completion in result.completions:
            for field, values in _per_token(completion).items():
                if values.shape != completion.token_ids.shape:
                    raise PluginError(
                        f"{where}, seed {completion.seed}: {field} has shape {tuple(values.shape)}; expected one number for "
                        f"each of {len(completion.token_ids)} tokens"
                    )


def _per_token(completion: Completion) -> dict[str, Tensor]:
    """The per-token tensors of a completion that are there."""
    names = ("sampler_logprobs", "entropies", "entropy_gradients", "raw_logprobs", "raw_entropies")
    return {name: values for name in names if (values := getattr(completion, name)) is not None}
