"""Who gives the old log-probs: the engine, which has them from sampling, or one more forward pass of the trainer."""

from progrpo.engines import Engine, sampling_precision
from progrpo.errors import ConfigError
from progrpo.methods import Method
from progrpo.train.off_policy import require_correctable
from progrpo.train.settings import RunSettings

_BF16_NOISE = 2.0**-5
"""What rounding makes of a log-prob that two bf16 passes compute in batches of other sizes: four units in the last place
of a number near 1, in nats. Every published clip range but GSPO's is five times larger."""


TRAINER_ALONE = frozenset({"certainties", "raw_logits", "proxy_logprobs", "nucleus_entropies"})
"""What no engine gives of the distributions it draws from."""


def engine_scores(settings: RunSettings, engine: Engine, method: Method) -> bool:
    """Whether the engine's log-probs serve as those of the sampling policy."""
    if settings.old_logprobs != "auto":
        return settings.old_logprobs == "engine"
    if not method.needs.isdisjoint(TRAINER_ALONE):
        return False
    return engine.capabilities.samples_trained_weights and not near_rounding(settings, method)


def near_rounding(settings: RunSettings, method: Method) -> bool:
    """Whether the method tells apart log-probs that differ by no more than bf16 rounds, where either side computes in it.

    A pass of the trainer rounds as the training pass does, for it lays out the same tokens in the same way: on the first
    optimiser step of a rollout the ratio is then 1.
    """
    samples_in = sampling_precision(settings.engine, settings.model.precision)
    return "bf16" in (settings.model.precision, samples_in) and method.params.resolution < _BF16_NOISE


def rounding(settings: RunSettings, method: Method) -> list[str]:
    """What a user should know of that, as warnings."""
    if settings.old_logprobs == "trainer" or not near_rounding(settings, method):
        return []
    what = (
        f"method {method.name} tells apart importance ratios {method.params.resolution:g} from 1, and bf16 rounds log-probs by "
        f"up to {_BF16_NOISE:.2g} from one way of computing them to another"
    )
    if settings.old_logprobs == "auto":
        return [f"{what}: old_logprobs=auto takes one more pass of the trainer, not the engine's numbers"]
    return [f"{what}: with old_logprobs=engine that noise is trained on; set old_logprobs=trainer, or compute in fp32"]


def concerns(settings: RunSettings, method: Method) -> list[str]:
    """All that a user should know of this method under these settings, as warnings: the method's own first."""
    batch, ahead = settings.batch, bool(settings.rollout.ahead)
    return [*method.check(batch.group, batch.steps_per_rollout, ahead=ahead), *rounding(settings, method)]


def require_capable(engine: Engine, settings: RunSettings, method: Method) -> None:
    """Raises ConfigError if the method reads what this engine does not give, and the trainer makes no pass of its own; or if a
    correction was asked for that would change nothing."""
    if "sampled_entropies" in method.needs and not engine.capabilities.entropies:
        raise ConfigError(
            f"method {method.name!r} samples by the entropies of what was sampled before, which engine "
            f"{settings.engine.name!r} does not give; set engine.name=hf"
        )
    if "token_temperatures" in method.needs and not engine.capabilities.token_temperatures:
        raise ConfigError(
            f"method {method.name!r} draws each token at a temperature of its own, which engine {settings.engine.name!r} does "
            f"not; set engine.name=hf: {method.samples}"
        )
    if "sampled_logprobs" in method.needs and not engine_scores(settings, engine, method):
        raise ConfigError(
            f"method {method.name!r} learns from completions of earlier policies, whose log-probs only the engine has: set "
            "old_logprobs=engine"
        )
    require_correctable(settings.off_policy, method, engine_scores=engine_scores(settings, engine, method))
    if not engine_scores(settings, engine, method):
        return
    provided = {
        "entropies": engine.capabilities.entropies,
        "entropy_gradients": engine.capabilities.entropy_gradients,
        "prompt_logprobs": engine.capabilities.prompt_logprobs,
        **dict.fromkeys(sorted(TRAINER_ALONE), False),
    }
    for name, there in provided.items():
        if name in method.needs and not there:
            raise ConfigError(
                f"method {method.name!r} needs {name.replace('_', ' ')}, which engine {settings.engine.name!r} does not give; "
                "set old_logprobs=trainer, so that a pass of the trainer gives them"
            )


def require_ahead(engine: Engine, settings: RunSettings, method: Method, processes: int) -> None:
    """Raises ConfigError if this run cannot sample a rollout while it trains the one before."""
    if not settings.rollout.ahead:
        return
    if not engine.capabilities.beside:
        raise ConfigError(
            f"rollout.ahead=1: engine {settings.engine.name!r} as it is set does not sample while the trainer computes; use "
            "engine.name=vllm with engine.mode=server, or set rollout.ahead=0"
        )
    if processes > 1:
        raise ConfigError("rollout.ahead=1 works in one process so far; set rollout.ahead=0")
    if method.samples is not None:
        raise ConfigError(
            f"rollout.ahead=1: method {method.name!r} samples in its own way, by what came of the rollouts before "
            f"({method.samples}); or set rollout.ahead=0"
        )
