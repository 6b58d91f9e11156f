"""What the text of the ProGRPO paper (arXiv:2602.05281) fixes of its own tables, each number with how it is known.

The bodies of Tables 2 to 7 are not in any source at hand; these are the numbers of the running text. What it does not fix is
absent here, and a blank cell in a report.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

AVERAGE = "average"
"""Stands for the column of the mean over the six mathematical benchmarks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """One row of one of the paper's tables.

    Attributes:
        evidence: "stated" in the text; "derived" from stated numbers by one subtraction, so good to about one unit of the
            last digit.
        values: by (column, measure), in the unit the paper prints: percent, or rating points.
        how: where the numbers stand, or how they were derived.
    """

    table: int
    model: str
    method: str
    evidence: Literal["stated", "derived"]
    values: Mapping[tuple[str, str], float]
    how: str


_QWEN_7B, _QWEN_32B, _R1_1_5B = "Qwen2.5-7B", "Qwen2.5-32B", "DeepSeek-R1-Distill-Qwen-1.5B"
_R1_7B = "DeepSeek-R1-Distill-Qwen-7B"

ROWS = (
    PaperRow(
        table=2,
        model=_QWEN_7B,
        method="ProGRPO",
        evidence="stated",
        values={(AVERAGE, "pass@1"): 43.3, (AVERAGE, "pass@32"): 68.5},
        how="Sec. 4.3",
    ),
    PaperRow(
        table=2,
        model=_QWEN_7B,
        method="GRPO",
        evidence="derived",
        values={(AVERAGE, "pass@1"): 37.6, (AVERAGE, "pass@32"): 54.7},
        how="43.3 less 5.7, 68.5 less 13.8 (the abstract says 13.9)",
    ),
    PaperRow(
        table=2,
        model=_QWEN_7B,
        method="FlowRL",
        evidence="derived",
        values={(AVERAGE, "pass@1"): 35.3, (AVERAGE, "pass@32"): 61.0},
        how="43.3 less 8.0, 68.5 less 7.5",
    ),
    PaperRow(
        table=2,
        model=_QWEN_32B,
        method="ProGRPO",
        evidence="stated",
        values={(AVERAGE, "pass@1"): 52.7},
        how="Sec. 4.3",
    ),
    PaperRow(
        table=2,
        model=_QWEN_32B,
        method="GRPO",
        evidence="derived",
        values={(AVERAGE, "pass@1"): 47.9},
        how="52.7 less 4.8",
    ),
    PaperRow(
        table=2,
        model=_R1_1_5B,
        method="ProGRPO",
        evidence="stated",
        values={(AVERAGE, "pass@1"): 58.3},
        how="Sec. 4.3",
    ),
    PaperRow(
        table=2,
        model=_R1_1_5B,
        method="not said: the base model, or GRPO",
        evidence="stated",
        values={(AVERAGE, "pass@1"): 49.4},
        how="Sec. 4.3: from 49.4 to 58.3",
    ),
    PaperRow(
        table=3,
        model=_R1_7B,
        method="ProGRPO",
        evidence="stated",
        values={
            ("livecodebench", "pass@1"): 36.47,
            ("livecodebench", "pass@16"): 54.12,
            ("codeforces", "rating"): 1422.49,
            ("codeforces", "percentile"): 75.4,
            ("humaneval_plus", "pass@1"): 84.01,
        },
        how="Sec. 4.3",
    ),
    PaperRow(
        table=3,
        model=_R1_7B,
        method="GRPO",
        evidence="derived",
        values={
            ("livecodebench", "pass@1"): 34.94,
            ("livecodebench", "pass@16"): 53.76,
            ("codeforces", "rating"): 1242.49,
        },
        how="36.47 less 1.53, 54.12 less 0.36; the rating is 1422.49 less 180, and the text says nearly 180",
    ),
    PaperRow(
        table=3,
        model=_R1_7B,
        method="FlowRL (released weights)",
        evidence="derived",
        values={("codeforces", "rating"): 1129.49},
        how="1422.49 less 293, which the text gives without decimals",
    ),
)

REMARKS = {
    2: "Of single benchmarks the paper's text gives two gaps only: ProGRPO is 12.1 points above FlowRL in Pass@1 on AIME 2024, "
    "and 7.7 on OlympiadBench (Qwen2.5-7B).",
    4: "The paper's text gives no number of this table.",
    5: "The paper's text gives no number of this table; it says that Self-BLEU and semantic cosine are substantially lower "
    "than GRPO's, and Distinct-2 slightly lower.",
    6: "The paper's text gives no number of this table; it says that 0.3 is best, that 0 is pure GRPO, and that 0.7 and 1 are "
    "worse than 0.3.",
    7: "The paper's text gives no number of this table.",
}
"""What else the text says, by table."""


def rows_of(table: int) -> list[PaperRow]:
    return [row for row in ROWS if row.table == table]
