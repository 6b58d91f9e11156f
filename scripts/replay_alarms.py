"""Play the metrics of finished runs through the alarms, and print which would have been raised when.

    python scripts/replay_alarms.py runs/* [alarms.entropy_collapse.level=0.1 ...]

Runs of versions without alarms are read, too; nothing is written. A metric that a run did not log raises nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from progrpo import schema
from progrpo.errors import ConfigError
from progrpo.files import read_jsonl
from progrpo.rollout.recorded import steps_per_rollout
from progrpo.settings import apply_overrides, parse, read_yaml
from progrpo.train.alarms.settings import AlarmSettings
from progrpo.train.alarms.watching import AlarmEvent, Alarms


def replay(run: Path, settings: AlarmSettings) -> list[AlarmEvent]:
    """What alarms begin and end in a run; those that its method declares itself are left out."""
    alarms = Alarms(settings, {}, per_rollout=steps_per_rollout(read_yaml(run / "config.yaml")))
    rows = map(schema.in_todays_words, read_jsonl(run / "metrics.jsonl"))
    return [event for row in rows for event in alarms.hear(row)]


def main(words: Sequence[str]) -> None:
    """Raises ConfigError: an override is not one of `alarms`."""
    sections = apply_overrides({}, [word for word in words if "=" in word])
    settings = parse(AlarmSettings, sections.pop("alarms", {}), where="alarms")
    if sections:
        raise ConfigError(
            f"{', '.join(sections)}: expected overrides of alarms alone, such as alarms.truncation.share=0.5"
        )
    for word in words:
        if "=" not in word and (Path(word) / "metrics.jsonl").is_file():
            told = [f"{one.alarm} {one.event} at {one.step}" for one in replay(Path(word), settings)]
            print(f"{Path(word).name}: {'; '.join(told) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
