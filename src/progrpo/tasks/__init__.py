"""One data set or benchmark = one file.

The contract:
    load            load(split[, params]) -> Sequence[Problem], with the splits "train" and "test"; ids are text and unique.
                    Problems may be rows of the task `file`, too: {"prompt": ..., "answer": ..., any column for the reward}
    and, where they are needed:
    Params          its settings, a `Settings` model; those of a published data set build on `tasks._published.PublishedParams`
    REWARD          the reward that judges it unless the recipe names another: its name, or {"name": ..., key: value};
                    or reward(params) -> either, where that depends on its settings
    MAX_NEW_TOKENS  tokens a completion may have in `progrpo evaluate` unless told otherwise; 8,192 without it
    SAMPLES         completions per problem under each preset of `progrpo evaluate` ({"paper": 32, "recommended": 64})
    summarise       summarise(problems, params) -> {name: number}: numbers of the whole task that are no mean over
                    problems (a rating), from the `ProblemResult` problems of an evaluation
    check           check(params, problems): called before an evaluation; raises a `DataError` where `summarise` lacks
                    something
    ENDLESS         True: its problems are made up, as many as are asked for (endless(params) -> bool where that depends on
                    its settings); False without it
    sources         sources(params) -> {source: weight or None}: the parts that its problems' facts name as "source", and their
                    shares of each rollout, relative to one another; without weights each problem comes once per epoch
    SOURCES         where the rows of a published data set are read from; for readers, nothing here asks for it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import ConfigError, DataError, PluginError
from progrpo.settings import Choice, Settings, parse
from progrpo.types import Problem, ProblemResult

_READ_ROWS = ("file", "hub")
"""Tasks that hand columns of their rows to the reward (`info_keys`)."""

CONTRACT = plugins.Contract(
    kind="task",
    names={
        "Params": "a subclass of progrpo.settings.Settings",
        "load": "load(split[, params]) -> Sequence[Problem | row]",
        "REWARD": "a reward: its name, or {name: ..., key: value}",
        "reward": "reward(params) -> its name, or {name: ..., key: value}",
        "MAX_NEW_TOKENS": "a number of tokens",
        "SAMPLES": "{preset: completions per problem}",
        "summarise": "summarise(problems, params) -> {name: number}",
        "check": "check(params, problems)",
        "ENDLESS": "True or False",
        "endless": "endless(params) -> bool",
        "sources": "sources(params) -> {source: weight or None}",
        "SOURCES": "where a published data set is read from",
    },
    required=(("load",),),
    settings=Settings,
)


@dataclass(frozen=True, slots=True)
class Task:
    """A task chosen and set up, with the defaults of the contract."""

    name: str
    module: ModuleType
    params: Any

    def reward(self) -> Choice:
        """The reward that judges it unless another is named.

        Raises:
            ConfigError: it is neither a name nor {name: ..., key: value}, or the task names none.
        """
        if not hasattr(self.module, "reward") and not hasattr(self.module, "REWARD"):
            raise ConfigError(
                f"task {self.name!r} names no reward; give one with reward.name (progrpo list rewards), or write "
                'REWARD = "math" into its file'
            )
        chosen = self.module.reward(self.params) if hasattr(self.module, "reward") else self.module.REWARD
        named = {"name": chosen} if isinstance(chosen, str) else chosen
        return parse(Choice, named, where=f"task {self.name}: its reward")

    def problems(self, split: str) -> Sequence[Problem]:
        """Load one split.

        Raises:
            PluginError: what the task loads is no sequence of problems with ids, or a problem's prompt or answer is no text.
            DataError: the split is empty, two of its problems share an id (both lines are named), or a text holds half a
                character.
        """
        loaded: Any = self.module.load(split, *((self.params,) if plugins.accepts(self.module.load, 2) else ()))
        if not isinstance(loaded, Sequence):
            raise PluginError(f"task {self.name!r}: load gave a {type(loaded).__name__}; expected a list of Problem")
        if any(isinstance(row, Mapping) for row in loaded):
            loaded = plugins.load("tasks", "file").problems_of(loaded, where=f"{self.name}, split {split}")
        for index, problem in enumerate(loaded):
            if not isinstance(problem, Problem) or not isinstance(problem.id, str):
                raise PluginError(
                    f"task {self.name!r}: row {index} of split {split!r} is {problem!r:.80}; expected a "
                    "progrpo.types.Problem whose id is text"
                )
            if fault := _fault(problem):
                raise PluginError(f"task {self.name!r}: problem {problem.id!r:.80} of split {split!r}: {fault}")
        if len(loaded) == 0:
            raise DataError(f"task {self.name!r}: split {split!r} has no problems")
        _require_readable(loaded, f"task {self.name!r}: split {split!r}")
        problems: Sequence[Problem] = loaded
        return problems

    @property
    def endless(self) -> bool:
        """Whether its problems are made up, so that their number says nothing."""
        if hasattr(self.module, "endless"):
            return bool(self.module.endless(self.params))
        return bool(getattr(self.module, "ENDLESS", False))

    @property
    def sources(self) -> Mapping[str, float | None]:
        """The parts it is made of with their weights; {} for a task of one piece."""
        return self.module.sources(self.params) if hasattr(self.module, "sources") else {}

    def check(self, problems: Sequence[Problem]) -> None:
        """Raises DataError where `summarise` would lack something."""
        if hasattr(self.module, "check"):
            self.module.check(self.params, problems)

    def summarise(self, problems: Sequence[ProblemResult]) -> object:
        """Its numbers of the whole task, as its module gives them; None without any."""
        return self.module.summarise(problems, self.params) if hasattr(self.module, "summarise") else None


def load(choice: Choice) -> Task:
    """Import the chosen task and validate its settings, once: what is to be known of it is asked of the `Task`.

    Raises:
        PluginError: unknown name, or a file that does not keep the contract.
        ConfigError: unknown or invalid setting.
    """
    module = _module(choice.name)
    plugins.check_contract(CONTRACT, choice.name, module)
    hint = plugins.of_another("tasks", choice.name, kind="task")
    params = parse(getattr(module, "Params", Settings), choice.params, where=f"task {choice.name}", hint=hint)
    return Task(choice.name, module, params)


def _module(name: str) -> ModuleType:
    """The module of that name; for "MODULE:FUNCTION" one whose `load` the function is."""
    named = plugins.load_function("tasks", name)
    if named is None:
        return plugins.load("tasks", name)
    module = ModuleType(name)
    vars(module)["load"] = named[1]
    return module


def for_columns(choice: Choice) -> Choice:
    """The choice for a reward that reads columns by name: tasks that read rows then keep all of them, unless the settings name
    some; those within a mixture likewise."""
    if choice.name == "mixture" and isinstance(parts := choice.params.get("parts"), Sequence):
        within = [for_columns(Choice(**{"name": "file", **part})).model_dump() for part in parts]
        return Choice(**{**choice.model_dump(), "parts": within})
    if choice.name not in _READ_ROWS or "info_keys" in choice.params:
        return choice
    return Choice(**{**choice.model_dump(), "info_keys": None})


def reward(choice: Choice) -> Choice:
    """`Task.reward` of a choice that is not loaded yet."""
    return load(choice).reward()


def problems(choice: Choice, split: str) -> Sequence[Problem]:
    """`Task.problems` of a choice that is not loaded yet."""
    return load(choice).problems(split)


def _fault(problem: Problem) -> str | None:
    """What is no text of a problem though it must be; None where nothing is."""
    if not isinstance(problem.answer, str | None):
        return (
            f"its answer is {problem.answer!r:.80}; expected text (a number as one would write it), or None without one"
        )
    if not isinstance(problem.accepted, Sequence) or not all(isinstance(one, str) for one in problem.accepted):
        return f"accepted is {problem.accepted!r:.80}; expected a tuple of texts"
    if isinstance(problem.prompt, str):
        return None
    messages = problem.prompt if isinstance(problem.prompt, Sequence) else ()
    if messages and all(isinstance(one, Mapping) and isinstance(one.get("content"), str) for one in messages):
        return None
    return f'its prompt is {problem.prompt!r:.80}; expected text, or a tuple of {{"role", "content"}} messages'


def _require_readable(problems: Sequence[Problem], where: str) -> None:
    """Raises DataError where two problems share an id, or a text holds what no tokenizer and no file can take."""
    met: dict[str, Problem] = {}
    for problem in problems:
        place = problem.place or f"{where}: problem {problem.id!r}"
        if (other := met.get(problem.id)) is not None:
            raise DataError(
                f"{place}: the id {problem.id!r:.80} is that of {other.place or 'another problem'} already; ids must be unique"
            )
        met[problem.id] = problem
        texts = [problem.prompt] if isinstance(problem.prompt, str) else [one["content"] for one in problem.prompt]
        for name, text in [*(("prompt", one) for one in texts), *(("answer", one.answer) for one in problem.each_gold)]:
            try:
                (text or "").encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{place}: the {name} holds {error.object[error.start]!a}, half of a character, at position "
                    f"{error.start} (text cut in the middle of an emoji?); mend or remove it"
                ) from None


def overlap(train: Sequence[Problem], test: Sequence[Problem], *, of: str = "held-out problems") -> str | None:
    """A warning where held-out problems are training problems too, by their prompts but for white space; None where none is.

    Args:
        of: what they are called.
    """
    known = {_words(problem) for problem in train}
    shared = [problem for problem in test if _words(problem) in known]
    if not shared:
        return None
    return (
        f"{len(shared)} of {len(test)} {of} are training problems too (the first: {shared[0].id!r}): held-out "
        "numbers will say what was learned by heart; give the two splits problems of their own"
    )


def _words(problem: Problem) -> str:
    """The prompt with one space for all white space."""
    prompt = problem.prompt
    parts = [prompt] if isinstance(prompt, str) else [f"{one.get('role')} {one.get('content')}" for one in prompt]
    return " ".join(" ".join(parts).split())
