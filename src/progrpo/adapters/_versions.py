"""What an adapter takes for granted of its host, and the refusal where it is otherwise."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from progrpo.errors import HostError

logger = logging.getLogger(__name__)


def check_host(
    host: str, version: str, tested: Sequence[str], known: Mapping[str, tuple[Any, str, Sequence[str]]], *, remedy: str
) -> None:
    """Compare the functions that an adapter calls or overrides with those that this version of the host has.

    Args:
        tested: the versions that the contract tests were run with.
        known: how it is called in messages -> (where it is, its name there, the parameters that must come first).
        remedy: what to do if one is not there.

    Raises:
        HostError: a function is missing or has other parameters; the message names it and the remedy.
    """
    for label, (owner, name, expected) in known.items():
        function = getattr(owner, name, None)
        if function is None:
            raise HostError(f"{host} {version}: {label} is missing, which the adapter needs; {remedy}")
        parameters = tuple(inspect.signature(function).parameters)
        if parameters[: len(expected)] != tuple(expected):
            raise HostError(
                f"{host} {version}: {label}: expected the parameters {', '.join(expected)}, got {', '.join(parameters)}; "
                f"{remedy}"
            )
    if _minor(version) not in {_minor(one) for one in tested}:
        logger.warning(
            "%s %s: the adapter was tested with %s; the names it needs are there and look the same",
            host,
            version,
            ", ".join(tested),
        )


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])
