"""Dr. GRPO (arXiv:2503.20783): GRPO without its two biases, the standard deviation and the completion's own length.

    A = r - mean(r);    J = 1/N * sum_n sum_t J[n,t] / fixed_length

The paper divides by the generation limit (3000 tokens there); None takes the run's own limit.

Source: arXiv:2503.20783; sail-sg/understand-r1-zero@dfca49d, sail-sg/oat@c1a074c algorithms/ppo.py.
Evidence: code.
Reproduce: fixed_length=3000.
"""

from typing import Literal

from progrpo import methods
from progrpo.algo.aggregate import How


class Params(methods.Params):
    scale: Literal["std", "none"] = "none"
    aggregate: How = "fixed"
