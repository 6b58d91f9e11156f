"""GRPO (arXiv:2402.03300): group-relative advantages, PPO clip, token mean within each completion.

The empty method: every hook keeps its default, and the defaults are GRPO (arXiv:2602.05281, Eq. 3).

Source: arXiv:2402.03300; arXiv:2602.05281, Eq. 3.
Evidence: paper; second-hand for the constants of its run.
Reproduce: the defaults are Eq. 3; its run has kl_coef=0.04, a group of 64 and optim.lr=1e-6.
"""
