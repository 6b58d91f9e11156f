"""What a run says of itself where the output is no terminal."""

import re
from io import StringIO

import pytest
from rich.console import Console

from progrpo.api.progress import TrainingProgress


def test_the_last_step_has_its_line_however_soon_it_comes() -> None:
    out = StringIO()
    with TrainingProgress(Console(file=out, width=200)) as progress:
        progress("start", {"out": "run", "done": 0, "steps": 3})
        for step in (1, 2, 3):  # within a second, of which only the first would be told
            progress("step", {"step": step, "rollout/reward": step / 4})
    lines = [line for line in out.getvalue().splitlines() if line.startswith("step")]
    assert lines == ["step     1  reward 0.250  ", "step     3  reward 0.750  "]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_shows_the_count_and_the_time_that_is_left(width: int) -> None:
    out = StringIO()
    with TrainingProgress(Console(file=out, width=width, force_terminal=True, color_system=None)) as progress:
        progress("start", {"out": "run", "done": 0, "steps": 600})
        progress("evaluation", {"step": 0, "pass@1": 0.361})
        times = {"time/generate_s": 1.35, "time/verify_s": 0.04, "time/train_s": 1.93}
        progress("step", {"step": 3, "rollout/reward": 0.398, "rollout/entropy": 0.203, **times})
    last = [line for line in re.split(r"[\r\n]", out.getvalue()) if "/600" in line][-1]
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).rstrip()
    assert re.search(r" 3/600 +[-:\d]+ left +reward 0.398", shown), shown
    assert len(shown) <= width
