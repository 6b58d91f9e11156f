import sys
from pathlib import Path

import pytest

from progrpo import plugins
from progrpo.errors import PluginError


@pytest.mark.parametrize("package", plugins.PACKAGES)
def test_every_file_loads_and_has_a_one_line_summary(package: str) -> None:
    found = plugins.summaries(package)
    assert found
    for name, summary in found.items():
        plugins.load(package, name)
        assert 20 < len(summary) <= 140, f"{package}/{name}: {summary!r}"


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(PluginError, match="unknown name 'progpro'; did you mean 'progrpo'"):
        plugins.load("methods", "progpro")


def test_unknown_room() -> None:
    with pytest.raises(PluginError, match="no package"):
        plugins.load("kitchens", "x")


def test_dotted_path_admits_code_outside_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab_methods.py").write_text("'''Mine.'''\n")
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"no module 'mylab.absent'"):
        plugins.load("methods", "mylab.absent")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        plugins.load("methods", "mylab.broken")
    sys.modules.pop("mylab", None)
