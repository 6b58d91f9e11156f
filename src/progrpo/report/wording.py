"""How numbers and settings are put in words, the same on the page and on the terminal."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progrpo.plural import counted
from progrpo.schema.quantity import MINUS

NOTHING = "–"


def significant(value: object) -> str:
    """A logged value with four significant digits; whole numbers whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING if value is None else str(value)
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"
    return text.replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds as a reader would say them."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def method(config: Mapping[str, Any]) -> str:
    """The method of a run, with its preset and alpha where the settings name them."""
    if "method" not in config and set(config) == {"model"}:
        return NOTHING
    chosen = config.get("method") or {}
    named = [f"{label} {chosen[key]}" for key, label in (("preset", "preset"), ("alpha", "α")) if key in chosen]
    name = str(chosen.get("name", "method unknown"))
    return f"{name} ({', '.join(named)})" if named else name


def model(config: Mapping[str, Any]) -> str:
    """The model of a run, as its settings name it."""
    return str((config.get("model") or {}).get("path", NOTHING))


def plain_prompt(prompt: object) -> str:
    """A prompt as one text; of chat messages, each begins with its role."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)  # type: ignore[attr-defined]


def shortened(text: str, head: int = 1500, tail: int = 500) -> str:
    """A text with the middle of a long one left out, and said so.

    Args:
        head, tail: characters that are kept at its ends.
    """
    left_out = len(text) - head - tail
    if left_out <= 0:
        return text
    return f"{text[:head]}\n[… {left_out} characters left out …]\n{text[-tail:]}"


def p_value(value: float) -> str:
    """A p-value with two significant digits; small ones as a bound."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def made_with(environment: Mapping[str, Any]) -> str:
    """Versions, device and commit of a run, as far as it recorded them."""
    versions = {"python": environment.get("python"), **(environment.get("versions") or {})}
    facts = [f"{name} {number}" for name, number in versions.items() if number]
    if device := environment.get("device"):
        threads = environment.get("threads")
        in_each = f" with {counted(threads, 'thread')}" if threads else ""
        processes = environment.get("processes") or 1
        facts.append(f"on {device}{in_each}" + (f" in each of {processes} processes" if processes > 1 else ""))
    if commit := environment.get("git_commit"):
        facts.append(f"at commit {commit[:12]}")
    return ", ".join(facts)


def command(environment: Mapping[str, Any]) -> str | None:
    """The command line that made something, its program by name alone; None where it was not recorded."""
    words = environment.get("command") or []
    return shlex.join([Path(words[0]).name, *words[1:]]) if words else None
