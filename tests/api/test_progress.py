"""What a run says of itself where the output is no terminal."""

from io import StringIO

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
