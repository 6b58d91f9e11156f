"""GRPO (arXiv:2402.03300): group-relative advantages, PPO clip, token mean within each completion.

The empty method: every hook keeps its default, and the defaults are GRPO (arXiv:2602.05281, Eq. 3).
"""
