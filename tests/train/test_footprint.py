"""What a device holds, against numbers worked out by hand."""

from pathlib import Path

import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.train.footprint import describe, footprint, require_sampling_copy
from progrpo.train.settings import RunSettings, load_settings

RECIPE = Path(__file__).parents[2] / "recipes" / "paper" / "qwen2.5-7b-math-progrpo.yaml"
# Qwen2.5-7B: 7.62 G parameters, 28 layers of width 3,584, 4 heads of 128 for keys and values, 152,064 words
SIZE = {
    "parameters": 7_615_616_512,
    "trained": 7_615_616_512,
    "layers": 28,
    "width": 3584,
    "vocabulary": 152_064,
    "cache_per_token": 2 * 28 * 4 * 128,
}


GPU, CPU = torch.device("cuda"), torch.device("cpu")


def recipe(*overrides: str) -> RunSettings:
    return load_settings(RECIPE, ["model.precision=bf16", *overrides])


def test_eight_shards_hold_an_eighth_and_a_whole_copy_to_sample_from() -> None:
    one = footprint(recipe(), SIZE, mode="fsdp2", count=8, reference=True, device=GPU)
    # 7.615616512 G x 4 bytes / 8 = 3.808 GB; AdamW twice that; the copy in bf16 15.231 GB, and 2 bytes more for each of the
    # embeddings' 152,064 x 3,584 = 544,997,376 numbers, 1.090 GB; no second copy beside it
    assert one.weights == one.gradients == one.reference == pytest.approx(3.8078e9, rel=1e-4)
    assert one.optimizer == pytest.approx(7.6156e9, rel=1e-4)
    assert one.sampler == pytest.approx(16.3212e9, rel=1e-4)
    # a layer (7,615,616,512 - 544,997,376) / 28 = 252,522,112; two of them
    assert one.gathered == pytest.approx(4 * (544_997_376 + 2 * 252_522_112), rel=1e-6)
    assert one.resident == pytest.approx((3 * 3.8078 + 7.6156 + 16.3212) * 1e9, rel=1e-4)


def test_replicas_hold_everything() -> None:
    one = footprint(recipe(), SIZE, mode="ddp", count=8, reference=False, device=GPU)
    # 16 bytes a parameter, and 2 for the copy in bf16 of the linear layers that samples
    assert one.resident == pytest.approx(18 * 7.615616512e9, rel=1e-9)
    assert one.reference == one.gathered == 0


def test_an_engine_in_bf16_beside_a_model_in_float32_holds_copies_and_half_the_cache() -> None:
    plain, half = (recipe("model.precision=fp32", *more) for more in ((), ("engine.precision=bf16",)))
    for mode, copy in (("ddp", 0.0), ("fsdp2", 4.0)):  # sharded, both beside a whole copy in float32
        one, other = (footprint(each, SIZE, mode=mode, count=8, reference=False, device=GPU) for each in (plain, half))
        assert one.sampler == pytest.approx(copy * 7.615616512e9)
        assert other.sampler == pytest.approx((copy + 2) * 7.615616512e9)
        assert one.cache == 2 * other.cache
        assert one.activations == other.activations


def test_on_a_cpu_the_weights_that_sample_are_held_once_more_packed() -> None:
    for precision, bytes_each in (("fp32", 4), ("bf16", 2)):
        settings = recipe(f"model.precision={precision}", "engine.name=hf")
        one = footprint(settings, SIZE, mode="ddp", count=8, reference=False, device=CPU)
        assert one.sampler == pytest.approx(bytes_each * 7.615616512e9)
    plain = recipe("model.precision=fp32", "engine.name=hf", "engine.packed=false")
    assert footprint(plain, SIZE, mode="ddp", count=8, reference=False, device=CPU).sampler == 0


def test_what_samples_in_bf16_is_held_whichever_engine_it_is() -> None:
    for name in ("vllm", "paged"):
        settings = recipe(f"engine={{name: {name}, precision: null}}")
        one = footprint(settings, SIZE, mode="none", count=1, reference=False, device=GPU)
        assert one.sampler == pytest.approx(2 * 7.615616512e9)


def test_sharded_on_a_cpu_packed_copies_stand_beside_the_whole_one() -> None:
    # in bf16 the whole copy of 16.3212 GB (see above), and once more 2 bytes a parameter
    one = footprint(recipe("engine.name=hf"), SIZE, mode="fsdp2", count=8, reference=False, device=CPU)
    assert one.sampler == pytest.approx(16.3212e9 + 2 * 7.615616512e9, rel=1e-4)


def test_processes_share_the_problems_they_sample() -> None:
    settings = recipe("batch.prompts=64", "batch.group=8", "batch.minibatch_prompts=null", "engine.max_rows=10000")
    whole = footprint(settings, SIZE, mode="none", count=1, reference=False, device=GPU)
    part = footprint(settings, SIZE, mode="ddp", count=8, reference=False, device=GPU)
    assert (whole.rows, part.rows) == (512, 64)
    assert part.cache < whole.cache / 4


def test_recomputed_activations_take_a_sixteenth_of_the_layers() -> None:
    plain = footprint(
        recipe("model.gradient_checkpointing=false"), SIZE, mode="none", count=1, reference=False, device=GPU
    )
    less = footprint(
        recipe("model.gradient_checkpointing=true"), SIZE, mode="none", count=1, reference=False, device=GPU
    )
    layers = plain.tokens * 28 * 3584 * 15 * 2
    assert plain.activations - less.activations == layers


def test_what_does_not_fit_is_said() -> None:
    one = footprint(recipe(), SIZE, mode="none", count=1, reference=False, device=GPU)
    text = "\n".join(describe(one, mode="none", count=1, device=torch.device("cpu"), shared_by=1))
    assert "weights 28.37 + gradients 28.37 + optimiser 56.74" in text  # 7.6156e9 x 4 / 2^30
    assert ("DOES NOT FIT" in text) == (one.peak(cache_stays=False) > 0.95 * _memory())


def test_a_sampling_copy_that_cannot_be_held_is_refused() -> None:
    large = SIZE | {"parameters": 10**13, "trained": 10**13}
    one = footprint(recipe(), large, mode="fsdp2", count=8, reference=False, device=GPU)
    with pytest.raises(
        ConfigError, match="engine 'hf' samples from a whole copy .*more processes, or set model.precision=bf16.*vLLM"
    ):
        require_sampling_copy(one, "fsdp2", "hf", torch.device("cpu"))
    require_sampling_copy(one, "ddp", "hf", torch.device("cpu"))


def test_a_sharded_model_need_not_fit_whole_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    # Qwen2.5-32B: 32.76 G parameters. A copy in bf16 with embeddings of 152,064 x 5,120 in float32 takes 67.08 GB, and what
    # 64 devices hold of 16 bytes a parameter 8.19 GB: 70.1 GiB, where the whole model in float32 alone would be 122.0 GiB.
    size = SIZE | {"parameters": 32_763_876_352, "trained": 32_763_876_352, "layers": 64, "width": 5120}
    one = footprint(recipe(), size, mode="fsdp2", count=64, reference=False, device=GPU)
    assert one.resident / 2**30 == pytest.approx(70.1, abs=0.05)
    for memory, refused in ((69 * 2**30, True), (71 * 2**30, False)):
        monkeypatch.setattr("progrpo.train.footprint.device_memory", lambda device, memory=memory: memory)
        if refused:
            with pytest.raises(ConfigError, match="70.1 GiB in all, more than the 69.0"):
                require_sampling_copy(one, "fsdp2", "hf", torch.device("cpu"))
        else:
            require_sampling_copy(one, "fsdp2", "hf", torch.device("cpu"))


def _memory() -> float:
    pages = Path("/proc/meminfo")
    if not pages.exists():
        pytest.skip("the machine's memory is read from /proc/meminfo here")
    return int(pages.read_text().split()[1]) * 1024
