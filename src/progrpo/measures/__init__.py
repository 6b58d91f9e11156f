"""One evaluation measure = one file. The contract: `measure(completions, verdicts) -> {name: value}` for one problem.

The value of a measure over a task is the mean over its problems; a name that a problem lacks leaves that problem out.
A file with `NEEDS_CANONICAL = True` is left out altogether where the verifier gives no canonical forms.
"""

from collections.abc import Sequence
from types import ModuleType

from progrpo import plugins
from progrpo.errors import PluginError


def load(names: Sequence[str]) -> list[ModuleType]:
    """Import the named measures.

    Raises:
        PluginError: unknown name, or the file lacks `measure`.
    """
    modules = [plugins.load("measures", name) for name in names]
    for name, module in zip(names, modules, strict=True):
        if not callable(getattr(module, "measure", None)):
            raise PluginError(f"measure {name!r}: {module.__name__} must define measure(completions, verdicts)")
    return modules
