"""One verifier = one file.

The contract:
    Params          its settings, a subclass of `progrpo.rewards.Params` (or a `Settings` model that has a `wrong_reward`)
    score           score(text, problem[, params]) -> Verdict | number | bool | None: judge one completion. A plain number is
                    its reward, correct if > 0; True and False are correct and wrong; None is no verdict (`bad_gold`, left
                    out of its group). Anything else, nan and inf included, is `crashed`. Where it has a parameter `finish`,
                    it also gets how the completion ended: "stop" (an end token), "length" (cut at the limit), None where
                    nobody knows: score(text, problem, params, *, finish=None)
    score_all       in its place: score_all(texts, problems[, params]) -> a list of what `score` gives, called once for a batch
                    of completions in this process (batched(params) -> bool where that depends on the settings)
    and, where they are needed:
    SLOW            True: `score` may take long or hang; it then runs in a worker process that is killed at the time limit
                    (rollout/verify.py). A file whose answer depends on its settings defines slow(params) -> bool
    CANONICAL       True: a correct verdict carries a canonical form, so that distinct solutions can be counted; or
                    canonical(params) -> bool
    ANSWERS         False: what it extracts is no answer that could be voted on (a program); True without it; or
                    answers(params) -> bool
    fast_verdict    fast_verdict(text, problem, params) -> Verdict | None: what can be decided at once, in the process
                    that asks; None leaves it to `score`. It gets `finish` as `score` does
    length_term     length_term(verdict, tokens, params) -> Verdict: a term that needs the completion's length in tokens,
                    added in training and evaluation after the verdict; the status stays. counts_tokens(params) -> bool where
                    it depends on the settings whether there is one
    gold_fault      gold_fault(problem, params) -> str | None: why a problem's own gold cannot be used, None where it can;
                    runs where `score` runs, once per problem before training
    limit_s         limit_s(params) -> float: wall-clock seconds one verdict may take, where `DEFAULT_LIMIT_S` is too short
    warm            warm(params): called when a worker starts, so that heavy imports are not a verdict's time
    prepare         prepare(params): called once, in the process that asks, before the first verdict; raises a `ProgrpoError`
                    where this machine cannot judge

A problem may have several accepted answers (`Problem.accepted`); a reward never sees more than one: it is asked once for each,
and the best verdict counts.

A single function will do: "mylab.rewards:length_ok" or "./my_rewards.py:length_ok" is the reward whose `score` it is, or, with
a parameter `completions`, one that is called as TRL calls it (`_functions.py`). A file that defines no more than such a
function, or calls it `reward`, is named alone.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import PluginError
from progrpo.rewards._functions import SESSION, as_module, of_session, only_function, takes_columns
from progrpo.rewards._results import as_verdict, best
from progrpo.settings import Choice, Settings, parse
from progrpo.sources import digest_of, own_source
from progrpo.types import Finish, Problem, Verdict

__all__ = ["CONTRACT", "DEFAULT_LIMIT_S", "SESSION", "Params", "Reward", "load", "load_part"]

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
        "score_all": "score_all(texts, problems[, params]) -> list of Verdict | number | bool | None",
        "batched": "batched(params) -> bool",
        "SLOW": "True or False",
        "slow": "slow(params) -> bool",
        "CANONICAL": "True or False",
        "canonical": "canonical(params) -> bool",
        "ANSWERS": "True or False",
        "answers": "answers(params) -> bool",
        "fast_verdict": "fast_verdict(text, problem, params) -> Verdict | None",
        "length_term": "length_term(verdict, tokens, params) -> Verdict",
        "counts_tokens": "counts_tokens(params) -> bool",
        "gold_fault": "gold_fault(problem, params) -> str | None",
        "limit_s": "limit_s(params) -> float",
        "warm": "warm(params)",
        "prepare": "prepare(params)",
    },
    required=(("score", "score_all"),),
    settings=Settings,
)


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward chosen and set up, with the defaults of the contract. Verdicts are checked here (see `as_verdict`).

    Attributes:
        takes_params: whether `score` wants the settings, or text and problem alone.
        takes_finish: those of `score`, `score_all` (a list there) and `fast_verdict` that want to know how a completion ended.
        takes_columns: whether it, or a part of it, reads the columns of the problems' rows by name.
    """

    name: str
    module: ModuleType
    params: Any
    takes_params: bool = True
    takes_finish: frozenset[str] = frozenset()
    takes_columns: bool = False

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

    @property
    def batched(self) -> bool:
        """Whether it judges many completions in one call, `score_all`."""
        if self.has("batched"):
            return bool(self.module.batched(self.params))
        return self.has("score_all") and not self.slow

    def score_all(self, items: Sequence[tuple[str, Problem, Finish | None]]) -> list[Verdict]:
        """`score` of each, in as few calls as the reward allows.

        Raises:
            PluginError: its `score_all` gave no list, or one of another length.
        """
        if not self.has("score_all"):
            return [self.score(*item) for item in items]
        golds = [item[1].each_gold for item in items]
        texts = [item[0] for item, each in zip(items, golds, strict=True) for _ in each]
        problems = [one for each in golds for one in each]
        told: dict[str, Any] = {}
        if "score_all" in self.takes_finish:
            told["finish"] = [item[2] for item, each in zip(items, golds, strict=True) for _ in each]
        values = self.module.score_all(texts, problems, *((self.params,) if self.takes_params else ()), **told)
        if not isinstance(values, Sequence) or len(values) != len(texts):
            raise PluginError(f"reward {self.name!r}: score_all gave {values!r:.80}; expected a list of {len(texts)}")
        verdicts = iter([as_verdict(value, self.params, self.name) for value in values])
        return [best([next(verdicts) for _ in each]) for each in golds]

    def _score(self, text: str, problem: Problem, finish: Finish | None) -> Verdict:
        if not self.has("score"):
            return self.score_all([(text, problem, finish)])[0]
        arguments = (text, problem, self.params) if self.takes_params else (text, problem)
        return as_verdict(self.module.score(*arguments, **self._finish("score", finish)), self.params, self.name)

    def _finish(self, function: str, finish: Finish | None) -> dict[str, Finish | None]:
        return {"finish": finish} if function in self.takes_finish else {}

    @property
    def counts_tokens(self) -> bool:
        """Whether its `length_term`, or that of a part, changes a verdict."""
        if self.has("counts_tokens"):
            return bool(self.module.counts_tokens(self.params))
        return self.has("length_term")

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
        if self.has("answers"):
            return bool(self.module.answers(self.params))
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
    hint = plugins.of_another("rewards", choice.name, kind="reward")
    params = parse(getattr(module, "Params", Params), choice.params, where=f"reward {choice.name}", hint=hint)
    wants = frozenset(
        name for name in ("score", "score_all", "fast_verdict") if plugins.takes(getattr(module, name, None), "finish")
    )
    judge = module.score if hasattr(module, "score") else module.score_all
    # Of score(text, problem, finish) the third is not the settings.
    settled = plugins.accepts(judge, 3) and not (plugins.accepts(judge, 2) and _third(judge) == "finish")
    columns = any(_takes_columns(name) for name in (choice.name, *_names_within(params.model_dump())))
    return Reward(choice.name, module, params, takes_params=settled, takes_finish=wants, takes_columns=columns)


def _third(function: object) -> str:
    """The name of a function's third parameter; "" where it has none."""
    try:
        names = list(inspect.signature(function).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    return names[2] if len(names) > 2 else ""


def _module(name: str) -> ModuleType:
    """The module of that name; for a function one that consists of it."""
    function = _function(name)
    return plugins.load("rewards", name) if function is None else as_module(name, function)


def _names_within(value: object) -> list[str]:
    """The names of the rewards that a reward is made of (`combined`, `length`), at any depth."""
    if isinstance(value, Mapping):
        named = [value["name"]] if isinstance(value.get("name"), str) else []
        return named + [name for one in value.values() for name in _names_within(one)]
    return [name for one in value for name in _names_within(one)] if isinstance(value, tuple | list) else []


def _takes_columns(name: str) -> bool:
    function = _function(name)
    return function is not None and takes_columns(function)


def _function(name: str) -> Callable[..., Any] | None:
    """The plain function that a name stands for; None for a module of the contract."""
    if name.startswith(SESSION):
        return of_session(name)
    if named := plugins.load_function("rewards", name):
        return named[1]
    module = plugins.load("rewards", name)
    score = getattr(module, "score", None)
    if callable(score):
        return score if takes_columns(score) else None
    return None if hasattr(module, "score_all") else only_function(module, name)


def own_sources(choice: Choice) -> dict[str, str]:
    """Of each reward in it that is not this package's, by name, a digest of its source (see `progrpo.sources`): with another it
    is another reward."""
    found: dict[str, str] = {}
    for name in (choice.name, *_names_within(choice.params)):
        digest = digest_of(of_session(name)) if name.startswith(SESSION) else own_source("rewards", name)
        found |= {} if digest is None else {name: digest}
    return found


def load_part(choice: Choice) -> Reward:
    """`load` for a reward made of others: each is set up once and then found again at every verdict."""
    return _load_part(choice.model_dump_json())


@lru_cache(maxsize=64)
def _load_part(choice: str) -> Reward:
    return load(Choice.model_validate_json(choice))
