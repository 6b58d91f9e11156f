"""Whether a run may go on: the settings, the problems, and the user's own code that it began with."""

import json
import logging
from pathlib import Path

import yaml

from progrpo import rewards
from progrpo.errors import ConfigError, RunDirectoryError
from progrpo.settings import flat
from progrpo.sources import own_source
from progrpo.train.settings import RunSettings

logger = logging.getLogger(__name__)

MAY_DIFFER = frozenset({"steps", "epochs", "record", "checkpoint", "early_stopping", "alarms", "verify", "parallel"})
"""Settings that may change between a run and its resumption: none of them touches a step already made (`steps`
and `epochs` only where the learning rate does not depend on it)."""


def own_sources(settings: RunSettings) -> dict[str, str]:
    """A digest of each of the user's own files that a run is made of, by the setting that names it; {} where none is."""
    named = {"method": settings.method, "task": settings.task, "engine": settings.engine}
    found = {f"{kind} {one.name}": own_source(f"{kind}s", one.name) for kind, one in named.items()}
    if add := settings.method.params.get("add"):
        name = add if isinstance(add, str) else add["name"]
        found[f"method {name}"] = own_source("methods", name)
    if settings.reward is not None:
        found |= {f"reward {name}": digest for name, digest in rewards.own_sources(settings.reward).items()}
    return {name: digest for name, digest in found.items() if digest is not None}


def require_same(settings: RunSettings, problems: str) -> None:
    """Check that a run can go on with these settings and problems; nothing is touched.

    Raises:
        RunDirectoryError, ConfigError: see `RunDirectory.reopen`.
    """
    path = Path(str(settings.out))
    if not (path / "config.yaml").is_file():
        raise RunDirectoryError(f"{path} holds no run to resume (no config.yaml); start it without --resume")
    before = flat(yaml.safe_load((path / "config.yaml").read_text("utf-8")))
    after = flat(settings.as_given())
    free = MAY_DIFFER if settings.optim.schedule == "constant" else MAY_DIFFER - {"steps", "epochs"}
    bound = [key for key in sorted(before.keys() | after.keys()) if key.split(".")[0] not in free]
    changed = [key for key in bound if key in before and key in after and before[key] != after[key]]
    changed.sort(key=lambda key: not key.endswith(".name"))  # another method has other settings, too
    if changed:
        shown = "; ".join(f"{key}: {before[key]} -> {after[key]}" for key in changed[:5])
        raise ConfigError(
            f"{path}: cannot resume with other settings: {shown}{' ...' * (len(changed) > 5)}. "
            "Resume with the settings it was started with, or start anew with another out="
        )
    # Settings come and go between versions of this package; one that a section does not have is no choice of the user's.
    if new := [f"{key}={after[key]}" for key in bound if key not in before]:
        logger.warning("%s: settings that did not exist when the run began: %s", path, ", ".join(new))
    if gone := [f"{key}={before[key]}" for key in bound if key not in after]:
        logger.warning("%s: settings of the run that no longer exist: %s", path, ", ".join(gone))
    started = json.loads((path / "environment.json").read_text("utf-8"))
    if started.get("problems", problems) != problems:
        raise ConfigError(
            f"{path}: cannot resume: the task no longer gives the problems this run began with (a data file changed?). "
            "Restore them, or start anew with another out="
        )
    known: dict[str, str] = next(
        (one["sources"] for one in (*reversed(started.get("resumed", [])), started) if "sources" in one), {}
    )
    now = own_sources(settings)
    if changed := [name for name in known.keys() & now.keys() if known[name] != now[name]]:
        logger.warning(
            "%s: changed since the run began: %s. Steps from here on are made with what stands there now",
            path,
            ", ".join(sorted(changed)),
        )
