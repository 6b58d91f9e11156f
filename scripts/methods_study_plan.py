"""What scripts/methods_study.py compares: each method with three values of one number, and the two games.

The number is the method's main strength, its published value among the three where there is one. A method without a number of
its own has the learning rate, times 0.5, 1 and 2, so that all have the same tuning budget. Constants that were never published,
and are not the number, are set in the method's line.
"""

from study_runs import Family, Plan, Setup

PLAIN = "plain"
PROBABILITY = "by probability"
COUNTS = "by counts and solutions"
ENTROPY = "by entropy"
TOKENS = "some tokens"
RATIO = "ratio and clip"
LABELS = "labels and flows"
SAMPLING = "sampling and replay"
NO_VERDICTS = "without verdicts"
COLOURS = {
    PLAIN: "k",
    PROBABILITY: "C3",
    COUNTS: "C0",
    ENTROPY: "C2",
    TOKENS: "C1",
    RATIO: "C4",
    LABELS: "C5",
    SAMPLING: "C9",
    NO_VERDICTS: "0.6",
}
BASE = "grpo"
"""What differences are taken to, at the learning rate that was chosen for it."""

RATE = "times lr"
"""The number of methods without one of their own."""
SAME_RATE = 1.0
"""What the others have of it."""

_LR = ("optim.lr={lr}",)
# Without an importance ratio only the first optimiser step of a rollout follows the gradient: these make one.
_ONE_STEP = ("batch.minibatch_prompts=null",)


def _own(name: str, kind: str, strengths: tuple[float, ...], unit: str, more: str = "", label: str = "") -> Family:
    """A method with a number of its own."""
    return Family(f"{{name: {name}, {unit}: {{strength}}{more}}}", strengths, (), label or name, unit, kind=kind)


def _both_sides(name: str, strengths: tuple[float, ...], unit: str) -> Family:
    """A method whose number is the bound on both sides."""
    return Family(
        f"{{name: {name}, clip_low: {{strength}}, clip_high: {{strength}}}}", strengths, (), name, unit, kind=RATIO
    )


def _plain(method: str, kind: str, label: str) -> Family:
    """A method without one."""
    return Family(f"{{name: {method}}}", (0.5, 1.0, 2.0), (), label, RATE, more=_LR, kind=kind)


def _one_step(family: Family) -> Family:
    return family._replace(more=(*family.more, *_ONE_STEP), steps_share=0.25)


FAMILIES = {
    "grpo": _plain("grpo", PLAIN, "grpo"),
    "dapo": _plain("dapo", PLAIN, "dapo, its loss"),  # dynamic sampling would take more rollouts
    "dr_grpo": _plain("dr_grpo", PLAIN, "dr_grpo"),
    "reinforce": _one_step(
        _plain("reinforce, baseline: mean", PLAIN, "reinforce")
    ),  # without one nothing is pushed down
    "ppo": _own("ppo", PLAIN, (3.0, 10.0, 30.0), "net_lr_factor"),
    "kl_penalty": _own("dapo", PLAIN, (0.01, 0.04, 0.1), "kl_coef", label="KL penalty"),
    "prl": _own("prl", PLAIN, (30.0, 100.0, 300.0), "eta", ", step_tokens: 8"),
    "progrpo": _own("progrpo", PROBABILITY, (0.1, 0.3, 1.0), "alpha"),
    "equilibrium": _own("progrpo", PROBABILITY, (0.5, 1.0, 2.0), "alpha", ", preset: equilibrium", "equilibrium"),
    "balanced": _own("progrpo", PROBABILITY, (0.3, 0.6, 1.0), "alpha", ", preset: balanced", "balanced"),
    "ucpo": _own("ucpo", PROBABILITY, (0.2, 0.5, 1.0), "tau"),
    "unlikeliness": _own("unlikeliness", PROBABILITY, (0.25, 0.5, 1.0), "beta"),
    "ucas": _own("ucas", PROBABILITY, (0.1, 0.25, 0.5), "beta_positive"),
    "perplexity": _own("perplexity", PROBABILITY, (0.05, 0.1, 0.2), "alpha"),
    "maxrl": _plain("maxrl", COUNTS, "maxrl"),
    "passk": _own("passk", COUNTS, (2, 4, 8), "k"),
    "f_grpo": _own("f_grpo", COUNTS, (0.5, 1.0, 2.0), "gamma"),
    "uniqueness": _own("uniqueness", COUNTS, (0.3, 0.6, 1.0), "alpha"),
    "copo": _own("copo", COUNTS, (0.25, 0.5, 1.0), "middle"),
    "risk_po": _own("risk_po", COUNTS, (0.5, 1.5, 3.0), "omega", ", bundle: 4"),
    "nsr": _plain("nsr", COUNTS, "nsr"),
    "psr": _plain("psr", COUNTS, "psr"),
    "w_reinforce": _own("w_reinforce", COUNTS, (0.05, 0.1, 0.3), "lam"),
    "entropy_bonus": _own("dapo", ENTROPY, (0.003, 0.01, 0.03), "entropy_coef", label="entropy bonus"),
    "entropy_advantage": _own("entropy_advantage", ENTROPY, (0.2, 0.4, 0.8), "alpha"),
    "siren": _own("siren", ENTROPY, (0.0015, 0.005, 0.015), "beta"),
    "epo": _own("epo", ENTROPY, (0.001, 0.003, 0.01), "bonus"),
    "aepo": _own("aepo", ENTROPY, (0.15, 0.2, 0.3), "high", ", low: 0.1"),
    "high_entropy": _own("high_entropy", TOKENS, (0.1, 0.2, 0.5), "fraction"),
    "kl_cov": _own("kl_cov", TOKENS, (0.3, 1.0, 3.0), "coef"),
    "clip_cov": _own("clip_cov", TOKENS, (0.0002, 0.002, 0.02), "ratio"),
    "clip_b": _own("clip_b", TOKENS, (1.5, 2.5, 3.5), "mu"),
    "clip_v": _own("clip_v", TOKENS, (0.0001, 0.001, 0.01), "max_fraction"),
    "steer": _own("steer", TOKENS, (0.6, 0.8, 0.9), "weight_min"),
    "lp_reg": _own("lp_reg", TOKENS, (0.005, 0.01, 0.05), "share"),
    "simko": _own("simko", TOKENS, (0.003, 0.01, 0.03), "alpha"),
    "hapo": _own("hapo", TOKENS, (0.7, 0.8, 0.9), "quantile"),
    "gspo": _both_sides("gspo", (0.0004, 0.002, 0.01), "clip"),
    "cispo": _own("cispo", RATIO, (1.0, 2.0, 4.0), "clip_high"),
    "dcpo": _own("dcpo", RATIO, (0.2, 0.28, 0.4), "clip_high"),
    "dppo": _both_sides("dppo", (0.05, 0.15, 0.3), "divergence"),
    "flowrl": _own("flowrl", LABELS, (5.0, 15.0, 30.0), "beta"),
    "pacs": _own("pacs", LABELS, (0.5, 1.0, 2.0), "beta"),
    "real": _own("real", LABELS, (0.25, 0.5, 1.0), "tau"),
    "cure": _own("cure", SAMPLING, (5, 10, 20), "places", ", least_characters: 1"),
    "spear": _own("spear", SAMPLING, (0.3, 1.0, 3.0), "replay_coef"),
    "r3": _own("r3", SAMPLING, (1, 2, 4), "samples"),
    "deepsearch": _own("deepsearch", SAMPLING, (1.0, 2.0, 4.0), "exploration"),
    "dler": _own("dler", SAMPLING, (0.05, 0.1, 0.3), "penalty"),
    "rlsc": _one_step(_own("rlsc", NO_VERDICTS, (0.0, 0.1, 0.3), "a")),
    "rent": _own("rent", NO_VERDICTS, (0.001, 0.01, 0.1), "kl_coef"),
    "spine": _own("spine", NO_VERDICTS, (0.01, 0.1, 1.0), "band_coef", ", anchor_coef: 0.01"),
    "ttrv": _plain("ttrv", NO_VERDICTS, "ttrv"),
}
LEFT_OUT = {
    "pear": "completions of these games have no thinking apart from their answer",
    "empg": "completions of these games are one line, that is one step",
    "likelihood": "the reference answer of countdown is the target itself, and grid_path has none",
}
"""Methods that are not in the study, and why."""

_BOTH = ("task.test_size=200", "task.train_size=400", "record.rollouts_every=0", "checkpoint.keep=1")
SETUPS = {
    "countdown": Setup("demo/grpo.yaml", (*_BOTH, "batch.minibatch_prompts=4", "optim.lr=1.5e-4"), 200, 1.5e-4),
    "grid_path": Setup("study/grid_path.yaml", (*_BOTH, "batch.minibatch_prompts=4", "optim.lr=5e-5"), 200, 5e-5),
}
"""50 rollouts of 16 problems x 16 completions, and 4 optimiser steps of 4 problems on each, so that what acts only off-policy
has something to act on; of 400 problems, so that each comes twice, for methods that remember."""

PLAN = Plan(FAMILIES, SETUPS, measured_at_start=frozenset({BASE}))
