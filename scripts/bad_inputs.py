"""Give the command line what is wrong, and write docs/bad_inputs.md: input, message, seconds, exit status.

    python scripts/bad_inputs.py [-jN] [WORD ...]    # with words: the rows of cases whose description holds one
    python scripts/bad_inputs.py --said [WORD ...]   # what is said, and the seconds as the page has them: for a busy machine

Each case is a process of its own (N side by side) in a folder of its own, on the CPU, without a network. What it prints is
timed: the longest silence before the last line is a column of the table. Exits 1 where a case ends in a traceback, with
another status than it should, or in more lines of error than it should.
"""

import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from progrpo.cli import EXIT_STATUSES

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "bad_inputs.md"
EMBEDDED = ROOT / "src" / "progrpo" / "embedded" / "countdown"
GAME = {"name": "countdown", "numbers": 3, "max_number": 6, "max_target": 20, "min_used": 2, "min_solutions": 1}
RECIPE = {
    "steps": 2,
    "out": "run",
    "model": {"path": "embedded:countdown", "device": "cpu"},
    "task": GAME | {"train_size": 8, "test_size": 2},
    "method": {"name": "progrpo"},
    "sampling": {"max_new_tokens": 8},
    "batch": {"prompts": 2, "group": 2},
}
FILE_TASK = {"name": "file", "train": "problems.jsonl", "chat": False}
ROWS: tuple[Mapping[str, Any], ...] = tuple({"prompt": f"{n}+{n}=", "answer": str(2 * n)} for n in range(6))


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What a case does: a command line, and what the process meets.

    Attributes:
        before: a command line that must succeed first. status: the exit status it should have.
        environment: variables on top of the usual ones. limit_bytes: the largest file it may write.
        kill: when it is sent SIGTERM: at this line of its output, or after so many seconds.
    """

    words: Sequence[str]
    before: Sequence[str] = ()
    status: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    limit_bytes: int | None = None
    kill: str | float = 1e3


Make = Callable[[Path], Given]
CASES: list[tuple[str, str, Make]] = []
"""(section, description, what makes it in an empty folder), in the order of the page."""


def case(section: str, description: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        CASES.append((section, description, make))
        return make

    return add


def recipe(here: Path, *overrides: str, **changes: Any) -> list[str]:
    """`progrpo train` on a recipe of a few seconds, with whole sections replaced."""
    settings = {key: value for key, value in (RECIPE | changes).items() if value is not None}
    (here / "recipe.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    return ["train", "recipe.yaml", *overrides]


def text_recipe(here: Path, text: bytes) -> list[str]:
    (here / "recipe.yaml").write_bytes(text)
    return ["train", "recipe.yaml"]


def problems(here: Path, content: bytes | Sequence[Mapping[str, Any]], **changes: Any) -> list[str]:
    """The same on a file of the user's own problems."""
    if not isinstance(content, bytes):
        content = "".join(json.dumps(row) + "\n" for row in content).encode()
    name = changes.pop("name", "problems.jsonl")
    (here / name).write_bytes(content)
    return recipe(here, task=FILE_TASK | {"train": name} | changes)


def model(here: Path, **changes: Callable[[Path], object] | None) -> list[str]:
    """The same on a copy of the embedded model, of which files are changed (None: removed)."""
    folder = here / "model"
    shutil.copytree(EMBEDDED, folder)
    for name, change in changes.items():
        path = folder / {
            "config": "config.json",
            "weights": "model.safetensors",
            "generation": "generation_config.json",
        }.get(name, f"{name}.json")
        if change is None:
            path.unlink()
        else:
            change(path)
    return recipe(here, model={"path": "./model", "device": "cpu"})


def edit(**changes: Any) -> Callable[[Path], object]:
    """Set keys of a JSON file; None removes one."""

    def change(path: Path) -> None:
        data = json.loads(path.read_text("utf-8")) | changes
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), "utf-8")

    return change


def own_file(here: Path, name: str, source: str) -> str:
    (here / name).write_text(source, "utf-8")
    return f"./{name}"


def reward(here: Path, source: str) -> list[str]:
    return recipe(here, f"reward.name={own_file(here, 'mine.py', source)}")


# --- recipes and settings ---

RECIPES = "Recipes and settings"


@case(RECIPES, "a recipe that is not there")
def _(here: Path) -> Given:
    return Given(words=["train", "recipes/mth.yaml"])


@case(RECIPES, "a recipe that is no YAML")
def _(here: Path) -> Given:
    return Given(words=text_recipe(here, b"steps: [1\nmodel: x\n"))


@case(RECIPES, "a recipe in Latin-1")
def _(here: Path) -> Given:
    return Given(words=text_recipe(here, "# übung\nsteps: 2\n".encode("latin-1")))


@case(RECIPES, "an empty recipe")
def _(here: Path) -> Given:
    return Given(words=text_recipe(here, b""))


@case(RECIPES, "a recipe whose key is a list")
def _(here: Path) -> Given:
    return Given(words=text_recipe(here, b"? [steps]\n: 2\n"))


@case(RECIPES, "a key that stands twice")
def _(here: Path) -> Given:
    return Given(words=text_recipe(here, b"steps: 2\nsteps: 3\n"))


@case(RECIPES, "a section without a value")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "optim="))


@case(RECIPES, "an unknown key")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "optim.lrr=1e-6"))


@case(RECIPES, "a key of another section")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "temperature=0.7"))


@case(RECIPES, "text where a number belongs")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "optim.lr=fast"))


@case(RECIPES, "not a number")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "optim.lr=.nan"))


@case(RECIPES, "a number out of range")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "method.alpha=-1"))


@case(RECIPES, "two settings that do not agree")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "batch.prompts=3", "batch.minibatch_prompts=2"))


@case(RECIPES, "a mistyped method")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "method.name=progpro"))


@case(RECIPES, "a mistyped task")
def _(here: Path) -> Given:
    return Given(words=["evaluate", "embedded:countdown", "--task", "aime42"])


@case(RECIPES, "an override without a value")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "task.numbers"))


@case(RECIPES, "a list of no such kind")
def _(here: Path) -> Given:
    return Given(words=["list", "methds"])


# --- run directories and the disk ---

DISK = "Run directories and the disk"


@case(DISK, "`out` holds another run")
def _(here: Path) -> Given:
    return Given(words=recipe(here), before=recipe(here))


@case(DISK, "`out` holds something else")
def _(here: Path) -> Given:
    (here / "run").mkdir()
    (here / "run" / "thesis.txt").write_text("precious")
    return Given(words=recipe(here))


@case(DISK, "`out` lies below a file")
def _(here: Path) -> Given:
    (here / "notes").write_text("a file")
    return Given(words=recipe(here, "out=notes/run"))


@case(DISK, "`out` where nothing can be written")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "out=/proc/run"))


@case(DISK, "`out` longer than a name may be")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "out=" + "x" * 300))


@case(DISK, "files may not grow as large as a checkpoint (`ulimit -f`)")
def _(here: Path) -> Given:
    return Given(words=recipe(here), limit_bytes=1_000_000, status=3)


@case(DISK, "files may not grow so large, found by `--dry-run`")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "--dry-run"), limit_bytes=1_000_000, status=1)


@case(DISK, "a table on a full disk (`verify --out`)")
def _(here: Path) -> Given:
    rows = "".join(json.dumps({"id": n, "completion": "\\boxed{1}", "answer": "1"}) + "\n" for n in range(200))
    (here / "answers.jsonl").write_text(rows)
    return Given(words=["verify", "answers.jsonl", "--out", "verdicts.jsonl"], limit_bytes=10_000, status=3)


@case(DISK, "resumed with another seed")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "seed=7", "--resume"), before=recipe(here))


@case(DISK, "all checkpoints damaged")
def _(here: Path) -> Given:
    code = "from pathlib import Path; [one.write_bytes(b'') for one in Path('run').rglob('manifest.json')]"
    words = recipe(here, "steps=4", "--resume")
    before = recipe(here)
    return Given(words=words, before=["-c", f"import sys; sys.argv[1:] = {before}; exec({AND_THEN!r}); {code}"])


AND_THEN = """
from progrpo.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""


@case(DISK, "a report of no run")
def _(here: Path) -> Given:
    (here / "run").mkdir()
    return Given(words=["report", "run"])


@case(DISK, "a comparison with a run that is not there")
def _(here: Path) -> Given:
    return Given(words=["compare", "runs/a", "runs/b"])


# --- problems ---

DATA = "Problems and their answers"


@case(DATA, "a file that is not there")
def _(here: Path) -> Given:
    return Given(words=recipe(here, task=FILE_TASK))


@case(DATA, "a file that is not there, found by `--dry-run`")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "--dry-run", task=FILE_TASK), status=1)


@case(DATA, "an empty file")
def _(here: Path) -> Given:
    return Given(words=problems(here, b""))


@case(DATA, "a line that is no JSON")
def _(here: Path) -> Given:
    return Given(words=problems(here, b'{"prompt": "1+1=", "answer": "2"}\nprompt: 2+2=\n'))


@case(DATA, "a line cut short")
def _(here: Path) -> Given:
    return Given(words=problems(here, b'{"prompt": "1+1=", "answer": "2"}\n{"prompt": "2+'))


@case(DATA, "a line in Latin-1")
def _(here: Path) -> Given:
    return Given(words=problems(here, '{"prompt": "größer", "answer": "2"}\n'.encode("latin-1")))


@case(DATA, "a row that is a list")
def _(here: Path) -> Given:
    return Given(words=problems(here, b'["1+1=", "2"]\n'))


@case(DATA, "a row without an answer")
def _(here: Path) -> Given:
    return Given(words=problems(here, [*ROWS, {"prompt": "7+7="}]))


@case(DATA, "an answer that is an object")
def _(here: Path) -> Given:
    return Given(words=problems(here, [*ROWS, {"prompt": "7+7=", "answer": {"value": 14}}]))


@case(DATA, "an answer that is NaN")
def _(here: Path) -> Given:
    return Given(words=problems(here, [*ROWS, {"prompt": "7+7=", "answer": float("nan")}]))


@case(DATA, "an answer that is true")
def _(here: Path) -> Given:
    return Given(words=problems(here, [*ROWS, {"prompt": "7+7=", "answer": True}]))


@case(DATA, "answers that no grader can use")
def _(here: Path) -> Given:
    return Given(words=problems(here, [{**row, "answer": "the answer is unknown"} for row in ROWS]))


@case(DATA, "an id that stands twice")
def _(here: Path) -> Given:
    return Given(words=problems(here, [{**row, "id": min(n, 4)} for n, row in enumerate(ROWS)], id_key="id"))


@case(DATA, "half a character (a lone surrogate) in a prompt")
def _(here: Path) -> Given:
    return Given(words=problems(here, [*ROWS, {"prompt": "1\ud83d=", "answer": "1"}]))


@case(DATA, "a message without content")
def _(here: Path) -> Given:
    return Given(words=problems(here, [{"prompt": [{"role": "user", "content": None}], "answer": "1"}, *ROWS]))


@case(DATA, "a prompt of 30 MB")
def _(here: Path) -> Given:
    return Given(words=problems(here, [{"prompt": "1+" * 15_000_000, "answer": "1"}, *ROWS]))


@case(DATA, "a prompt longer than allowed")
def _(here: Path) -> Given:
    return Given(words=problems(here, [*ROWS, {"prompt": "1+" * 600, "answer": "600"}]))


@case(DATA, "fewer problems than a rollout holds")
def _(here: Path) -> Given:
    return Given(words=[*problems(here, ROWS), "batch.prompts=40"])


@case(DATA, "a damaged Parquet file")
def _(here: Path) -> Given:
    return Given(words=problems(here, b"PAR1 and then nothing", name="problems.parquet"))


@case(DATA, "a Parquet file without such a column")
def _(here: Path) -> Given:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"question": ["1+1="], "gold": ["2"]}), here / "problems.parquet")
    return Given(words=recipe(here, task=FILE_TASK | {"train": "problems.parquet"}))


@case(DATA, "a compressed file cut short")
def _(here: Path) -> Given:
    packed = gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())
    return Given(words=problems(here, packed[:-20], name="problems.jsonl.gz"))


@case(DATA, "a file of an unknown kind")
def _(here: Path) -> Given:
    return Given(words=problems(here, b"1+1=2\n", name="problems.txt"))


@case(DATA, "completions to grade without a completion")
def _(here: Path) -> Given:
    (here / "answers.jsonl").write_text('{"id": 1, "answer": "1"}\n')
    return Given(words=["verify", "answers.jsonl"])


@case(DATA, "rollouts to score that are none")
def _(here: Path) -> Given:
    (here / "rollouts.jsonl").write_text('{"id": 1}\n')
    return Given(words=["score", "rollouts.jsonl"])


# --- models ---

MODELS = "Models and tokenizers"


@case(MODELS, "a mistyped folder")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "model.path=./modles/qwen"))


@case(MODELS, "a mistyped name of the hub, without a network")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "model.path=Qwen/Qwen2.5-0.5B-Instrct"))


@case(MODELS, "a mistyped embedded model")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "model.path=embedded:cuontdown"))


@case(MODELS, "a mistyped model, found by `--dry-run`")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "model.path=./modles/qwen", "--dry-run"), status=1)


@case(MODELS, "a folder that is no model")
def _(here: Path) -> Given:
    (here / "model").mkdir()
    return Given(words=recipe(here, "model.path=./model"))


@case(MODELS, "a `config.json` that is no JSON")
def _(here: Path) -> Given:
    return Given(words=model(here, config=lambda path: path.write_text("{")))


@case(MODELS, "a `config.json` of an unknown architecture")
def _(here: Path) -> Given:
    return Given(words=model(here, config=edit(model_type="qwen99", architectures=["Qwen99ForCausalLM"])))


@case(MODELS, "no weights")
def _(here: Path) -> Given:
    return Given(words=model(here, weights=None))


@case(MODELS, "weights cut short")
def _(here: Path) -> Given:
    return Given(words=model(here, weights=lambda path: path.write_bytes(path.read_bytes()[:100_000])))


@case(MODELS, "weights that lack a layer")
def _(here: Path) -> Given:
    def drop(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        kept = {name: tensor for name, tensor in load_file(path).items() if ".layers.1." not in name}
        save_file(kept, path, metadata={"format": "pt"})

    return Given(words=model(here, weights=drop))


@case(MODELS, "weights of another size than the configuration says")
def _(here: Path) -> Given:
    return Given(words=model(here, config=edit(intermediate_size=256)))


@case(MODELS, "weights that are not numbers")
def _(here: Path) -> Given:
    def spoil(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path, {"format": "pt"})

    return Given(words=model(here, weights=spoil))


@case(MODELS, "a model that is not causal (BERT)")
def _(here: Path) -> Given:
    from transformers import BertConfig, BertLMHeadModel

    words = model(here, weights=None)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertLMHeadModel(BertConfig(vocab_size=21, pad_token_id=0, eos_token_id=1, **small)).save_pretrained(here / "model")
    return Given(words=words)


@case(MODELS, "no tokenizer")
def _(here: Path) -> Given:
    return Given(words=model(here, tokenizer=None, tokenizer_config=None))


@case(MODELS, "a damaged tokenizer")
def _(here: Path) -> Given:
    return Given(words=model(here, tokenizer=lambda path: path.write_bytes(path.read_bytes()[:500])))


@case(MODELS, "an end token that the model does not embed")
def _(here: Path) -> Given:
    changes = {"config": edit(eos_token_id=None), "generation": edit(eos_token_id=None)}
    return Given(words=model(here, **changes, tokenizer_config=edit(eos_token=None)))


@case(MODELS, "tokens beyond the embedding's rows")
def _(here: Path) -> Given:
    def shrink(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        found = load_file(path)
        save_file(
            {name: one[:12].clone() if "embed" in name else one for name, one in found.items()}, path, {"format": "pt"}
        )

    return Given(words=model(here, config=edit(vocab_size=12), weights=shrink))


@case(MODELS, "prompt and completion beyond the model's positions")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "sampling.max_new_tokens=250"))


@case(MODELS, "chat messages for a tokenizer without a template")
def _(here: Path) -> Given:
    return Given(words=problems(here, ROWS, chat=True))


@case(MODELS, "a chat template that refuses a system message")
def _(here: Path) -> Given:
    words = model(here)
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}x"
    (here / "model" / "chat_template.jinja").write_text(template)
    row = {"prompt": [{"role": "system", "content": "1"}, {"role": "user", "content": "1+1="}], "answer": "2"}
    (here / "problems.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [row, *ROWS]))
    return Given(words=[*words, "task={name: file, train: problems.jsonl}"])


# --- the machine ---

MACHINE = "What the machine lacks"


@case(MACHINE, "a GPU")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "model.device=cuda"), environment={"CUDA_VISIBLE_DEVICES": ""})


@case(MACHINE, "a device of no such kind")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "model.device=quantum"))


@case(MACHINE, "an engine")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "engine.name=vlm"))


@case(MACHINE, "a tracker's package")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "record.trackers=[trackio]"))


@case(MACHINE, "a sandbox for programs")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "reward.name=code"), environment={"PATH": str(here)})


# --- files of the user's own ---

OWN = "Files of your own"


@case(OWN, "a reward that is not there")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "reward.name=./rewards/mine.py"))


@case(OWN, "a reward with a syntax error")
def _(here: Path) -> Given:
    return Given(words=reward(here, "def score(text, problem):\n    retrun 1\n"))


@case(OWN, "a reward that imports what is not installed")
def _(here: Path) -> Given:
    source = "import not_installed\n\ndef score(text, problem):\n    return 1\n"
    return Given(words=reward(here, source))


@case(OWN, "a reward that raises")
def _(here: Path) -> Given:
    source = "def score(text, problem):\n    first, second = text.split('####')\n    return float(second)\n"
    return Given(words=reward(here, source), status=3)


@case(OWN, "a reward that gives text")
def _(here: Path) -> Given:
    source = "def score(text, problem):\n    return 'right'\n"
    return Given(words=reward(here, source), status=3)


@case(OWN, "a reward that gives NaN")
def _(here: Path) -> Given:
    source = "def score(text, problem):\n    return float('nan')\n"
    return Given(words=reward(here, source), status=3)


@case(OWN, "a reward without `score`")
def _(here: Path) -> Given:
    return Given(words=reward(here, "def clean(text):\n    return text\n\ndef scroe(text, problem):\n    return 1\n"))


@case(OWN, "a task that raises while it loads")
def _(here: Path) -> Given:
    source = (
        "from progrpo.settings import Settings\nREWARD = 'math'\n\nclass Params(Settings):\n    pass\n\n"
        "def load(split, params):\n    return [row['problem'] for row in [{'prompt': '1+1='}]]\n"
    )
    return Given(words=recipe(here, task={"name": own_file(here, "mine.py", source)}))


@case(OWN, "a method that raises")
def _(here: Path) -> Given:
    source = "def advantages(batch, params):\n    return batch.rewards - batch.baseline\n"
    return Given(words=recipe(here, method={"name": own_file(here, "mine.py", source)}))


@case(OWN, "a method that calls an equation with another shape")
def _(here: Path) -> Given:
    source = (
        "from progrpo.algo.advantages import group_advantages\n\n"
        "def advantages(batch, params):\n    return group_advantages(batch.rewards[0])\n"
    )
    return Given(words=recipe(here, method={"name": own_file(here, "mine.py", source)}))


@case(OWN, "a hook with a mistyped name")
def _(here: Path) -> Given:
    source = "def advantagse(batch, params):\n    return batch.rewards\n"
    return Given(words=recipe(here, method={"name": own_file(here, "mine.py", source)}))


# --- signals ---

SIGNALS = "Signals"


@case(SIGNALS, "SIGTERM in a run")
def _(here: Path) -> Given:
    return Given(words=recipe(here, "steps=2000", "evaluate.every=0"), kill="step ", status=143)


@case(SIGNALS, "SIGTERM in an evaluation")
def _(here: Path) -> Given:
    words = ["evaluate", "embedded:countdown", "-n", "512", "task.test_size=400"]
    return Given(words=words, kill=20.0, status=143)


# --- running them and writing the page ---


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a case ended.

    Attributes:
        lines: on standard error. seconds: from start to end. silence: the longest time in which nothing was added to them,
            before the last that was.
    """

    status: int
    lines: tuple[str, ...]
    seconds: float
    silence: float

    @property
    def message(self) -> str:
        """What was wrong, of which a dry run gives several; or the last line."""
        said = [line for line in self.lines if line.startswith("error:")]
        return " ⏎ ".join(said) or (self.lines[-1] if self.lines else "")


def run(given: Given, here: Path) -> Ended:
    usual = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"}
    environment = os.environ | usual | {"PYTHONPATH": str(ROOT / "src")} | dict(given.environment)
    if given.before:
        start = ["-m", "progrpo"] if given.before[0] != "-c" else []
        subprocess.run(
            [sys.executable, *start, *given.before], cwd=here, env=environment, check=True, capture_output=True
        )

    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "progrpo", *given.words],
        cwd=here,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if given.limit_bytes is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (given.limit_bytes, resource.RLIM_INFINITY))
    timers = [threading.Timer(300, process.kill)]
    if isinstance(given.kill, float):
        timers.append(threading.Timer(given.kill, process.terminate))
    for timer in timers:
        timer.start()
    assert process.stderr is not None
    text, moments, sent = b"", [0.0], False
    while chunk := os.read(process.stderr.fileno(), 1 << 16):
        text += chunk
        moments.append(time.monotonic() - started)
        if isinstance(given.kill, str) and not sent and f"\n{given.kill}".encode() in text:
            process.terminate()
            sent = True
    status = process.wait()
    for timer in timers:
        timer.cancel()
    silence = max((later - earlier for earlier, later in pairwise(moments)), default=0.0)
    lines = tuple(text.decode("utf-8", "replace").splitlines())
    return Ended(status=status, lines=lines, seconds=time.monotonic() - started, silence=silence)


def faults(given: Given, ended: Ended) -> list[str]:
    """What is wrong with how a case ended."""
    found = []
    text = "\n".join(ended.lines)
    if "Traceback" in text:
        found.append("a traceback")
    if ended.status != given.status:
        found.append(f"status {ended.status}, expected {given.status}")
    errors = [line for line in ended.lines if line.startswith("error:")]
    if given.status in (2, 3) and len(errors) != 1 and not text.startswith("Usage:"):
        found.append(f"{len(errors)} lines of error")
    if given.status in (2, 3) and errors and not ended.lines[-1].startswith("error:"):
        found.append("lines after the error")
    return found


def page(rows: Sequence[tuple[str, str, Ended]], jobs: int) -> str:
    """The whole of docs/bad_inputs.md."""
    slowest = max(rows, key=lambda row: row[2].silence)
    text = [
        "# What goes wrong, and what is said",
        "",
        "Made by `python scripts/bad_inputs.py`, which gives the command line each of these inputs in a process of its own (on "
        "a CPU, without a network) and notes what it prints. What is wrong is said in one line on standard error; a file and "
        "a line are named where there are any. Seconds are from the start of the process to its end, most of them for the "
        f"import of torch and transformers ({jobs} processes side by side on a shared machine of {os.cpu_count()} cores). The "
        "silence is the longest time in which nothing was written before the last line: at most "
        f"{slowest[2].silence:.1f} s ({slowest[1]}).",
        "",
        "| exit status | |",
        "| --: | :-- |",
        *(f"| {status} | {meaning} |" for status, meaning in EXIT_STATUSES.items()),
        "",
    ]
    for section in dict.fromkeys(row[0] for row in rows):
        text += [
            f"## {section}",
            "",
            "| input | what is said | seconds | silence | exit |",
            "| :-- | :-- | --: | --: | --: |",
        ]
        for _, description, ended in (row for row in rows if row[0] == section):
            text.append(row_of(description, ended))
        text.append("")
    return "\n".join(text)


def row_of(description: str, ended: Ended, before: str = "") -> str:
    """The row of a case; with the seconds of the row `before`, where one is given."""
    seconds, silence = before.split(" | ")[-3:-1] if before else (f"{ended.seconds:.1f}", f"{ended.silence:.1f}")
    return f"| {description} | {shown(ended.message)} | {seconds} | {silence} | {ended.status} |"


def shown(message: str) -> str:
    """A message as a cell of a table: paths of this machine and what is too long cut."""
    text = re.sub(r"(/[\w.+-]+)+/(?=bad-inputs-\w+/)bad-inputs-\w+/", "", message).replace(str(ROOT), "")
    text = re.sub(r"(x{20})x+", r"\1…", text)
    text = text if len(text) <= 420 else text[:417] + "..."
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def run_case(make: Make) -> tuple[Given, Ended]:
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as folder:
        given = make(Path(folder))
        return given, run(given, Path(folder))


def main(words: Sequence[str]) -> int:
    jobs = max([1, *(int(word[2:]) for word in words if word.startswith("-j"))])
    said = "--said" in words
    words = [word for word in words if not word.startswith("-j") and word != "--said"]
    chosen = [one for one in CASES if not words or any(word in f"{one[0]} {one[1]}" for word in words)]
    rows, bad = [], 0
    with ThreadPoolExecutor(jobs) as pool:
        ends = pool.map(run_case, [make for _, _, make in chosen])
        for (section, description, _), (given, ended) in zip(chosen, ends, strict=True):
            rows.append((section, description, ended))
            wrong = faults(given, ended)
            bad += bool(wrong)
            numbers = f"{ended.seconds:5.1f} s {ended.silence:5.1f} s  {ended.status:>3}"
            print(f"{numbers}  {description}: {shown(ended.message)}", flush=True)
            if wrong:
                print(
                    f"    FAULT: {'; '.join(wrong)}\n" + "\n".join(f"    | {line}" for line in ended.lines[-25:]),
                    flush=True,
                )
    text = PAGE.read_text("utf-8") if (words or said) and PAGE.exists() else page(rows, jobs)
    for _, description, ended in rows:
        before = next((line for line in text.splitlines() if line.startswith(f"| {description} |")), "")
        text = text.replace(before, row_of(description, ended, before if said else "")) if before else text
    PAGE.write_text(text, "utf-8")
    print(f"{len(rows)} cases, {bad} with a fault")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
