"""TRL with our methods: GRPOTrainer to the last bit where nothing is changed, and our own numbers where something is."""

import dataclasses
import logging
from collections import deque
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from stand_ins.needs import need

if find_spec("trl") is None:
    need("trl")

from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer, TrlParser

from progrpo import methods, plugins
from progrpo.adapters._rows import correct_of
from progrpo.adapters.trl import ProGRPOTrainer, host, rollout
from progrpo.adapters.trl.config import ProGRPOConfig
from progrpo.algo.advantages import group_advantages
from progrpo.algo.aggregate import sequence_weights, weighted_sum
from progrpo.algo.confidence import sequence_confidence
from progrpo.algo.reweight import reweight_advantages
from progrpo.algo.surrogate import clipped_surrogate
from progrpo.errors import ConfigError, HostError
from progrpo.model.files import resolve_path
from progrpo.settings import Choice
from stand_ins import host_rollouts
from stand_ins.every_method import REQUIRED
from stand_ins.several_processes import enter, start
from stand_ins.trl_runs import GROUP, PROMPTS, our_loss, recorded, reward, tiny_model, tokenizer, train


def config(**settings: Any) -> ProGRPOConfig:
    return ProGRPOConfig(
        output_dir="nowhere",
        use_cpu=True,
        bf16=False,
        num_generations=GROUP,
        per_device_train_batch_size=GROUP,
        **settings,
    )


def with_vllm(trainer: Any) -> None:
    """As with vLLM: the sampler's log-probs come with the completions, off those of the trainer, one of them unknown."""
    plain = trainer._generate_single_turn

    def generate(*arguments: Any) -> Any:
        completions, _ = plain(*arguments)
        trainer.use_vllm = True
        return completions, [[-1.0 - 0.3 * (token % 5) if token != 9 else None for token in ids] for ids in completions]

    trainer._generate_single_turn = generate
    trainer.use_vllm = True
    trainer.vllm_importance_sampling_correction = True
    patched = trainer._generate

    def without(prompts: Any) -> Any:
        trainer.use_vllm = False
        found = patched(prompts)
        trainer.use_vllm = True
        return found

    trainer._generate = without


def tools(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """Completions of two turns: three tokens of the model, two of the environment, and the end, which is the model's."""
    words = trainer.processing_class
    ids = [words(prompt).input_ids for prompt in prompts]
    completions = [[5 + n % 7, 6 + n % 5, 7, 8, 9 + n % 3, words.eos_token_id] for n in range(len(prompts))]
    return {
        "prompt_ids": ids,
        "completion_ids": completions,
        "logprobs": [[-1.0] * 6 for _ in completions],
        "env_mask": [[1, 1, 1, 0, 0, 1] for _ in completions],
    }


# --- alpha = 0 is GRPOTrainer ---

OFF_POLICY = {"num_iterations": 2, "max_steps": 4}
HOSTS: dict[str, dict[str, Any]] = {
    "as it comes": {"max_steps": 2},
    "dropout": {"max_steps": 2, "dropout": 0.3},  # an added pass uses up no random number
    "several iterations": OFF_POLICY,
    "a batch for several steps": {"gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_steps": 3},
    "several batches for a step": {
        "per_device_train_batch_size": 12,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 1,
        "max_steps": 2,
    },
    "kl": {"beta": 0.1, "max_steps": 2},
    "truncated": {"mask_truncated_completions": True, "max_completion_length": 12, **OFF_POLICY},
    "batch std, grpo": {"scale_rewards": "batch", "loss_type": "grpo", "epsilon_high": 0.3},
    "tools": {"more": {"rollout_func": tools}, **OFF_POLICY},
    "vllm": {"prepare": with_vllm, "max_steps": 2},
}


@pytest.mark.parametrize("name", HOSTS)
def test_alpha_zero_is_grpo_trainer_bit_for_bit(name: str) -> None:
    theirs = train(GRPOTrainer, GRPOConfig, **HOSTS[name])
    ours = train(loss_from="trl", method_params={"alpha": 0.0}, **HOSTS[name])
    assert ours.losses == theirs.losses
    assert all(torch.equal(ours.final[key], value) for key, value in theirs.final.items())
    assert any(not torch.equal(value, theirs.weights[0][key]) for key, value in theirs.final.items())  # it did train
    changed = train(loss_from="trl", method_params={"alpha": 5.0}, **HOSTS[name])
    assert changed.losses != theirs.losses


# --- our numbers ---


def rewards_of(output: dict[str, Tensor]) -> Tensor:
    words = tokenizer()
    prompts = [
        words.decode(ids[mask.bool()]) for ids, mask in zip(output["prompt_ids"], output["prompt_mask"], strict=True)
    ]
    return torch.tensor(reward(prompts, words.batch_decode(output["completion_ids"], skip_special_tokens=True))).view(
        -1, GROUP
    )


def test_progrpo_is_what_the_equations_give() -> None:
    """Advantages and loss from the functions of `algo` alone, on what TRL sampled."""
    seen = train(method="progrpo", method_params={"alpha": 2.0, "skip": "all_wrong"})
    (output,) = seen.outputs
    batch, logprobs, _ = recorded(output, seen.weights[0], rewards_of(output))
    assert batch.correct[0].all()
    assert not batch.correct[1].any()
    assert batch.correct[2].any()
    assert not batch.correct[2].all()
    assert batch.prompt_logprobs is not None
    assert batch.prompt_mask is not None
    advantages = reweight_advantages(
        group_advantages(batch.rewards),
        batch.correct,
        sequence_confidence(batch.prompt_logprobs, batch.prompt_mask),
        sequence_confidence(batch.old_logprobs, batch.mask).view(3, GROUP),
        alpha=2.0,
        skip="all_wrong",
    ).flatten()
    assert advantages[:4].abs().max() > 0.01  # all-correct groups are shifted under Eq. 4, all-incorrect ones are not
    torch.testing.assert_close(output["advantages"], advantages, rtol=0, atol=1e-6)
    objective = clipped_surrogate(logprobs, logprobs, advantages)
    weights = sequence_weights(batch.mask.sum(dim=1).view(3, GROUP))
    expected = -weighted_sum(objective, batch.mask, weights.flatten())
    assert len(seen.losses) == 2
    assert sum(seen.losses) == pytest.approx(float(expected), abs=1e-6)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("progrpo", {"preset": "equilibrium"}),
    ("progrpo", {"preset": "equilibrium", "truncated": "drop"}),  # cut completions still have a c(o)
    ("progrpo", {"low_by": "entropy", "alpha": 1.0}),
    ("grpo", {"add": {"name": "progrpo", "alpha": 1.0}, "clip_high": 0.4}),
    ("grpo", {"truncated": "drop", "entropy_coef": 0.05, "aggregate": "token"}),
    ("cispo", {}),
    ("gspo", {}),
    ("dapo", {"limit_tokens": 5, "buffer_tokens": 3}),
    ("dcpo", {"smooth": False}),
    ("entropy_advantage", {}),
    ("nsr", {}),
    ("passk", {"k": 2}),
    ("rlsc", {}),
]
SLOW = ("dppo", "dr_grpo", "f_grpo", "maxrl", "psr", "reinforce", "ucpo", "unlikeliness", "w_reinforce")


@pytest.mark.parametrize(
    ("name", "params"),
    [*CASES, *(pytest.param(name, REQUIRED.get(name, {}), marks=pytest.mark.slow) for name in SLOW)],
)
def test_every_loss_is_ours_through_several_iterations(name: str, params: dict[str, Any]) -> None:
    """The second iteration has moved weights: ratios, clips and the old log-probs take part."""
    seen = train(method=name, method_params=params, num_iterations=2, max_steps=2)
    (output,) = seen.outputs
    batch, _, _ = recorded(output, seen.weights[0], rewards_of(output))
    method = methods.load(Choice(name=name, **params))
    expected = [our_loss(method, batch, *recorded(output, seen.weights[first], batch.rewards)[1:]) for first in (0, 2)]
    assert expected[0] != pytest.approx(expected[1], abs=1e-5)
    assert sum(seen.losses[:2]) == pytest.approx(expected[0], abs=2e-6)
    assert sum(seen.losses[2:]) == pytest.approx(expected[1], abs=2e-6)


@pytest.mark.parametrize("name", ["high_entropy", pytest.param("steer", marks=pytest.mark.slow)])
def test_methods_that_read_the_policy_anew_have_one_step(name: str) -> None:
    seen = train(method=name)
    (output,) = seen.outputs
    batch, logprobs, entropies = recorded(output, seen.weights[0], rewards_of(output))
    expected = our_loss(methods.load(Choice(name=name)), batch, logprobs, entropies)
    assert sum(seen.losses) == pytest.approx(expected, abs=2e-6)


def test_the_kl_penalty_reads_trls_reference() -> None:
    seen = train(method="grpo", beta=0.3, num_iterations=2, max_steps=2, learning_rate=3e-3)
    (output,) = seen.outputs
    batch, logprobs, entropies = recorded(output, seen.weights[2], rewards_of(output))
    before, reference, _ = recorded(output, seen.weights[0], batch.rewards)  # the model before training
    method = methods.load(Choice(name="grpo", kl_coef=0.3))
    expected = our_loss(method, before, logprobs, entropies, ref_logprobs=reference)
    assert sum(seen.losses[2:]) == pytest.approx(expected, abs=2e-6)
    assert seen.history[1]["kl"] > 0.01


def test_vllms_importance_correction_weighs_each_token() -> None:
    seen = train(method="grpo", prepare=with_vllm)
    (output,) = seen.outputs
    ratio = output["importance_sampling_ratio"]
    assert len({round(value, 4) for value in ratio.flatten().tolist()}) > 2
    batch, logprobs, _ = recorded(output, seen.weights[0], rewards_of(output))
    objective = clipped_surrogate(logprobs, logprobs, group_advantages(batch.rewards).flatten()) * ratio
    weights = sequence_weights(batch.mask.sum(dim=1).view(3, GROUP), how="sequence").flatten()
    assert sum(seen.losses) == pytest.approx(-float(weighted_sum(objective, batch.mask, weights)), abs=1e-6)


def test_a_tools_tokens_are_not_the_models() -> None:
    """c(o) and the loss leave the environment's two of six tokens out."""
    params = {"preset": "equilibrium"}
    seen = train(method="progrpo", method_params=params, more={"rollout_func": tools})
    (output,), (batch,) = seen.outputs, seen.batches
    assert batch.lengths.unique().tolist() == [4]
    assert batch.mask[0].tolist() == [True, True, True, False, False, True]
    mine, logprobs, entropies = recorded(output, seen.weights[0], rewards_of(output))
    torch.testing.assert_close(batch.old_logprobs, mine.old_logprobs, rtol=0, atol=1e-6)
    expected = our_loss(methods.load(Choice(name="progrpo", **params)), mine, logprobs, entropies)
    assert sum(seen.losses) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("settings", [{"mask_truncated_completions": True}, {"method_params": {"truncated": "drop"}}])
def test_cut_completions_are_scored_and_not_trained_on(settings: dict[str, Any]) -> None:
    seen = train(method="progrpo", **settings)
    (batch,) = seen.batches
    assert batch.truncated.any()
    assert not batch.truncated.all()
    assert (batch.lengths[batch.truncated] == 6).all()
    assert (batch.old_logprobs[batch.truncated.flatten()] < 0).all()
    trained = seen.trainer._rollouts["train"].decided.mask.any(dim=1).view(batch.truncated.shape)
    assert torch.equal(trained, ~batch.truncated)


def test_a_completion_of_which_every_token_is_masked_was_cut() -> None:
    """Token 1 ends a completion, 0 fills it up; TRL masks the third row for its missing end."""
    ids = torch.tensor([[5, 1, 0], [5, 6, 7], [5, 6, 1]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    assert rollout.truncated_of(ids, mask, [1, 0]).tolist() == [False, True, True]


def test_batches_smaller_and_larger_than_a_step_have_the_same_mean() -> None:
    """Of one generation batch: the losses of its two optimiser steps average to that of one step over all of it."""
    params = {"method": "progrpo", "learning_rate": 0.0, "per_device_train_batch_size": 3}
    one = train(gradient_accumulation_steps=4, **params)
    two = train(gradient_accumulation_steps=2, steps_per_generation=4, max_steps=2, **params)
    assert len(one.losses) == len(two.losses) == 4
    assert sum(one.losses) == pytest.approx(sum(two.losses) / 2, abs=1e-6)
    many = train(gradient_accumulation_steps=8, steps_per_generation=4, copies=2, **params)  # a step of two rollouts
    assert sum(many.losses[:4]) == pytest.approx(sum(one.losses) / 2, abs=1e-6)


@pytest.mark.parametrize("spec", [{"name": "progrpo"}, {"name": "progrpo", "preset": "equilibrium"}, {"name": "maxrl"}])
def test_the_recorded_rollout_gives_our_trainers_advantages(spec: dict[str, Any], tmp_path: Any) -> None:
    """What our trainer sampled with the embedded model, scored by TRL: the same advantages as for every other host."""
    groups = host_rollouts.groups()
    prompts = [tokenizer().decode(group.prompt_ids) for group in groups]

    def replay(asked: list[Any], trainer: Any) -> dict[str, Any]:
        completions = [one.token_ids.tolist() for group in groups for one in group.completions]
        ids = [group.prompt_ids.tolist() for group in groups for _ in group.completions]
        assert len(asked) == len(ids)
        return {
            "prompt_ids": ids,
            "completion_ids": completions,
            "logprobs": [[-1.0] * len(one) for one in completions],
        }

    def verdicts(completions: list[str], **_: Any) -> list[float]:
        assert len(completions) == 16
        return host_rollouts.batch().rewards.flatten().tolist()

    params = {key: value for key, value in spec.items() if key != "name"}
    trainer = ProGRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(resolve_path("embedded:countdown"), dtype=torch.float32),
        reward_funcs=verdicts,
        args=ProGRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=1,
            num_generations=4,
            max_completion_length=host_rollouts.LIMIT,
            max_steps=1,
            learning_rate=0.0,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            shuffle_dataset=False,
            method=spec["name"],
            method_params=params,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer(),
        rollout_func=replay,
    )
    outputs = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: outputs.append(generate(inputs)) or outputs[-1]
    trainer.train()
    found = outputs[0]["advantages"]
    torch.testing.assert_close(found, host_rollouts.advantages(spec)[:, 0], rtol=0, atol=1e-6)  # scored by another pass


# --- rewards and verdicts ---


def test_raw_rewards_decide_what_is_correct() -> None:
    """Rewards of +1 and -1 sum to 0 in a group that is half correct; equal rewards of 0.5 are all correct or all incorrect."""
    judged = torch.tensor([[True, True], [True, True], [True, False]])
    values = torch.tensor([[1.0, -1.0], [0.5, 0.5], [1.0, float("nan")]])
    assert correct_of(values, judged, above=0.0).tolist() == [[True, False], [True, True], [True, True]]
    assert correct_of(values, judged, above=0.5).tolist() == [[True, False], [False, False], [True, True]]
    # as the others of the group: one incorrect, or none judged, makes an unknown one False
    assert correct_of(-values, judged, above=0.0)[2].tolist() == [False, False]


def test_totals_are_trls() -> None:
    nan = float("nan")
    per_function = torch.tensor([[1.0, 0.5], [nan, 0.5], [nan, nan]])
    total = rollout.total_rewards(per_function, torch.tensor([1.0, 2.0]))
    assert total[:2].tolist() == [2.0, 1.0]
    assert total[2].isnan()


def form(completions: list[str], **_: Any) -> list[float | None]:
    return [None if index == 0 else 0.25 for index, _ in enumerate(completions)]


def test_one_reward_function_may_say_what_is_correct() -> None:
    funcs = [reward, form]
    seen = train(method="progrpo", funcs=funcs)
    (batch,) = seen.batches
    assert batch.correct.all()  # 0 + 0.25 > 0
    for settings in ({"correct_by": "reward"}, {"correct_above": 0.5}):
        (batch,) = train(method="progrpo", funcs=funcs, **settings).batches
        assert batch.correct.tolist() == (rewards_of(seen.outputs[0]) > 0).tolist()
    assert batch.rewards[:2].tolist() == [[1.0, 1.25, 1.25, 1.25], [0.25] * 4]
    with pytest.raises(ConfigError, match=r"correct_by='gold'.*reward, form"):
        train(funcs=funcs, correct_by="gold")


def test_a_completion_nobody_judged_has_no_shift() -> None:
    def unsure(prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
        found: list[float | None] = list(reward(prompts, completions))
        return [*found[:-1], None]

    seen = train(method="progrpo", funcs=unsure)
    assert not seen.batches[0].judged[2, 3]
    assert seen.outputs[0]["advantages"][11] == 0


# --- the passes ---


def passes_of(**settings: Any) -> int:
    """Calls of the model in one generation batch of one optimiser step, without those that generate."""
    counted = []

    def count(trainer: Any) -> None:
        forward = trainer.model.forward

        def counting(*arguments: Any, **named: Any) -> Any:
            counted.append(bool(named.get("fused_lm_head")))
            return forward(*arguments, **named)

        trainer.model.forward = counting

    train(prepare=count, **settings)
    return sum(counted)


def test_one_pass_more_where_trl_makes_none(caplog: pytest.LogCaptureFixture) -> None:
    """Two micro-batches: two passes train, and two score where someone scores."""
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        assert passes_of(method="grpo") == 2
        assert passes_of(method="maxrl") == 2  # has advantages of its own, from verdicts alone
        assert "forward pass" not in caplog.text
        assert passes_of(method="progrpo") == 4
    assert caplog.text.count("one more forward pass") == 1
    caplog.clear()
    assert passes_of(method="progrpo", num_iterations=2) == passes_of(method="grpo", num_iterations=2) == 4
    assert "forward pass" not in caplog.text


# --- settings ---


def test_fields_nobody_set_are_the_methods() -> None:
    args = config(method="progrpo")
    assert (args.epsilon, args.epsilon_high, args.loss_type, args.beta) == (0.2, 0.28, "group_token", 0.0)
    args = config(method="cispo", beta=0.1)
    assert (args.epsilon, args.epsilon_high, args.choose().method.params.kl_coef) == (1.0, 4.0, 0.1)
    args = config(method="grpo", loss_type="dr_grpo", scale_rewards=False, delta=3.0, mask_truncated_completions=True)
    params = args.choose().method.params
    assert (params.aggregate, params.scale, params.dual_clip, params.truncated) == ("fixed", "none", 3.0, "drop")
    plain, ours = GRPOConfig(output_dir="x", use_cpu=True, bf16=False), config(method="progrpo", loss_from="trl")
    for name in host.CONFIG_FIELDS:
        assert getattr(ours, name) == getattr(plain, name)


def test_settings_may_be_json() -> None:
    assert config(method_params='{"alpha": 0.7}').choose().method.params.alpha == 0.7
    with pytest.raises(ConfigError, match="not readable as JSON"):
        config(method_params="alpha=0.7")
    with pytest.raises(ConfigError, match="expected a JSON object"):
        config(method_params="[1]")


def test_trls_command_line_reads_the_config() -> None:
    words = ["--output_dir", "nowhere", "--use_cpu", "true", "--bf16", "false", "--method_params", '{"alpha": 0.5}']
    more = [
        "--scale_rewards",
        "none",
        "--mask_truncated_completions",
        "true",
        "--epsilon",
        "0.1",
        "--loss_type",
        "dapo",
    ]
    (args,) = TrlParser((ProGRPOConfig,)).parse_args_and_config([*words, *more])
    params = args.choose().method.params
    assert (params.alpha, params.scale, params.truncated, params.clip_low) == (0.5, "none", "drop", 0.1)
    assert params.aggregate == "token"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": "ppo"}, "ppo needs .*hidden states"),
    ({"method": "flowrl"}, "flowrl needs .*hidden states"),
    ({"method": "simko"}, "simko needs log-probs of other tokens"),
    ({"method": "uniqueness", "method_params": {"alpha": 1.0}}, "uniqueness needs verdicts"),
    ({"method": "dcpo"}, "dcpo remembers seen"),
    ({"method": "dapo", "method_params": {"max_rounds": 3}}, "dapo: 3 rounds of sampling"),
    ({"method": "kl_cov", "method_params": {"pool": "micro"}}, "kl_cov: pool=micro"),
    ({"method": "kl_cov", "num_iterations": 2}, "kl_cov reads the policy anew"),
    ({"method": "kl_cov"}, "kl_cov does nothing in the first optimiser step"),
    ({"method": "high_entropy", "steps_per_generation": 4}, "high_entropy reads the policy anew"),
    # The second step begins within the second generation batch.
    (
        {"method": "kl_cov", "gradient_accumulation_steps": 3, "steps_per_generation": 2},
        "TRL makes 2 of a generation batch without",
    ),
    (
        {"method": "kl_cov", "gradient_accumulation_steps": 6, "steps_per_generation": 4},
        "TRL makes 2 of a generation batch without",
    ),
    ({"method_params": {"logprobs_from": "current"}, "num_iterations": 2}, "progrpo reads the policy anew"),
    ({"method": "nonsense"}, "nonsense"),
    ({"method_params": {"alhpa": 1}}, "alhpa"),
    ({"method_params": {"clip_low": 0.1}, "epsilon": 0.3}, "epsilon=0.3 and method_params"),
    ({"loss_from": "both"}, "loss_from='both'"),
    ({"loss_type": "sapo"}, "loss_type='sapo'"),
    ({"scale_rewards": "batch"}, "scale_rewards='batch'"),
    ({"top_entropy_quantile": 0.2}, "top_entropy_quantile=0.2.*high_entropy"),
    ({"importance_sampling_level": "sequence"}, "importance_sampling_level='sequence'.*gspo"),
    ({"off_policy_mask_threshold": 0.5}, "off_policy_mask_threshold=0.5"),
    ({"use_adaptive_entropy": True}, "use_adaptive_entropy=True"),
    ({"use_bias_correction_kl": True}, "use_bias_correction_kl=True"),
    ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation='normalize_then_sum'"),
    ({"loss_from": "trl", "method": "gspo"}, "gspo changes more than the advantages .*token_loss"),
    ({"loss_from": "trl", "method": "dapo"}, "dapo changes more than the advantages .*sequence_keep"),
    ({"loss_from": "trl", "method_params": {"clip_high": 0.3}}, "nobody would read clip_high"),
    ({"loss_from": "trl", "method_params": {"preset": "paper"}}, "nobody would read aggregate, ddof"),
    ({"loss_from": "trl", "method": "maxrl", "scale_rewards": "batch"}, "maxrl replaces TRL's advantages"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_trl_cannot_honour_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, LookupError), match=message):
        config(**settings)


def test_every_method_is_honoured_or_refused() -> None:
    """docs/adapters.md lists both."""
    refused = set()
    for name in plugins.names("methods"):
        try:
            config(method=name, method_params=REQUIRED.get(name, {}))
        except ConfigError:
            refused.add(name)
    assert refused == (
        {"ppo", "flowrl", "simko", "uniqueness", "dcpo", "clip_v", "kl_cov", "pacs", "real", "lp_reg", "siren", "ucas"}
        | {"aepo", "epo", "risk_po", "prl", "copo", "ttrv", "cure", "spear", "r3", "deepsearch"}
        | {"pear", "empg", "likelihood", "spine"}
    )


def test_the_trainer_wants_its_own_config() -> None:
    with pytest.raises(ConfigError, match="expected a ProGRPOConfig, got GRPOConfig"):
        ProGRPOTrainer(tiny_model(), reward, GRPOConfig(output_dir="x", use_cpu=True, bf16=False))


@pytest.mark.parametrize("name", ["maxrl", "entropy_advantage", "f_grpo", "grpo"])
def test_trls_loss_with_other_advantages(name: str) -> None:
    """Its own eps and ddof; values of whole sequences and of tokens."""
    params = REQUIRED.get(name, {}) | ({"add": "progrpo"} if name == "grpo" else {})
    seen = train(loss_from="trl", method=name, method_params=params)
    (output,) = seen.outputs
    batch, _, _ = recorded(output, seen.weights[0], rewards_of(output))
    found = methods.load(Choice(name=name, eps=1e-4, **params)).advantages(batch)
    expected = found.values.flatten() if found.tokens is None else found.tokens
    torch.testing.assert_close(output["advantages"], expected, rtol=0, atol=1e-6)
    weighted = (expected if expected.dim() == 2 else expected[:, None]) * batch.mask
    assert sum(seen.losses) == pytest.approx(-float(weighted.sum() / batch.mask.sum()), abs=1e-6)  # "dapo", ratio 1


def test_advantages_in_the_table_of_completions_are_those_that_train() -> None:
    def of_many(trainer: Any) -> None:  # a longer table than one generation batch
        trainer._logs["advantages"] = deque(maxlen=100)

    seen = train(method="progrpo", method_params={"alpha": 3.0}, prepare=of_many, copies=2, max_steps=2)
    logged = torch.tensor(list(seen.trainer._logs["advantages"]))
    torch.testing.assert_close(logged, torch.cat([output["advantages"] for output in seen.outputs]))


def test_evaluation_and_checkpoints_between_steps() -> None:
    """An evaluation in the middle of a generation batch leaves the batch as it is."""
    plain = train(method="progrpo", num_iterations=2, max_steps=2)
    more = {"eval_dataset": [{"prompt": PROMPTS[2]}]}

    def evaluate(trainer: Any) -> None:
        compute = trainer._compute_loss

        def with_evaluation(model: Any, inputs: Any) -> Any:
            if trainer.state.global_step == 1 and trainer.model.training and not hasattr(trainer, "evaluated"):
                trainer.evaluated = True
                with torch.random.fork_rng():
                    found = trainer.evaluate()
                trainer.model.train()
                assert "eval_loss" in found
            return compute(model, inputs)

        trainer._compute_loss = with_evaluation

    settings = {"per_device_eval_batch_size": GROUP, "save_strategy": "steps", "save_steps": 1}
    from datasets import Dataset

    more["eval_dataset"] = Dataset.from_list(more["eval_dataset"])
    seen = train(method="progrpo", num_iterations=2, max_steps=2, prepare=evaluate, more=more, **settings)
    assert seen.trainer.evaluated
    assert all(torch.equal(seen.final[name], value) for name, value in plain.final.items())


# --- the host ---


def test_this_version_is_one_that_was_tested(caplog: pytest.LogCaptureFixture) -> None:
    from trl import __version__

    assert ".".join(__version__.split(".")[:2]) in {".".join(version.split(".")[:2]) for version in host.TESTED}
    host.check(GRPOTrainer, GRPOConfig, __version__)
    assert not caplog.text
    host.check(GRPOTrainer, GRPOConfig, "1.99.0")
    assert "tested with 1.15.0, 1.16.0" in caplog.text


def test_a_host_that_has_changed_is_refused() -> None:
    class Renamed(GRPOTrainer):
        _calculate_rewards = None

    class Other(GRPOTrainer):
        def _compute_loss(self, batch: Any) -> Any: ...

    with pytest.raises(HostError, match=r"Renamed._calculate_rewards is missing.*pip install 'trl=="):
        host.check(Renamed, GRPOConfig, "9")
    with pytest.raises(
        HostError, match=r"Other._compute_loss: expected the parameters self, model, inputs, got self, batch"
    ):
        host.check(Other, GRPOConfig, "9")
    with pytest.raises(HostError, match="has no field beta"):
        host.check(GRPOTrainer, dataclasses.make_dataclass("Fewer", ["epsilon"]), "9")


def test_a_pass_that_trl_does_not_make_is_noticed() -> None:
    """The adapter knows by TRL's settings when a pass comes; a TRL with another rule must not pass unseen."""
    sure = type("Sure", (ProGRPOTrainer,), {"_host_scores": property(lambda self: True)})
    with pytest.raises(HostError, match="was not made when the adapter expects it"):
        train(sure)
    with pytest.raises(HostError, match="was not made when the adapter expects it"):
        train(type("Unsure", (ProGRPOTrainer,), {"_host_scores": property(lambda self: False)}), num_iterations=2)


# --- several processes ---


def fixed_completions(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """What any process samples for a place in the batch: a function of that place alone."""
    words, first = trainer.processing_class, trainer.accelerator.process_index * len(prompts)
    places = range(first, first + len(prompts))
    completions = [[4 + (3 * n) % 11, *([5 + n % 6] * (n % 3)), words.eos_token_id] for n in places]
    return {
        "prompt_ids": [words(prompt).input_ids for prompt in prompts],
        "completion_ids": completions,
        "logprobs": [[-1.0] * len(ids) for ids in completions],
    }


def alternating(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(ids[0] % 2) for ids in completion_ids]


def train_in_one(rank: int, count: int, port: int, folder: str) -> None:
    enter(rank, count, port)
    for loss_from in ("method", "trl"):
        seen = train(
            loss_from=loss_from,
            method_params={"preset": "equilibrium", "alpha": 3.0},
            funcs=alternating,
            more={"rollout_func": fixed_completions},
            per_device_train_batch_size=6 // count,
            max_grad_norm=0.0,
            optim="sgd",  # Adam would make a sign of a rounding error
        )
        advantages = seen.outputs[0]["advantages"]
        torch.save((advantages, seen.batches[0], seen.final), f"{folder}/{loss_from}-{count}-{rank}.pt")
    if count > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_groups_may_span_processes(tmp_path: Any) -> None:
    """12 completions in groups of 4 on two processes of 6: the middle group is on both, and one has a longer prompt."""
    train_in_one(0, 1, 0, str(tmp_path))
    start(train_in_one, 2, str(tmp_path))
    for loss_from in ("method", "trl"):
        values, batch, weights = torch.load(tmp_path / f"{loss_from}-1-0.pt", weights_only=False)
        parts = [torch.load(tmp_path / f"{loss_from}-2-{rank}.pt", weights_only=False) for rank in range(2)]
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), values, rtol=0, atol=1e-6)
        for _, mine, final in parts:
            assert torch.equal(mine.correct, batch.correct)
            assert torch.equal(mine.prompt_mask, batch.prompt_mask)
            torch.testing.assert_close(mine.prompt_logprobs, batch.prompt_logprobs, rtol=0, atol=1e-6)
            torch.testing.assert_close(mine.old_logprobs, batch.old_logprobs, rtol=0, atol=1e-6)
            for name, value in weights.items():
                torch.testing.assert_close(final[name], value, rtol=0, atol=1e-6)
