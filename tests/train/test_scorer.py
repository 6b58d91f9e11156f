"""The scorer under DDP and FSDP2: two processes give the gradient of one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from progrpo.algo.distributions import Further, Nucleus
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.train.micro_batch import MicroBatch, micro_batches
from progrpo.train.passes import top_columns
from progrpo.train.rows import TokenRows
from progrpo.train.scorer import Scorer
from stand_ins.several_processes import start

GROUP, PROBLEMS = 4, 2
TEMPERATURE = 1.3


def made_up_rows(vocabulary: int) -> TokenRows:
    draw = torch.Generator().manual_seed(0)

    def tokens(least: int, most: int) -> Tensor:
        length = int(torch.randint(least, most + 1, (), generator=draw))
        return torch.randint(2, vocabulary, (length,), generator=draw)

    prompts = [tokens(3, 7) for _ in range(PROBLEMS)]
    return TokenRows(
        prompts=tuple(prompts[n // GROUP] for n in range(PROBLEMS * GROUP)),
        completions=tuple(tokens(1, 9) for _ in range(PROBLEMS * GROUP)),
        group=GROUP,
    )


def cut(model: LanguageModel, rows: TokenRows, sequences: list[int]) -> MicroBatch:
    """All of the sequences in one micro-batch."""
    (micro,) = micro_batches(
        rows,
        torch.tensor(sequences),
        columns=9,
        budget=10_000,
        pad_id=model.pad_id,
        device=model.device,
        share=model.shares_prompts,
    )
    return micro


def test_the_likeliest_tokens_stand_in_the_columns_of_their_completions(tiny_model: LanguageModel) -> None:
    rows = made_up_rows(20)
    micro = cut(tiny_model, rows, [0, 1, 2, 3])
    with torch.no_grad():
        made = Scorer(tiny_model, TEMPERATURE)(micro, micro.scored, top=3)
        found = top_columns(micro, made.top_logprobs)
        for place, n in enumerate(micro.index.tolist()):
            prompt, completion = rows.prompts[n], rows.completions[n]
            logits = tiny_model.model(torch.cat([prompt, completion])[None]).logits[0] / TEMPERATURE
            own = logits[len(prompt) - 1 : -1].log_softmax(dim=-1).topk(3).values
            assert torch.allclose(found[place, : len(completion)], own, atol=1e-4)
            assert not found[place, len(completion) :].any()


def loss_of(scorer: torch.nn.Module, micro: MicroBatch, weights: Tensor) -> Tensor:
    """A loss that reads log-probs, entropies and those of the nuclei, with a weight of its own for each sequence."""
    made = scorer(micro, micro.scored, entropy_grad=True, further=Further(nucleus_entropies=Nucleus(mass=0.7)))
    values = micro.as_columns(made.logprobs) + 0.1 * micro.as_columns(made.entropies)
    values = values + 0.2 * micro.as_columns(made.further["nucleus_entropies"])
    return (values * weights[micro.index][:, None]).sum()


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        whole = parameter.grad
        assert whole is not None, name
        found[name] = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
    return found


def _process(rank: int, count: int, port: int, folder: str, wrapping: str, out: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(count)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    model = load_model(ModelSettings(path=folder, device="cpu"))
    assert model.shares_prompts
    scorer: torch.nn.Module = Scorer(model, TEMPERATURE)
    if wrapping == "ddp":
        scorer = torch.nn.parallel.DistributedDataParallel(scorer)
    else:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        for layer in model.model.model.layers:
            fully_shard(layer)
        fully_shard(scorer)
        assert all(isinstance(parameter, DTensor) for parameter in scorer.parameters())
    rows = made_up_rows(model.model.config.vocab_size)
    own = list(range(rank, PROBLEMS * GROUP, count))
    weights = torch.linspace(-1.0, 2.0, PROBLEMS * GROUP)
    (loss_of(scorer, cut(model, rows, own), weights) * count).backward()  # both take the mean over processes
    found = gradients(scorer)
    if rank == 0:
        torch.save({name.removeprefix("module."): value for name, value in found.items()}, out)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("wrapping", ["ddp", "fsdp2"])
def test_two_processes_give_the_gradient_of_one(
    wrapping: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = str(tiny_folder())
    out = str(tmp_path / "gradients.pt")
    start(_process, 2, folder, wrapping, out)
    model = load_model(ModelSettings(path=folder, device="cpu"))
    scorer = Scorer(model, TEMPERATURE)
    rows = made_up_rows(model.model.config.vocab_size)
    loss_of(scorer, cut(model, rows, list(range(8))), torch.linspace(-1.0, 2.0, 8)).backward()
    expected, found = gradients(scorer), torch.load(out)
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    assert largest > 1e-2
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-6 * max(1.0, largest)), name


def test_its_parameters_are_the_model_s(tiny_model: LanguageModel) -> None:
    scorer = Scorer(tiny_model, 1.0)
    assert [id(one) for one in scorer.parameters()] == [id(one) for one in tiny_model.model.parameters()]
