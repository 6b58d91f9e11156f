"""What a user's own code was when it was used, so that what it gave then is not taken for what it gives now."""

import hashlib
import inspect
import marshal
from collections.abc import Callable
from types import ModuleType
from typing import Any

from progrpo import plugins

_MODULES: dict[str, str] = {}
"""Of modules by name, as they were when first asked for: a file that is edited later is not what this process runs."""


def digest_of(thing: ModuleType | Callable[..., Any]) -> str:
    """Of the text of a module or function, 16 hexadecimal digits; of the compiled code where there is no text.

    What it imports or closes over is not looked at.
    """
    if not isinstance(thing, ModuleType):
        return _digest(thing)
    if thing.__name__ not in _MODULES:
        _MODULES[thing.__name__] = _digest(thing)
    return _MODULES[thing.__name__]


def _digest(thing: ModuleType | Callable[..., Any]) -> str:
    try:
        text = inspect.getsource(thing).encode()
    except (OSError, TypeError):
        code = getattr(thing, "__code__", None) or getattr(getattr(thing, "__call__", None), "__code__", None)  # noqa: B004
        text = repr(thing).encode() if code is None else marshal.dumps(code)
    return hashlib.sha256(text).hexdigest()[:16]


def own_source(package: str, name: str) -> str | None:
    """`digest_of` the module that a variation stands in; None of what this package brings, which its version says.

    Raises:
        PluginError, ImportError: see `progrpo.plugins.load`.
    """
    if name in plugins.names(package):
        return None
    if (named := plugins.load_function(package, name)) is not None:
        return digest_of(inspect.getmodule(named[1]) or named[1])
    return digest_of(plugins.load(package, name))
