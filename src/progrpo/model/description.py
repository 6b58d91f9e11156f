"""A model known by its tokenizer and configuration alone."""

from typing import Any

import torch

from progrpo import model_checks
from progrpo.errors import DataError
from progrpo.model import LanguageModel, ModelSettings, config_of, load_tokenizer, stop_ids_of
from progrpo.model.files import named_failure
from progrpo.model.tokenizer import end_of_turn


def describe_model(settings: ModelSettings) -> LanguageModel:
    """A model without weights: its tokenizer, its configuration, and what follows from them. It cannot be run.

    Raises:
        ModelError: as `load_model`.
    """
    from transformers import AutoModelForCausalLM

    tokenizer, config = load_tokenizer(settings), config_of(settings.path)
    with named_failure(settings.path), torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    try:
        turn = end_of_turn(tokenizer, settings.chat)
    except DataError:  # the template refuses; it will be said of a prompt
        turn = None
    stop_ids = stop_ids_of(model, tokenizer, settings.path)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        device=torch.device("cpu"),
        precision=settings.precision,
        stop_ids=stop_ids if turn is None else stop_ids | {turn},
        pad_id=tokenizer.pad_token_id,
        positions=model_checks.positions(config),
        split=False,
        shares_prompts=False,
        chat=settings.chat,
        border=model_checks.rope_border(config),
    )
