"""What a test needs beside Python, git and make: it skips where that is missing and names what brings it, or, under --insist,
fails. Packages of the extra `dev` are needed so; of others (trainers that are hosts, reasoning-gym) a test skips at most."""

from importlib.util import find_spec
from typing import NoReturn

import pytest

_chosen = {"insist": False}


def insist(wanted: bool) -> None:
    """Whether what is missing is a failure."""
    _chosen["insist"] = wanted


def lacks(what: str) -> NoReturn:
    """Skip for what this machine lacks, named together with the command that brings it; fail where that was asked for."""
    if _chosen["insist"]:
        pytest.fail(what, pytrace=False)
    pytest.skip(what, allow_module_level=True)


def need(package: str) -> None:
    """A package of the extra `dev`; may be called by a test, a fixture, or while a file of tests is read."""
    if find_spec(package) is None:
        lacks(f"{package} is missing: pip install -e '.[dev]'")
