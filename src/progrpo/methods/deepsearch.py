"""DeepSearch: each problem's completions are leaves of a tree that is searched, and each node has an advantage of its own.

    a node is a step of (longest completion)/`depth` tokens; the current one is given `width` children, the first is the prompt
    among children that ended (or are as deep as it goes) one is a leaf of the batch: a correct one if there is any, and of
    these the surest, by −mean log π; it gets v = 1 if it is correct, −1 if not, and each node on its way
        v ← v + w v_leaf,  w = max((d + 1)/(d_leaf + 1), 0.1);  but v = w where v was negative and the leaf is correct, and v
        stays where it was positive and the leaf is incorrect
    if no child ended, the next is the child of the greatest  v/n + 2 √(ln n_parent / n),  n how often it was met; else that of
    all nodes without children of the greatest  0.4 tanh(v_parent/n_parent) + 0.01 √(d/depth);  until there are G leaves
    s_t = tanh v of the node that token t belongs to, v itself of the leaf
    A_t = s_t − mean of v over the problem's leaves; with `scale: std` over their population std + eps, too

So the steps of a group whose leaves are all right or all wrong have advantages, too (with `scale: std` none: the code would
divide by eps alone, but keeps ±1 of a single leaf). Where no node is left to go on from, at which the code stops with an error,
the prompt is given `width` more children. Beginnings that leaves share are trained on in each. Not here: the paper's cache of
solved problems between rounds, its filter of problems, and the penalty of the script on what is overlong. The verifier judges
every node, so that it should be a fast one.

Source: arXiv:2509.25454; smiles724/DeepSearch@daf9067 deepsearch/utils/mcts.py, deepsearch/rollout/sglang_mcts_wrapper.py,
deepsearch/reward_manager/advantage_fn.py and round0.sh.
Evidence: code.
Reproduce: `preset: released` (dual clip), a group of 8, sampling.max_new_tokens=16384.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.types import Completion, Group, RolloutBatch, Verdict, WeightedMean

TOKEN_LEVEL = True
PRESETS = {"released": {"dual_clip": 10.0}}
_NODES = "deepsearch/nodes"


class Params(methods.Params):
    scale: Literal["std", "none"] = "none"
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "token"
    depth: int = Field(64, ge=1)
    """Steps of the longest completion; a step is one token at least."""
    width: int = Field(8, ge=1)
    """Children of a node."""
    exploration: float = Field(2.0, ge=0)
    """Weight of how seldom a child was met."""
    quality: float = Field(0.4, ge=0)
    """Weight of the parent's value, among all nodes without children."""
    depth_bonus: float = Field(0.01, ge=0)
    """Weight of their depth."""
    least_share: float = Field(0.1, ge=0, le=1)
    """The least share of a leaf's value that a node on its way gets."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Node:
    """A step of a completion; the root is the prompt.

    Attributes:
        outcome: 1 of a correct one, -1 of a wrong one, 0 without a verdict.
        completion: all tokens from the prompt on; None of the root.
        start: of its own tokens among them.
    """

    parent: "_Node | None" = None
    depth: int = 0
    completion: Completion | None = None
    verdict: Verdict | None = None
    outcome: float = 0.0
    start: int = 0
    ended: bool = False
    children: list["_Node"] = field(default_factory=list)
    value: float = 0.0
    met: int = 0

    @property
    def mean(self) -> float:
        return self.value / self.met if self.met else 0.0

    @property
    def way(self) -> list["_Node"]:
        """From below the root to here."""
        return [] if self.parent is None else [*self.parent.way, self]


class _Tree:
    """The search of one problem."""

    def __init__(self, taken: methods.Taken, generate: methods.Generate, params: Params) -> None:
        self.taken = taken
        self.root = _Node()
        self.current = self.root
        self.leaves: list[_Node] = []
        self.nodes = 0
        self._generate, self._params = generate, params
        self._group, self._longest = generate.group, generate.longest

    @property
    def done(self) -> bool:
        return len(self.leaves) >= self._group

    def draw(self) -> methods.Draw:
        """The children that the current node is to get."""
        completion = self.current.completion
        return methods.Draw(
            taken=self.taken,
            first=self.nodes,
            count=self._params.width,
            prefix=None if completion is None else completion.token_ids,
            limit=max(1, self._longest // self._params.depth),
        )

    def grow(self, group: Group) -> None:
        """Take in the children, back up what ended, and go on to the next node."""
        parent, start = self.current, 0 if self.current.completion is None else len(self.current.completion.token_ids)
        children = []
        for drawn, verdict in zip(group.completions, group.verdicts, strict=True):
            depth = parent.depth + 1
            full = depth >= self._params.depth or len(drawn.token_ids) >= self._longest
            completion = _whole(parent.completion, drawn)
            ended = drawn.finish == "stop" or full
            outcome = (1.0 if verdict.correct else -1.0) if self._generate.judged(verdict) else 0.0
            children.append(
                _Node(
                    parent=parent,
                    depth=depth,
                    completion=completion,
                    verdict=verdict,
                    outcome=outcome,
                    start=start,
                    ended=ended,
                )
            )
        parent.children += children
        self.nodes += len(children)
        for child in children:
            child.met += not child.ended
        over = [child for child in children if child.ended]
        if over:
            leaf = min(over, key=_rank)
            self.leaves.append(leaf)
            _back_up(leaf, self._params.least_share)
        if not self.done:
            self.current = self._frontier() if over else self._child(parent)

    def _child(self, parent: _Node) -> _Node:
        def score(child: _Node) -> float:
            seldom = math.sqrt(math.log(parent.met) / child.met) if parent.met and child.met else 0.0
            return child.mean + self._params.exploration * seldom

        return max(parent.children, key=score)

    def _frontier(self) -> _Node:
        """The most promising node of all that have no children yet; the root where there is none."""

        def score(node: _Node) -> float:
            above = 0.0 if node.parent is None else node.parent.mean
            bonus = math.sqrt(node.depth / self._params.depth)
            return self._params.quality * math.tanh(above) + self._params.depth_bonus * bonus

        return max(_open(self.root), key=score, default=self.root)


def samples(params: Params) -> str | None:
    return "the completions of a problem are the leaves of a tree that it searches; method.name=dapo samples as always"


def sample(problems: methods.Problems, generate: methods.Generate, params: Params) -> methods.SampledGroups:
    trees = [_Tree(taken, generate, params) for taken in problems.take()]
    firsts: dict[int, Group] = {}
    while growing := [place for place, tree in enumerate(trees) if not tree.done]:
        drawn = generate([trees[place].draw() for place in growing])
        for place, group in zip(growing, drawn, strict=True):
            firsts.setdefault(place, group)
            trees[place].grow(group)
    nodes = [[[node.start, node.value] for node in leaf.way] for tree in trees for leaf in tree.leaves]
    return methods.SampledGroups(
        groups=tuple(_group(firsts[place], tree.leaves) for place, tree in enumerate(trees)),
        stats={_NODES: WeightedMean(sum(tree.nodes for tree in trees), len(trees))},
        state={_NODES: nodes},
    )


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    judged, leaves = batch.judged, torch.where(batch.correct, 1.0, -1.0).double()
    count = judged.sum(dim=1, keepdim=True).clamp(min=1)
    mean = leaves.masked_fill(~judged, 0.0).sum(dim=1, keepdim=True) / count
    spread = ((leaves - mean).square().masked_fill(~judged, 0.0).sum(dim=1, keepdim=True) / count).sqrt()
    plain = params.scale == "none"
    scale = torch.ones_like(spread) if plain else 1 / (spread + params.eps)
    dropped = ~judged if plain else ~judged | (spread < 1e-9)  # [P, G]
    values = ((leaves - mean) * scale).masked_fill(dropped, 0.0)
    scores = _scores(batch, leaves)
    tokens = (scores.view(*batch.rewards.shape, -1) - mean[..., None]) * scale[..., None]  # [P, G, S]
    tokens = tokens.masked_fill(dropped[..., None], 0.0).view(batch.mask.shape).masked_fill(~batch.mask, 0.0)
    return methods.Advantages(values=values.float(), tokens=tokens.float())


def _scores(batch: RolloutBatch, leaves: Float[Tensor, "P G"]) -> Float[Tensor, "N S"]:
    """s of each token; where no tree is known, a completion is one node."""
    scores = leaves.flatten()[:, None].repeat(1, batch.mask.shape[1])
    known: Sequence[Sequence[Sequence[float]]] = batch.state.get(_NODES, [])
    for row, way in enumerate(known):
        for (start, value), (end, _) in pairwise(way):
            scores[row, int(start) : int(end)] = math.tanh(value)
    return scores


def _whole(before: Completion | None, drawn: Completion) -> Completion:
    """What was drawn, with the numbers of the tokens before it; all of it is trained on."""
    if before is None:
        return drawn
    given = len(before.token_ids)
    values: dict[str, Any] = {
        name: torch.cat([getattr(before, name), value[given:]])
        for name in ("sampler_logprobs", "entropies", "entropy_gradients")
        if (value := getattr(drawn, name)) is not None
    }
    return replace(drawn, trained=None, **values)


def _rank(node: _Node) -> tuple[int, float]:
    """Correct ones first, then incorrect, then those without a verdict; of these the surest."""
    assert node.completion is not None
    logprobs = node.completion.sampler_logprobs
    unsure = -float(logprobs.double().mean()) if len(logprobs) else 0.0
    return {1.0: 0, -1.0: 1}.get(node.outcome, 2), unsure


def _back_up(leaf: _Node, least_share: float) -> None:
    outcome = leaf.outcome
    node: _Node | None = leaf
    while node is not None:
        node.met += 1
        share = max((node.depth + 1) / (leaf.depth + 1), least_share) * outcome
        if node.value * outcome >= 0:
            node.value += share
        elif outcome > 0:
            node.value = share
        node = node.parent


def _open(node: _Node) -> list[_Node]:
    """Nodes below this one that have no children and did not end, parents before children."""
    found = []
    for child in node.children:
        found += [child] if not child.children and not child.ended else []
        found += _open(child)
    return found


def _group(first: Group, leaves: Sequence[_Node]) -> Group:
    return replace(
        first,
        completions=tuple(leaf.completion for leaf in leaves if leaf.completion is not None),
        verdicts=tuple(leaf.verdict for leaf in leaves if leaf.verdict is not None),
    )
