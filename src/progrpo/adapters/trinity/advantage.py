"""Trinity's advantage function: `advantage_fn: progrpo.adapters.trinity.advantage.ProGRPOAdvantage`."""

from typing import Any

from progrpo.adapters._versions import check_host
from progrpo.adapters.trinity.rollout import experience_advantages, method_of
from progrpo.errors import HostError

try:
    from trinity import __version__ as _version
    from trinity.algorithm.advantage_fn import GroupAdvantage
    from trinity.common import experience as host
except ImportError as error:
    raise HostError(f"Trinity-RFT cannot be imported ({error}): pip install trinity-rft==0.6.0") from error

TESTED = ("0.6.0",)
"""The versions that the contract tests were run with (docs/adapters.md)."""

check_host(
    "Trinity-RFT",
    _version,
    TESTED,
    {
        "GroupAdvantage.process": (GroupAdvantage, "process", ("self", "exps")),
        "GroupAdvantage.group_experiences": (GroupAdvantage, "group_experiences", ("self", "exps")),
        "group_by": (host, "group_by", ("experiences", "id_type")),
    },
    remedy=f"pip install trinity-rft=={TESTED[-1]}",
)


class ProGRPOAdvantage(GroupAdvantage):
    """A method's advantages. Arguments: the method's settings, as under `method` in a recipe, and `correct_above`.

    Raises:
        ConfigError: Trinity cannot honour the method.
    """

    def __init__(self, **spec: Any) -> None:
        self._method, self._above = method_of(spec)

    def group_experiences(self, exps: Any) -> Any:
        return host.group_by(exps, id_type="task")

    def calculate_group_advantage(self, group_id: str, exps: Any) -> Any:
        """Of one group alone; `process` asks for all groups at once, which some methods need."""
        return self.process(exps)

    def process(self, exps: Any) -> Any:
        """The experiences with advantages and returns, and the method's metrics."""
        if not exps:
            return [], {}
        result = experience_advantages(self._method, exps, above=self._above)
        for row, experience in zip(result.values, exps, strict=True):
            mask = experience.action_mask
            count = len(experience.tokens) - experience.prompt_length if mask is None else len(mask)
            experience.advantages = row[:count].clone()
            experience.returns = experience.advantages.clone()
        return exps, {name: mean.value for name, mean in result.whole.stats.items() if mean.value is not None}

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        return {"name": "progrpo", "baseline": "group_mean"}
