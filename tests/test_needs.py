"""What is missing skips aloud, or fails where CI insists."""

import re
import tomllib
from pathlib import Path

import pytest

from stand_ins import needs

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _as_before(pytestconfig: pytest.Config) -> object:
    yield
    needs.insist(pytestconfig.getoption("insist"))


def test_a_package_that_is_there_is_no_matter() -> None:
    for wanted in (True, False):
        needs.insist(wanted)
        needs.need("json")


def test_a_package_that_is_missing_skips_and_under_insist_fails() -> None:
    said = r"no_such_package is missing: pip install -e '.\[dev\]'"
    needs.insist(False)
    with pytest.raises(pytest.skip.Exception, match=said):
        needs.need("no_such_package")
    needs.insist(True)
    with pytest.raises(pytest.fail.Exception, match=said):
        needs.need("no_such_package")


def test_packages_of_the_extra_dev_are_needed_and_no_others() -> None:
    """A skip that nobody can forbid hides a test for ever; a failure for a package that nothing installs stops every change."""
    extras = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    dev = {re.split(r"[\[<>=~!]", one)[0].replace("-", "_") for one in extras["dev"]} | {"datasets"}  # trl brings it
    skipping, needing = set(), set()
    for path in TESTS.rglob("*.py"):
        if path.name != "test_needs.py":
            text = path.read_text()
            skipping |= {*re.findall(r'importorskip\(\s*"(\w+)"', text)}
            needing |= {*re.findall(r'\bneed\("(\w+)"\)', text)}
    assert skipping >= {"skyrl", "trinity"}
    assert not skipping & dev
    assert needing >= {"peft", "trl"}
    assert needing <= dev
