"""Shape annotations of the equations are checked while the tests run (and only then); what a test needs beyond Python, git
and make is a fixture here, which skips where it is missing and says what would let it run."""

import gc
import os
import re
import shutil
import time
from collections import Counter
from functools import cache

gc.disable()  # until all test files are read, see pytest_collection_finish
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread waits for the first in tensors this small
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook  # noqa: E402 - before anything imports torch

import stand_ins.typecheck  # noqa: E402, F401 - the hook finds it only once it is imported

install_import_hook(["progrpo.algo", "progrpo.methods"], "stand_ins.typecheck.check")

from collections.abc import Callable  # noqa: E402 - the hook above must come first
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any, NoReturn  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from progrpo.errors import SandboxError  # noqa: E402
from progrpo.sandbox import Box  # noqa: E402
from progrpo.sandbox.isolation import require_isolation  # noqa: E402
from stand_ins import needs  # noqa: E402

if TYPE_CHECKING:  # torch is imported by the fixtures that use it, so that tests without it start at once
    from progrpo.model import LanguageModel

CHARACTERS = "0123456789+-*/=,:()?abcdefghijklmnopqrstuvwxyz{}\\"
CHAT = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}"

# A time limit for each example makes a test fail on a busy machine; what is found is the same on every machine.
hypothesis.settings.register_profile("here", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--insist", action="store_true", help="fail where a test would skip because a program is missing")


def pytest_configure(config: pytest.Config) -> None:
    needs.insist(config.getoption("insist"))


def pytest_collection_finish() -> None:
    """Modules and tests live as long as the process: without them each of the garbage collections is 100 times as fast."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped and why, a line for each reason (pytest's -rs: a line for each test)."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, tests in reasons.most_common():
        terminalreporter.write_line(f"SKIPPED {tests}: {reason}")


@pytest.fixture(scope="session")
def lacks() -> Callable[[str], NoReturn]:
    """Skip for what this machine lacks, named together with the command that brings it; fail under --insist."""

    return needs.lacks


@pytest.fixture(scope="session")
def box(lacks: Callable[[str], NoReturn]) -> Box:
    """The sandbox, proved to hold; for every test that runs a program in it, by whatever way."""
    if shutil.which("bwrap") is None:
        lacks("bubblewrap is missing: apt-get install bubblewrap")
    try:
        return require_isolation()
    except SandboxError as error:
        # Only bubblewrap's own word that the kernel forbids it is a lack; a sandbox that is built and fails is a fault.
        forbidden = re.search(r"bwrap: .*(namespace|permi)", str(error), re.IGNORECASE)
        if "does not isolate" in str(error) and not forbidden:
            raise
        lacks(" ".join(str(error).split()))


@pytest.fixture(scope="session")
def chromium(lacks: Callable[[str], NoReturn]) -> str:
    """The path of the browser."""
    return shutil.which("chromium") or lacks("chromium is missing: apt-get install chromium")


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module under a new dotted name, which worker processes find, too; returns the name."""

    def make(source: str) -> str:
        package = f"made_{os.getpid()}_{time.time_ns()}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        return f"{package}.module"

    return make


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A random model with a character tokenizer as a Hugging Face folder, "qwen2" or "llama". Whoever asks for the same one
    gets the same folder: copy it to change it."""
    import torch
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaTokenizer,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen2Tokenizer,
    )

    @cache
    def write(architecture: str = "qwen2", *, chat: bool = False, seed: int = 0, eos: bool = True) -> Path:
        folder = tmp_path_factory.mktemp(architecture)
        space = "\u0120" if architecture == "qwen2" else "\u2581"
        vocabulary = {token: index for index, token in enumerate(("<pad>", "<eos>", "<unk>", *CHARACTERS, space))}
        kind = {"qwen2": Qwen2Tokenizer, "llama": LlamaTokenizer}[architecture]
        special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
        tokenizer = kind(vocab=vocabulary, merges=[], bos_token=None, **special)
        if chat:
            tokenizer.chat_template = CHAT
        torch.manual_seed(seed)
        sizes = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id if eos else None,
            "pad_token_id": tokenizer.pad_token_id,
        }
        model = (
            Qwen2ForCausalLM(Qwen2Config(**sizes))
            if architecture == "qwen2"
            else LlamaForCausalLM(LlamaConfig(**sizes))
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_stored(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A random model whose embeddings are its head, as a Hugging Face folder that holds its weights in a number format. Whoever
    asks for the same one gets the same folder: copy it to change it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    @cache
    def write(stored_as: torch.dtype, *, architecture: str = "qwen2", **changes: object) -> Path:
        folder = shutil.copytree(tiny_folder(), tmp_path_factory.mktemp("stored"), dirs_exist_ok=True)
        sizes = AutoConfig.from_pretrained(folder).to_dict()
        same = {key: sizes[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
        same |= {
            key: sizes[key] for key in ("num_attention_heads", "num_key_value_heads", "eos_token_id", "pad_token_id")
        }
        config = AutoConfig.for_model(architecture, tie_word_embeddings=True, bos_token_id=None, **same, **changes)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).to(stored_as).save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def tiny_model(tiny_folder: Callable[..., Path]) -> "LanguageModel":
    """A random Qwen2 of two layers whose distributions are far from uniform."""
    return _spread_model(tiny_folder())


@pytest.fixture
def windowed_model(tiny_folder: Callable[..., Path]) -> Callable[[int], "LanguageModel"]:
    """`tiny_model` with a sliding window of so many tokens in its first layer; the second sees all."""

    def make(window: int) -> "LanguageModel":
        layers = ["sliding_attention", "full_attention"]
        return _spread_model(tiny_folder(), use_sliding_window=True, sliding_window=window, layer_types=layers)

    return make


def _spread_model(folder: Path, **config: Any) -> "LanguageModel":
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from progrpo.model import wrap_model

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return wrap_model(model, AutoTokenizer.from_pretrained(folder), device=torch.device("cpu"))
