"""A package that is called like the function of its name: `progrpo.train(...)` beside `import progrpo.train.loop`."""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(name: str, home: str) -> None:
    """Let the package `name` be called as the function "module:function" of `home`, which is imported when it is first called
    or asked for its signature or documentation."""
    module, _, function = home.partition(":")

    def target() -> Callable[..., Any]:
        callee: Callable[..., Any] = getattr(import_module(module), function)
        return callee

    class CallablePackage(ModuleType):
        """A package that is also the function of its name."""

        def __call__(self, *arguments: Any, **keywords: Any) -> Any:
            return target()(*arguments, **keywords)

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(target())

    sys.modules[name].__class__ = CallablePackage
