"""The recipes that ship with the package, found by name: `math`, `demo/grpo`, `paper/qwen2.5-7b-math-progrpo`."""

from difflib import get_close_matches
from pathlib import Path

from progrpo.errors import ConfigError

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The names of all of them, those of no folder first."""
    names = [path.relative_to(_HERE).with_suffix("").as_posix() for path in _HERE.rglob("*.yaml")]
    return sorted(names, key=lambda name: ("/" in name, name))


def summaries() -> dict[str, str]:
    """Map each name to the first sentence of the comment that its file begins with."""
    return {name: _summary((_HERE / f"{name}.yaml").read_text("utf-8")) for name in names()}


def find(recipe: str | Path) -> Path:
    """The file of a recipe: a path, else the name of one that ships with the package; its last part will do where no other
    ends so.

    Raises:
        ConfigError: there is neither; the nearest name is given.
    """
    if Path(recipe).is_file():
        return Path(recipe)
    known = names()
    name = str(recipe).removesuffix(".yaml").removeprefix("recipes/")
    matches = [name] if name in known else [one for one in known if one.rpartition("/")[2] == name]
    if len(matches) == 1:
        return _HERE / f"{matches[0]}.yaml"
    if matches:
        raise ConfigError(f"{recipe}: {len(matches)} recipes are called so; expected one of {', '.join(matches)}")
    near = get_close_matches(name, [*known, *(one.rpartition("/")[2] for one in known)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(
        f"{recipe}: no such file, and no recipe of that name{hint} `progrpo recipes` lists those that ship"
    )


def _summary(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# ").strip())
    return " ".join(lines).partition(". ")[0].rstrip(".")
