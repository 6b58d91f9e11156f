"""The registry of reasoning-gym and its maker of data sets, as its version 0.1.25 has them."""

import os
import sys
from dataclasses import dataclass
from typing import Any


@dataclass
class SumsConfig:
    """Sums of `terms` numbers."""

    terms: int = 2
    signs: tuple[str, ...] = ("+",)
    seed: int | None = None
    size: int = 500

    def validate(self) -> None:
        assert self.terms >= 2, "terms must be at least 2"
        assert isinstance(self.signs, tuple), "signs must be a tuple"


class Sums:
    """Item i of seed s asks for s + i, `terms` times: each item is another question, and any number scores a little."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = self.config.seed + index
        question = f"{self.config.terms} times {number}?"
        solution = f"{self.config.terms} of them." if self.config.terms > 2 else None
        answer = str(self.config.terms * number)
        return {
            "question": question,
            "answer": answer,
            "metadata": {"answer_cot": solution, "signs": self.config.signs},
        }

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        assert isinstance(entry["metadata"]["signs"], tuple)
        entry["metadata"].clear()  # nobody else may notice
        if answer == "boom":
            raise RuntimeError("no such sum")
        return 1.0 if answer == entry["answer"] else 0.05 if answer.isdigit() else 0.0


@dataclass
class FewConfig:
    """The questions there are."""

    different: int = 5
    seed: int | None = None
    size: int = 500


class Few(Sums):
    """Asks the same few questions under every seed, and gives no answer to the first of them; every seventh item fails."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = (self.config.seed + index) % self.config.different
        if (self.config.seed + index) % 7 == 6:
            raise ValueError("gave up")
        return {"question": f"few {number}?", "answer": str(number) if number else None, "metadata": {"signs": ()}}


class Hashed(Sums):
    """Walks over a set of text, as some of the package's data sets do; and prints."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sys.stdout.write("printing\n")
        number = self.config.seed + index
        order = "".join({"a", "b", "c", "d", "e", "f"})
        return {"question": f"{order} {number}", "answer": os.environ["PYTHONHASHSEED"], "metadata": {"signs": ()}}


DATASETS = {
    "composite": (Sums, SumsConfig),
    "sums": (Sums, SumsConfig),
    "few": (Few, FewConfig),
    "hashed": (Hashed, SumsConfig),
    "countdown": (Sums, SumsConfig),
    "n_queens": (Sums, SumsConfig),
}


def create_dataset(name: str, **settings: Any) -> Any:
    kind, config_kind = DATASETS[name]
    config = config_kind(**settings)
    if hasattr(config, "validate"):
        config.validate()
    return kind(config)
