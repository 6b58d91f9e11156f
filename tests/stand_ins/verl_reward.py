"""A reward function as verl's users write it: reward.custom_reward_function.path=this file."""

from typing import Any

from progrpo import rewards
from progrpo.settings import Choice
from progrpo.types import Problem

REWARD = rewards.load(Choice(name="expression"))


def solved(data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any], **_: Any) -> float:
    """1 for a solution of a countdown problem and 0 for none."""
    info = {"numbers": list(extra_info["numbers"]), "min_used": extra_info["min_used"], "grammar": "steps"}
    problem = Problem(id=extra_info["id"], prompt=extra_info["prompt"], answer=ground_truth, info=info)
    return REWARD.score(solution_str, problem).reward
