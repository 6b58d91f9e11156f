"""One verifier = one file.

The contract:
    Params          its settings, a subclass of `progrpo.rewards.Params` (or a `Settings` model that has a `wrong_reward`)
    score           score(text, problem[, params]) -> Verdict | number | bool | None: judge one completion. A plain number is
                    its reward, correct if > 0; True and False are correct and wrong; None is no verdict (`bad_gold`, left
                    out of its group). Anything else, nan and inf included, is `crashed`. Where it has a parameter `finish`,
                    it also gets how the completion ended: "stop" (an end token), "length" (cut at the limit), None where
                    nobody knows: score(text, problem, params, *, finish=None)
    and, where they are needed:
    SLOW            True: `score` may take long or hang; it then runs in a worker process that is killed at the time limit
                    (rollout/verify.py). A file whose answer depends on its settings defines slow(params) -> bool
    CANONICAL       True: a correct verdict carries a canonical form, so that distinct solutions can be counted; or
                    canonical(params) -> bool
    ANSWERS         False: what it extracts is no answer that could be voted on (a program); True without it
    fast_verdict    fast_verdict(text, problem, params) -> Verdict | None: what can be decided at once, in the process
                    that asks; None leaves it to `score`. It gets `finish` as `score` does
    length_term     length_term(verdict, tokens, params) -> Verdict: a term that needs the completion's length in tokens,
                    added in training and evaluation after the verdict; the status stays
    gold_fault      gold_fault(problem, params) -> str | None: why a problem's own gold cannot be used, None where it can;
                    runs where `score` runs, once per problem before training
    limit_s         limit_s(params) -> float: wall-clock seconds one verdict may take, where `DEFAULT_LIMIT_S` is too short
    warm            warm(params): called when a worker starts, so that heavy imports are not a verdict's time
    prepare         prepare(params): called once, in the process that asks, before the first verdict; raises a `ProgrpoError`
                    where this machine cannot judge

A problem may have several accepted answers (`Problem.accepted`); a reward never sees more than one: it is asked once for each,
and the best verdict counts.

A single function will do: "mylab.rewards:length_ok" or "./my_rewards.py:length_ok" is the reward whose `score` it is.
"""

import inspect
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import PluginError
from progrpo.rewards._results import as_verdict, best
from progrpo.settings import Choice, Settings, parse
from progrpo.types import Finish, Problem, Verdict

DEFAULT_LIMIT_S = 10.0


class Params(Settings):
    """Settings every reward has; a file's own `Params` adds to them."""

    correct_reward: float = 1.0
    """Reward of a correct completion, any scale; "correct" itself is the verdict's status."""
    wrong_reward: float = 0.0
    """Reward of every other completion, that without an answer included."""


CONTRACT = plugins.Contract(
    kind="reward",
    names={
        "Params": "a subclass of progrpo.settings.Settings",
        "score": "score(text, problem[, params]) -> Verdict | number | bool | None",
        "SLOW": "True or False",
        "slow": "slow(params) -> bool",
        "CANONICAL": "True or False",
        "canonical": "canonical(params) -> bool",
        "ANSWERS": "True or False",
        "fast_verdict": "fast_verdict(text, problem, params) -> Verdict | None",
        "length_term": "length_term(verdict, tokens, params) -> Verdict",
        "gold_fault": "gold_fault(problem, params) -> str | None",
        "limit_s": "limit_s(params) -> float",
        "warm": "warm(params)",
        "prepare": "prepare(params)",
    },
    required=(("score",),),
    settings=Settings,
)


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward chosen and set up, with the defaults of the contract. Verdicts are checked here (see `as_verdict`).

    Attributes:
        takes_params: whether `score` wants the settings, or text and problem alone.
        takes_finish: those of `score` and `fast_verdict` that want to know how the completion ended.
    """

    name: str
    module: ModuleType
    params: Any
    takes_params: bool = True
    takes_finish: frozenset[str] = frozenset()

    @property
    def choice(self) -> Choice:
        """What loads it again, in another process."""
        return Choice(name=self.name, **self.params.model_dump(mode="json"))

    def has(self, function: str) -> bool:
        return callable(getattr(self.module, function, None))

    def score(self, text: str, problem: Problem, finish: Finish | None = None) -> Verdict:
        """The best of the verdicts by each accepted answer."""
        return best([self._score(text, one, finish) for one in problem.each_gold])

    def fast_verdict(self, text: str, problem: Problem, finish: Finish | None = None) -> Verdict | None:
        """What can be decided at once: all of it for a fast reward. One accepted answer that is met is enough."""
        if not self.slow:
            return self.score(text, problem, finish)
        if not self.has("fast_verdict"):
            return None
        told = self._finish("fast_verdict", finish)
        verdicts = [self.module.fast_verdict(text, one, self.params, **told) for one in problem.each_gold]
        known = [as_verdict(one, self.params, self.name) for one in verdicts if one is not None]
        return best(known) if len(known) == len(verdicts) or any(one.correct for one in known) else None

    def _score(self, text: str, problem: Problem, finish: Finish | None) -> Verdict:
        arguments = (text, problem, self.params) if self.takes_params else (text, problem)
        return as_verdict(self.module.score(*arguments, **self._finish("score", finish)), self.params, self.name)

    def _finish(self, function: str, finish: Finish | None) -> dict[str, Finish | None]:
        return {"finish": finish} if function in self.takes_finish else {}

    def length_term(self, verdict: Verdict, tokens: int) -> Verdict:
        if not self.has("length_term"):
            return verdict
        return as_verdict(self.module.length_term(verdict, tokens, self.params), self.params, self.name)

    def gold_fault(self, problem: Problem) -> str | None:
        """The first fault of an accepted answer; where there are several, with the answer it is of."""
        for one in problem.each_gold:
            if (fault := self._gold_fault(one)) is not None:
                return f"accepted answer {one.answer!r:.80}: {fault}" if problem.accepted else fault
        return None

    def _gold_fault(self, problem: Problem) -> str | None:
        fault = self.module.gold_fault(problem, self.params) if self.has("gold_fault") else None
        if not isinstance(fault, str | None):
            raise PluginError(
                f"reward {self.name!r}: gold_fault gave {fault!r:.80}; expected text, or None without a fault"
            )
        return fault

    @property
    def slow(self) -> bool:
        """Whether `score` belongs in a worker process."""
        return bool(self.module.slow(self.params)) if self.has("slow") else bool(getattr(self.module, "SLOW", False))

    @property
    def canonical(self) -> bool:
        """Whether its correct verdicts carry a canonical form."""
        if self.has("canonical"):
            return bool(self.module.canonical(self.params))
        return bool(getattr(self.module, "CANONICAL", False))

    @property
    def answers(self) -> bool:
        """Whether what it extracts can be counted and voted on."""
        return bool(getattr(self.module, "ANSWERS", True))

    @property
    def limit_s(self) -> float:
        return float(self.module.limit_s(self.params)) if self.has("limit_s") else DEFAULT_LIMIT_S

    @property
    def wrong_reward(self) -> float:
        """What a completion without a verdict gets."""
        return float(getattr(self.params, "wrong_reward", 0.0))

    def prepare(self) -> None:
        if self.has("prepare"):
            self.module.prepare(self.params)

    def warm(self) -> None:
        if self.has("warm"):
            self.module.warm(self.params)


def load(choice: Choice) -> Reward:
    """Import the chosen reward and validate its settings.

    Raises:
        PluginError: unknown name, or a file that does not keep the contract.
        ConfigError: unknown or invalid setting.
    """
    module = _module(choice.name)
    plugins.check_contract(CONTRACT, choice.name, module)
    params = parse(getattr(module, "Params", Params), choice.params, where=f"reward {choice.name}")
    wants = frozenset(
        name for name in ("score", "fast_verdict") if plugins.takes(getattr(module, name, None), "finish")
    )
    # Of score(text, problem, finish) the third is not the settings.
    settled = plugins.accepts(module.score, 3) and not (
        plugins.accepts(module.score, 2) and _third(module.score) == "finish"
    )
    return Reward(choice.name, module, params, takes_params=settled, takes_finish=wants)


def _third(function: object) -> str:
    """The name of a function's third parameter; "" where it has none."""
    try:
        names = list(inspect.signature(function).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    return names[2] if len(names) > 2 else ""


def _module(name: str) -> ModuleType:
    """The module of that name; for "module:function" one whose `score` is the function and that defines nothing else."""
    place, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        return plugins.load("rewards", name)
    score = getattr(plugins.load("rewards", place), function, None)
    if not callable(score):
        raise PluginError(f"reward {name!r}: {place} has no function {function!r}; expected MODULE:FUNCTION")
    module = ModuleType(name)
    vars(module)["score"] = score
    return module


def load_part(choice: Choice) -> Reward:
    """`load` for a reward made of others: each is set up once and then found again at every verdict."""
    return _load_part(choice.model_dump_json())


@lru_cache(maxsize=64)
def _load_part(choice: str) -> Reward:
    return load(Choice.model_validate_json(choice))
