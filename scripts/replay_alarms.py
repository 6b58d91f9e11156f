"""Play the metrics of finished runs through the alarms, and print which would have been raised when.

    python scripts/replay_alarms.py runs/* [alarms.entropy_collapse.level=0.1 ...]

Runs of versions without alarms are read, too; nothing is written. A metric that a run did not log raises nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from progrpo import schema
from progrpo.files import read_jsonl
from progrpo.settings import apply_overrides, parse, read_yaml
from progrpo.train.alarms.settings import AlarmSettings
from progrpo.train.alarms.watching import AlarmEvent, Alarms


def replay(run: Path, settings: AlarmSettings) -> list[AlarmEvent]:
    """What alarms begin and end in a run; those that its method declares itself are left out."""
    batch: dict[str, Any] = read_yaml(run / "config.yaml").get("batch") or {}
    prompts = batch.get("prompts") or 1
    alarms = Alarms(settings, {}, per_rollout=prompts // (batch.get("minibatch_prompts") or prompts))
    rows = map(schema.in_todays_words, read_jsonl(run / "metrics.jsonl"))
    return [event for row in rows for event in alarms.hear(row)]


def main(words: Sequence[str]) -> None:
    """Raises ConfigError: an override is not one of `alarms`."""
    overrides = [word for word in words if "=" in word]
    section = apply_overrides({}, overrides).get("alarms", {})
    settings = parse(AlarmSettings, section, where="alarms")
    for word in words:
        if "=" not in word and (Path(word) / "metrics.jsonl").is_file():
            told = [f"{one.alarm} {one.event} at {one.step}" for one in replay(Path(word), settings)]
            print(f"{Path(word).name}: {'; '.join(told) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
