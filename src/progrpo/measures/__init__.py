"""One evaluation measure = one file. Measures read what an evaluation keeps (`ProblemResult`), so that every number can be made
again from the files alone; nothing here imports torch.

The contract:
    measure         measure(judged, params) -> {name: finite number} for one problem. Its value over a task is the mean over
                    the problems; a name that a problem lacks, or has None for, leaves that problem out
    and, where they are needed:
    over_task       over_task(problems, params) -> {name: number}: numbers of all problems of a task together that are no
                    mean over problems (pooled n-grams, a rating)
    Params          its settings, a `Settings` model; without it the measure has none
    prepare         prepare(params): called once before anything is sampled; raises a `ProgrpoError` where the measure
                    cannot work on this machine (a missing extra)
    COLUMNS         what it measures, as `Quantity`s: name, unit, which direction is better, and the tables of `progrpo compare`
                    and of the page it stands in (`drawn`). A name without one is shown by `progrpo evaluate` as it is
    NEEDS_CANONICAL True: left out altogether where the verifier gives no canonical forms
    NEEDS_ANSWERS   True: left out where what the verifier extracts is no answer to be counted (programs)
    NEEDS_ENTROPIES True: refused with an engine that gives no entropies, before anything is sampled; or the names of those
                    of its numbers that need them: such an evaluation then goes without these, and says so
    NEEDS_EXTRA     the extra of progrpo it needs: `progrpo evaluate` measures it where a preset or the settings ask for it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from progrpo import plugins
from progrpo.errors import PluginError
from progrpo.settings import Choice, Settings, parse
from progrpo.types import ProblemResult


class Params(Settings):
    """For measures without settings."""


CONTRACT = plugins.Contract(
    kind="measure",
    names={
        "measure": "measure(judged, params) -> {name: number}",
        "over_task": "over_task(problems, params) -> {name: number}",
        "Params": "a subclass of progrpo.settings.Settings",
        "prepare": "prepare(params)",
        "NEEDS_CANONICAL": "True or False",
        "NEEDS_ANSWERS": "True or False",
        "NEEDS_ENTROPIES": "True, or a tuple of names of its numbers",
        "NEEDS_EXTRA": "the name of an extra of progrpo",
        "COLUMNS": "a tuple of progrpo.schema.quantity.Quantity",
    },
    required=(("measure",),),
    settings=Settings,
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure chosen and set up, with the defaults of the contract."""

    name: str
    module: ModuleType
    params: Any

    @property
    def needs_canonical(self) -> bool:
        return bool(getattr(self.module, "NEEDS_CANONICAL", False))

    @property
    def needs_answers(self) -> bool:
        return bool(getattr(self.module, "NEEDS_ANSWERS", False))

    @property
    def needs_entropies(self) -> bool | tuple[str, ...]:
        """Whether it makes no sense without entropies; or which of its numbers do not."""
        return getattr(self.module, "NEEDS_ENTROPIES", ())

    def measure(self, judged: ProblemResult) -> Mapping[str, float]:
        """The values for one problem. Raises PluginError where one is no finite number."""
        where = f"measure {self.name!r}, problem {judged.problem!r}"
        return require_numbers(self.module.measure(judged, self.params), where=where)

    def over_task(self, problems: Sequence[ProblemResult]) -> Mapping[str, float]:
        hook = getattr(self.module, "over_task", None)
        return require_numbers(hook(problems, self.params), where=f"measure {self.name!r}: over_task") if hook else {}

    def prepare(self) -> None:
        hook = getattr(self.module, "prepare", None)
        if hook:
            hook(self.params)


def names(*, extras: bool) -> list[str]:
    """The measures of this package, Pass@k first.

    Args:
        extras: also those that need an extra.
    """
    ordered = sorted(plugins.names("measures"), key=lambda name: name != "pass_at_k")
    return [name for name in ordered if extras or not hasattr(plugins.load("measures", name), "NEEDS_EXTRA")]


def load(choices: Sequence[Choice]) -> list[Measure]:
    """Import the chosen measures and validate their settings.

    Raises:
        PluginError: unknown name, or a file that does not keep the contract.
        ConfigError: unknown or invalid setting.
    """
    loaded = []
    for choice in choices:
        module = plugins.load("measures", choice.name)
        plugins.check_contract(CONTRACT, choice.name, module)
        params = parse(getattr(module, "Params", Params), choice.params, where=f"measure {choice.name}")
        loaded.append(Measure(choice.name, module, params))
    return loaded


def require_numbers(values: object, *, where: str) -> dict[str, float]:
    """What a measure (or a task's `summarise`) gave, as plain floats; names with None are left out.

    Raises:
        PluginError: no mapping of names to finite numbers.
    """
    if not isinstance(values, Mapping):
        raise PluginError(f"{where} gave {values!r:.80}; expected a mapping of names to numbers")
    numbers = {}
    for name, value in values.items():
        if value is None:
            continue
        number = plugins.number(value)
        if number is None or not isinstance(name, str):
            raise PluginError(
                f"{where} gave {value!r:.80} for {name!r}; expected a name and a finite number. Leave out, or give None "
                "for, what has no value"
            )
        numbers[name] = number
    return numbers
