"""Statistics per micro-batch: `score` cuts recorded rollouts as training cuts them."""

from dataclasses import replace

import pytest
import torch

from progrpo import methods
from progrpo.model import LanguageModel
from progrpo.settings import Choice
from progrpo.train.micro_batch import micro_batches
from progrpo.train.offline import token_gradients
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.rows import make_rows, pools
from progrpo.types import Group


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("share", [True, False], ids=["packed", "rectangles"])
@pytest.mark.parametrize("budget", [20, 45, 10_000])
def test_pools_are_the_micro_batches_of_a_pass(
    groups: tuple[Group, ...], tiny_model: LanguageModel, budget: int, share: bool, together: bool
) -> None:
    rows, index = make_rows(groups), torch.arange(3, 12)
    cut = micro_batches(
        rows,
        index,
        columns=9,
        budget=budget,
        pad_id=tiny_model.pad_id,
        device=tiny_model.device,
        share=share,
        keep_groups_together=together,
    )
    expected = torch.full((12,), -1)
    for number, micro in enumerate(cut):
        expected[micro.index] = number
    found = pools(rows, index, budget=budget, share=share, keep_groups_together=together)
    assert found.tolist() == expected[3:].tolist()
    assert int(found.max()) == (0 if budget == 10_000 else int(expected.max()))


@pytest.mark.parametrize("name", ["high_entropy", "kl_cov", "clip_cov"])
def test_released_pools_show_in_a_score_and_pools_of_a_step_do_not(groups: tuple[Group, ...], name: str) -> None:
    batch = make_rollout_batch(groups, frozenset({"entropies"}))
    batch = replace(batch, rewards=batch.rewards + torch.arange(12).view(4, 3) / 50)
    settings = {"kl_cov": {"ratio": 0.3}, "clip_cov": {"ratio": 0.3, "cov_low": -9.0, "cov_high": 9.0}}.get(name, {})

    def scored(micro_tokens: int, **more: object) -> torch.Tensor:
        method = methods.load(Choice(name=name, **settings, **more))
        return token_gradients(
            method,
            batch,
            method.advantages(batch),
            make_rows(groups),
            step_groups=4,
            longest=9,
            micro_tokens=micro_tokens,
            share=True,
        )

    assert torch.equal(scored(20), scored(10_000))
    if name != "kl_cov":  # whose penalty has no gradient where nothing has moved, whichever tokens are marked
        assert not torch.equal(scored(20, pool="micro"), scored(10_000, pool="micro"))
    assert torch.equal(scored(10_000, pool="micro"), scored(10_000))


def test_the_default_of_a_file_without_settings_is_that_of_training() -> None:
    from progrpo.rollout import recorded
    from progrpo.train.settings import BatchSettings

    assert BatchSettings().micro_tokens == recorded._MICRO_TOKENS
