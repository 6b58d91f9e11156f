"""What a run will do, in prompts and sequences and tokens, and about how much memory it will take."""

from pathlib import Path

from progrpo import methods, tasks
from progrpo.algo.aggregate import How
from progrpo.errors import ModelError, ProgrpoError
from progrpo.model import count_parameters, load_tokenizer
from progrpo.rollout.generate import fit_prompts
from progrpo.train.record import require_free
from progrpo.train.settings import RunSettings
from progrpo.train.stream import ProblemStream

_GIB = 2**30

AGGREGATIONS: dict[How, str] = {
    "group_token": "token mean within each group, mean over problems",
    "token": "mean over all tokens of the step",
    "sequence": "token mean within each completion, mean over completions",
    "fixed": "token sums over a constant length",
}


def make_plan(settings: RunSettings) -> list[str]:
    """Lines of text; everything is resolved as the run would, but no weights are read and nothing is written.

    What would stop the run at its data, its model, its tokenizer or its directory is a line of the plan, so that a recipe
    can be read on another machine than the one it runs on.

    Raises:
        ProgrpoError: a setting is invalid.
    """
    method = methods.load(settings.method)
    batch = settings.batch
    sequences = batch.prompts * batch.group
    per_step = batch.minibatch_prompts or batch.prompts
    longest = settings.data.max_prompt_tokens + settings.sampling.max_new_tokens
    lines = [
        f"method: {method.name} {method.params.model_dump(mode='json')}",
        f"loss: {AGGREGATIONS[method.params.aggregate]}; ratio clipped to "
        f"[{1 - method.params.clip_low:g}, {1 + method.params.clip_high:g}]" + _dual_clip(method.params),
        f"rollout: {batch.prompts} problems x {batch.group} completions = {sequences} sequences, at most "
        f"{sequences * settings.sampling.max_new_tokens:,} sampled tokens",
        f"optimiser step: {per_step} problems = {per_step * batch.group} sequences; "
        f"{batch.steps_per_rollout} steps per rollout",
        f"run: {settings.steps} optimiser steps = {settings.steps // batch.steps_per_rollout} rollouts = "
        f"{settings.steps // batch.steps_per_rollout * sequences:,} completions",
    ]
    lines += [f"warning: {warning}" for warning in method.check(batch.group, batch.steps_per_rollout)]
    return lines + _data(settings) + _memory(settings, longest)


def _dual_clip(params: methods.Params) -> str:
    return "" if params.dual_clip is None else f", a negative advantage counts at most {params.dual_clip:g} times"


def _data(settings: RunSettings) -> list[str]:
    try:
        require_free(Path(str(settings.out)))
        splits = {"training": tasks.problems(settings.task, "train")}
        if settings.evaluate.every:
            splits["held-out"] = tasks.problems(settings.task, "test")
        tokenizer = load_tokenizer(settings.model)
        limit, drop = settings.data.max_prompt_tokens, settings.data.long_prompts == "drop"
        kept = {
            name: fit_prompts(found, tokenizer, max_prompt_tokens=limit, drop=drop, source=f"{name} problems")
            for name, found in splits.items()
        }
        size = settings.batch.prompts
        ProblemStream(kept["training"][0], seed=settings.seed, shuffle=settings.data.shuffle, per_rollout=size)
    except ProgrpoError as error:
        return [f"warning: as things are the run would stop: {error}"]
    shared = tasks.overlap(splits["training"], splits.get("held-out", ()))
    sizes = (f"{len(found):,} {name} problems, prompts up to {long} tokens" for name, (found, long) in kept.items())
    return ["data: " + ", ".join(sizes), *([f"warning: {shared}"] if shared else [])]


def _memory(settings: RunSettings, longest: int) -> list[str]:
    try:
        size = count_parameters(settings.model.path)
    except ModelError as error:
        return [f"warning: what memory the run takes is not known without the model's configuration: {error}"]
    states = 16 * size["parameters"]
    tokens = max(settings.batch.micro_tokens, longest)
    value = 2 if settings.model.precision == "bf16" else 4
    # Per layer and token about 16 vectors of the model's width are kept for the backward pass, or one if recomputed.
    kept = 1 if settings.model.gradient_checkpointing else 16
    activations = tokens * size["layers"] * size["width"] * kept * value
    head = min(tokens, 4096) * size["vocabulary"] * 4 * 3
    rows = min(settings.engine.params.get("max_rows", 256), settings.batch.prompts * settings.batch.group)
    prompts = min(settings.batch.prompts, 2 * max(1, rows // settings.batch.group))
    cached = rows * settings.sampling.max_new_tokens + prompts * settings.data.max_prompt_tokens
    cache = cached * size["cache_per_token"] * value
    sampler = 2 * size["parameters"] if settings.model.precision == "bf16" else 0
    return [
        f"model: {size['parameters']:,} parameters, vocabulary {size['vocabulary']:,}",
        f"memory: about {(states + sampler + max(activations + head, cache)) / _GIB:.2f} GiB = weights, gradient and AdamW "
        f"{(states + sampler) / _GIB:.2f} + the larger of training ({(activations + head) / _GIB:.2f} for {tokens:,} tokens "
        f"a pass) and sampling ({cache / _GIB:.2f} of cache for {rows} rows); on CUDA, where engine hf keeps its cache "
        f"between rollouts, the sum of the two",
    ]
