"""CURE: part of each group is sampled anew from a place where another completion of it was most uncertain.

    G/(1 + n₂) completions of a problem are sampled as always; of each, one place t is drawn at random from the 20 places of
    highest entropy whose token is not special and spells two characters or more, t > 0; then n₂ further completions go on
    from its first t tokens. All G are one group, with its advantages.

The prefix acts as prompt: it is not trained on, and counts in no mean over tokens. A completion without such a place is
sampled anew from its beginning. Otherwise it is DAPO with the mean over all tokens, without its overlong penalty, which the
script has too. The paper's second stage is DAPO from that checkpoint.

Here a completion is verified from its first token to its last, prefix included, and `sampling.max_new_tokens` limits both
together. The released code verifies the continuation alone, limits it alone, and cuts prompt and prefix at the longest prompt.

Source: arXiv:2508.11016; bytedance/CURE@c904b38 recipe/CURE_First_Stage/dapo_ray_trainer.py and run_cure_stage_1.sh.
Evidence: code.
Reproduce: `preset: released`, a group of 16 (4 sampled as always, 3 from a place in each), sampling.max_new_tokens=2596.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.errors import ConfigError
from progrpo.methods._sampling import in_rounds, kept_of_rounds, mixed
from progrpo.plural import near_multiples
from progrpo.types import Completion, Group, RolloutBatch

NEEDS = frozenset({"sampled_entropies"})
PRESETS = {"released": {"dual_clip": 10.0, "max_rounds": 10}}


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "token"
    max_rounds: int = Field(1, ge=1)
    """Rollouts that may be made for one batch of mixed groups, as in dapo."""
    continuations: int = Field(3, ge=1)
    """n₂, completions from a place in each that was sampled as always; the group is a multiple of 1 + n₂."""
    places: int = Field(20, ge=1)
    """So many places of highest entropy, of which one is drawn."""
    least_characters: int = Field(2, ge=1)
    """A place whose token spells fewer, spaces around it apart, is none; 1 for models whose tokens are single characters."""


def check(params: Params, group: int) -> list[str]:
    """Raises ConfigError if the group cannot be parted."""
    if group % (1 + params.continuations):
        raise ConfigError(
            f"method cure: batch.group={group} is no multiple of 1 + method.continuations={params.continuations}; use "
            f"{near_multiples(group, 1 + params.continuations)}: each "
            f"completion that is sampled as always has {params.continuations} that go on from within it"
        )
    return []


def samples(params: Params) -> str | None:
    return "part of each group goes on from within its other completions; method.name=dapo samples as always"


def rounds(params: Params) -> int:
    return params.max_rounds


def sample(problems: methods.Problems, generate: methods.Generate, params: Params) -> methods.SampledGroups:
    def draw(taken: Sequence[methods.Taken], generate: methods.Generate) -> tuple[Group, ...]:
        return _grown(taken, generate, params)

    made = in_rounds(problems, generate, rounds=params.max_rounds, wanted=mixed(generate), draw=draw)
    return made if params.max_rounds > 1 else methods.SampledGroups(groups=made.groups)


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    return kept_of_rounds(batch, params.max_rounds)


def _grown(taken: Sequence[methods.Taken], generate: methods.Generate, params: Params) -> tuple[Group, ...]:
    """The groups of these problems: roots first, then what goes on from the first of them, from the second, ..."""
    number = generate.group // (1 + params.continuations)
    roots = generate([methods.Draw(taken=one, first=0, count=number) for one in taken])
    draws = []
    for one, group in zip(taken, roots, strict=True):
        for place, root in enumerate(group.completions):
            cut = _place(root, generate, one, place, params)
            first = number + place * params.continuations
            prefix = root.token_ids[:cut] if cut else None
            draws.append(methods.Draw(taken=one, first=first, count=params.continuations, prefix=prefix))
    grown = generate(draws)
    parts = [[group, *grown[p * number : (p + 1) * number]] for p, group in enumerate(roots)]
    return tuple(
        Group(
            problem=group.problem,
            prompt_ids=group.prompt_ids,
            prompt_logprobs=group.prompt_logprobs,
            completions=tuple(one for part in parts[p] for one in part.completions),
            verdicts=tuple(one for part in parts[p] for one in part.verdicts),
        )
        for p, group in enumerate(roots)
    )


def _place(root: Completion, generate: methods.Generate, taken: methods.Taken, number: int, params: Params) -> int:
    """Where the continuations of a completion begin; 0 for its beginning."""
    assert root.entropies is not None
    found: list[int] = []
    for place in torch.sort(root.entropies, descending=True, stable=True).indices.tolist():
        if len(found) == params.places:
            break
        text = generate.spelled(int(root.token_ids[place])) if place else None
        if text is not None and len(text.strip()) >= params.least_characters:
            found.append(place)
    return generate.random(taken, "place", number).choice(found) if found else 0
