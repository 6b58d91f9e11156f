"""What a reader meets first: links that lead somewhere, a README of one sitting, a site that builds, one version everywhere."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

import progrpo

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The ids that GitHub and the site give to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in _LINK.findall(_CODE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One: `two`, three\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# A\n[x](b.md) [x](b.md#one-two-three) [x](#a) [x](https://x.y) `[x](code.md)`\n```\n[x](code.md)\n```\n"
    )
    assert dead_links(page) == []
    page.write_text("[x](c.md) [x](b.md#two) [x](#b)\n")
    assert dead_links(page) == ["c.md", "b.md#two", "#b"]


def test_the_readme_is_read_in_one_sitting() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count("\n") <= 150
    assert "![" in text  # a picture of the result


def site() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    return found


def test_the_site_holds_every_page_once() -> None:
    def named(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in named(part)]

    assert sorted(named(site()["nav"])) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_site_documents_what_there_is() -> None:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    for name in re.findall(r"^::: progrpo\.(\S+)", text, flags=re.MULTILINE):
        parts = name.split(".")
        path = ROOT / "src" / "progrpo" / "/".join(parts)
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            continue
        module = path.parent.with_suffix(".py")
        tree = ast.parse(module.read_text("utf-8"))
        assert parts[-1] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}, name


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path, lacks: Callable[[str], NoReturn]) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")):
        lacks("mkdocs is missing: pip install 'progrpo[docs]'")
    found = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    assert "sequence_confidence" in (tmp_path / "site" / "api.html").read_text("utf-8")


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == progrpo.__version__
    assert f'\nversion = "{progrpo.__version__}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.search(
        rf"^## (Unreleased|{re.escape(progrpo.__version__)})$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )


def test_the_workflow_runs_what_a_change_must_pass() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    suite = workflow["jobs"]["suite"]
    assert {"run": ".ci/run"} in suite["steps"]
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert oldest is not None
    assert suite["strategy"]["matrix"]["python"][0] == oldest[1]


def test_the_page_on_python_calls_what_there_is() -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    names = {node.attr for block in blocks for node in ast.walk(ast.parse(block)) if _of(node, "progrpo")}
    assert {"train", "evaluate", "compare", "score", "load_run", "Callback", "StopTraining"} <= names
    assert names <= set(dir(progrpo))
    run = {node.attr for block in blocks for node in ast.walk(ast.parse(block)) if _of(node, "run")}
    assert run <= set(dir(progrpo.TrainingRun))
    hooks = {node.name for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.FunctionDef)}
    assert hooks - {"reward"} <= set(dir(progrpo.Callback))


def _of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
