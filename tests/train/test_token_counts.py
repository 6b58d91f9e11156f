from progrpo.train.token_counts import TokenCounts
from progrpo.types import WeightedMean


def test_work_adds_up_and_is_divided_by_its_positions() -> None:
    # two passes: 60 + 40 positions, of which 10 + 5 padding, 12 + 0 repeated prompts, 30 + 20 scored
    both = TokenCounts(positions=60, padding=10, repeated_prompt=12, logit_rows=30) + TokenCounts(
        positions=40, padding=5, repeated_prompt=0, logit_rows=20
    )
    assert both == TokenCounts(positions=100, padding=15, repeated_prompt=12, logit_rows=50)
    assert {key: ratio.value for key, ratio in both.metrics().items()} == {
        "tokens/forwarded": 100,
        "tokens/padding_share": 0.15,
        "tokens/repeated_prompt_share": 0.12,
        "tokens/logit_row_share": 0.5,
    }


def test_no_work_has_no_shares() -> None:
    assert TokenCounts() + TokenCounts() == TokenCounts()
    assert TokenCounts().metrics()["tokens/forwarded"] == WeightedMean(0, 1)
    assert TokenCounts().metrics()["tokens/padding_share"].value is None
