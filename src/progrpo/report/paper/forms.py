"""The form of a run's advantage, as the paper's ablations name it."""

from collections.abc import Mapping
from typing import Any

from progrpo.report.html import prose
from progrpo.report.read import Run
from progrpo.report.wording import method


def advantage_form(config: Mapping[str, Any]) -> str | None:
    """The confidence term where the settings say it (arXiv:2602.05281, Eq. 4, Eq. 10, Sec. 4.5), else the method's name; None
    where the settings name no method."""
    chosen = config.get("method") or {}
    if "name" not in chosen:
        return None
    return prose("captions.jinja", "advantage_form", method=chosen) or method(config)


def form_label(run: Run) -> str:
    """The form of a run's advantage, with the run's name."""
    form = advantage_form(run.config)
    return f"{run.name}: {form}" if form and form != run.name else run.name
