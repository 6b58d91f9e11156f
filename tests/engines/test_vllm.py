"""Engine vllm without vLLM: what is asked and what is made of answers, weights on their way, a server that fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from progrpo import engines
from progrpo.cli import app
from progrpo.engines import Engine, Sampling
from progrpo.engines._ends import Ends
from progrpo.engines.vllm import _supervise
from progrpo.engines.vllm.mapping import to_completion, to_sampling
from progrpo.engines.vllm.params import VllmParams
from progrpo.engines.vllm.start import arguments, write_description
from progrpo.engines.vllm.started import StartedServer, environment, flags
from progrpo.engines.vllm.transfer import announcement, chunks
from progrpo.engines.vllm.weights import SentWeights, named_tensors, stored_total
from progrpo.errors import ConfigError, EngineError, NonFiniteError
from progrpo.files import read_jsonl
from progrpo.model import LanguageModel
from progrpo.model.lora import LoraSettings, attach
from progrpo.processes import Processes
from progrpo.settings import Choice
from stand_ins.engine_contract import check_all, requests, tokens
from stand_ins.vllm_server import StandIn, serving

SAMPLING = Sampling(max_new_tokens=6)


@pytest.fixture
def stand_in(tiny_model: LanguageModel) -> Iterator[StandIn]:
    with serving(tiny_model) as one:
        yield one


def engine_on(stand_in: StandIn, model: LanguageModel, **params: Any) -> Engine:
    return engines.load(Choice(name="vllm", mode="server", urls=[stand_in.url], **params), model)


def test_what_is_asked(tiny_model: LanguageModel) -> None:
    sampling = Sampling(max_new_tokens=9, temperature=0.6, top_p=0.9, top_k=5, stop=(7, "ab"))
    asked = to_sampling(sampling, 2**63 - 1, 4, Ends(tiny_model, sampling))
    assert asked["stop_token_ids"] == [1, 7]  # the model's own end token, and that of the settings
    assert (asked["n"], asked["seed"], asked["max_tokens"], asked["logprobs"]) == (1, 2**63 - 1, 4, 0)
    assert (asked["temperature"], asked["top_p"], asked["top_k"], asked["stop"]) == (0.6, 0.9, 5, ["ab"])
    # Nothing of a model's generation_config.json may act beside.
    assert (asked["repetition_penalty"], asked["min_p"], asked["presence_penalty"]) == (1.0, 0.0, 0.0)


def answer(model: LanguageModel, sampling: Sampling = SAMPLING, **changes: Any) -> Any:
    given: dict[str, Any] = {"seed": 3, "token_ids": [5, 6], "logprobs": [-0.5, -1.5], "reason": "length", "version": 4}
    return to_completion(sampling, Ends(model, sampling), **(given | changes))


def test_what_is_made_of_an_answer(tiny_model: LanguageModel) -> None:
    one = answer(tiny_model)
    assert (one.seed, one.finish, one.policy_version, one.logprobs_of) == (3, "length", 4, "tempered")
    assert one.token_ids.tolist() == [5, 6]
    assert one.sampler_logprobs.tolist() == [-0.5, -1.5]
    assert one.raw_logprobs is None
    # What vLLM reports is of the distribution it drew from: cut where top-p or top-k cut it, and named so.
    cut = answer(tiny_model, Sampling(max_new_tokens=6, top_p=0.9, raw=True))
    assert (cut.logprobs_of, cut.raw_logprobs) == ("drawn", None)
    assert answer(tiny_model, Sampling(max_new_tokens=6, raw=True)).raw_logprobs.tolist() == [-0.5, -1.5]
    assert answer(tiny_model, Sampling(max_new_tokens=6, raw=True, temperature=0.6)).raw_logprobs is None
    # What stands after the first stop string goes.
    text = tiny_model.decode(torch.tensor([6]))
    stopped = answer(tiny_model, Sampling(max_new_tokens=6, stop=(text,)), token_ids=[5, 6, 8], logprobs=[-1.0] * 3)
    assert (stopped.token_ids.tolist(), stopped.finish) == ([5, 6], "stop")


def test_answers_that_are_none(tiny_model: LanguageModel) -> None:
    with pytest.raises(EngineError, match="seed 3 ended as 'abort' after 2 tokens"):
        answer(tiny_model, reason="abort")
    with pytest.raises(EngineError, match="1 log-probs came with 2 tokens"):
        answer(tiny_model, logprobs=[-1.0])
    for bad in (float("nan"), None):
        with pytest.raises(NonFiniteError, match="log-probs of seed 3 are nan"):
            answer(tiny_model, logprobs=[bad, -1.0])


def test_the_contract_of_engines(stand_in: StandIn, tiny_model: LanguageModel) -> None:
    ours, hf = engine_on(stand_in, tiny_model), engines.load(Choice(name="hf"), tiny_model)
    check_all(ours, hf, tiny_model)
    seeds = [body["seed"] for body in stand_in.bodies[:10]]
    assert sorted(seeds) == sorted(seed for request in requests(tiny_model) for seed in request.seeds)
    assert {body["n"] for body in stand_in.bodies} == {1}


def test_weights_arrive_and_the_version_with_them(stand_in: StandIn, tiny_model: LanguageModel) -> None:
    ours, hf = engine_on(stand_in, tiny_model), engines.load(Choice(name="hf"), tiny_model)
    for version in (3, 5):
        with torch.no_grad():
            for parameter in tiny_model.model.parameters():
                parameter.mul_(0.9)
        ours.update_weights(tiny_model.model.named_parameters(), version)
        assert (stand_in.version, ours.version) == (str(version), version)
        results = ours.generate(requests(tiny_model), SAMPLING)
        assert tokens(results) == tokens(hf.generate(requests(tiny_model), SAMPLING))
        assert {one.policy_version for result in results for one in result.completions} == {version}
    kept = ("/pause?mode=wait", "/start_weight_update", "/finish_weight_update", "/reset_prefix_cache", "/resume")
    assert [path for path in stand_in.calls if path in kept] == [*kept, *kept]
    aborting = engine_on(stand_in, tiny_model, in_flight="abort")
    aborting.update_weights(tiny_model.model.named_parameters(), 6)
    assert "/pause?mode=abort" in stand_in.calls


def test_several_servers_share_the_groups_and_hold_one_policy(tiny_model: LanguageModel) -> None:
    hf = engines.load(Choice(name="hf"), tiny_model)
    with serving(tiny_model) as one, serving(tiny_model) as two:
        ours = engines.load(Choice(name="vllm", mode="server", urls=[one.url, two.url]), tiny_model)
        ours.update_weights(tiny_model.model.named_parameters(), 4)
        assert (one.version, two.version) == ("4", "4")
        assert tokens(ours.generate(requests(tiny_model), SAMPLING)) == tokens(
            hf.generate(requests(tiny_model), SAMPLING)
        )
        # Groups 0 and 2 go to the first server, 1 and 3 to the second.
        seeds = [sorted(body["seed"] for body in server.bodies) for server in (one, two)]
        assert seeds == [[1, 3, 6, 2**62 + 3], [4, 5, 7, 8, 9, 10]]
        two.faults.add("ignore")
        with torch.no_grad():
            for parameter in tiny_model.model.parameters():
                parameter.mul_(0.5)
        with pytest.raises(EngineError, match="does not hold the weights that were sent"):
            ours.update_weights(tiny_model.model.named_parameters(), 5)


def test_of_several_processes_the_main_one_sends(
    stand_in: StandIn, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = engine_on(stand_in, tiny_model)
    monkeypatch.setattr("progrpo.engines.vllm.server.launched", lambda: Processes(rank=1, count=2))
    other = engine_on(stand_in, tiny_model, start_timeout_s=60)
    taken: list[str] = []

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, parameter in tiny_model.model.named_parameters():
            taken.append(name)
            yield name, parameter

    thread = threading.Thread(target=other.update_weights, args=(tensors(), 3), daemon=True)
    thread.start()
    main.update_weights(tiny_model.model.named_parameters(), 3)
    thread.join(60.0)
    assert not thread.is_alive()
    # It gathers each tensor, which takes every process, and goes on when the server holds them.
    assert taken == [name for name, _ in tiny_model.model.named_parameters()]
    assert stand_in.calls.count("/start_weight_update") == 1
    assert tokens(other.generate(requests(tiny_model), SAMPLING)) == tokens(
        main.generate(requests(tiny_model), SAMPLING)
    )


def test_an_evaluation_over_a_server(stand_in: StandIn, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    """At the paper's top-p 0.95 the log-probs are those of what was drawn from: no statistics are made of them."""
    words = ["evaluate", str(tiny_folder()), "--task", "countdown", "-n", "2", "--out", str(tmp_path / "e")]
    words += ["engine.name=vllm", "engine.mode=server", f"engine.urls=[{stand_in.url}]", "evaluate.problems=2"]
    result = CliRunner().invoke(app, [*words, "max_new_tokens=8"])
    assert result.exit_code == 0, result.output
    assert {body["top_p"] for body in stand_in.bodies} == {0.95}
    (path,) = (tmp_path / "e" / "evaluations").glob("*.jsonl")
    rows = [row for row in read_jsonl(path) if "samples" in row and isinstance(row["samples"], list)]
    assert len(rows) == 2
    assert {str(sample.get("tempered")) for row in rows for sample in row["samples"]} == {"None"}


def test_a_sync_that_did_not_take_is_an_error(stand_in: StandIn, tiny_model: LanguageModel) -> None:
    ours = engine_on(stand_in, tiny_model)
    ours.update_weights(tiny_model.model.named_parameters(), 0)
    stand_in.faults.add("ignore")
    with torch.no_grad():
        for parameter in tiny_model.model.parameters():
            parameter.add_(1e-5)  # too little to be seen in the size of the gap
    with pytest.raises(EngineError, match="the sync of step 1 changed nothing"):
        ours.update_weights(tiny_model.model.named_parameters(), 1)
    with torch.no_grad():
        for parameter in tiny_model.model.parameters():
            parameter.mul_(0.5)
    with pytest.raises(EngineError, match="after the sync of step 2 .* does not hold the weights that were sent"):
        ours.update_weights(tiny_model.model.named_parameters(), 2)


def test_rollouts_and_syncs_leave_no_connections_behind(
    stand_in: StandIn, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progrpo.engines.vllm.server.chunks", lambda named: chunks(named, size=1))
    ours = engine_on(stand_in, tiny_model, connections=4)
    ours.update_weights(tiny_model.model.named_parameters(), 0)
    before = len(os.listdir("/dev/fd"))
    for version in range(1, 5):
        ours.generate(requests(tiny_model), SAMPLING)
        ours.update_weights(tiny_model.model.named_parameters(), version)
    assert stand_in.calls.count("/update_weights") >= 5 * 4  # several chunks a sync, each in a thread of its own
    # 4 connections at a time, both ends in this process.
    assert eventually(lambda: len(os.listdir("/dev/fd")) <= before + 2 * 4, seconds=5.0)
    ours.close()
    assert eventually(lambda: len(os.listdir("/dev/fd")) <= before, seconds=5.0)


def test_somebody_else_s_weights_are_noticed(stand_in: StandIn, tiny_model: LanguageModel) -> None:
    ours = engine_on(stand_in, tiny_model)
    ours.update_weights(tiny_model.model.named_parameters(), 2)
    stand_in.version = "17"
    with pytest.raises(EngineError, match="before sampling the server holds the weights of step 17; expected 2"):
        ours.generate(requests(tiny_model), SAMPLING)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("abort", "ended as 'abort'"),
        ("refuse", "answered 500 .*out of memory"),
        ("hang", "nothing came back for 0.5 s with 10 completions outstanding: the server hangs"),
    ],
)
def test_a_server_that_fails_is_one_line(
    stand_in: StandIn, tiny_model: LanguageModel, fault: str, message: str
) -> None:
    ours: Any = engine_on(stand_in, tiny_model)
    ours.update_weights(tiny_model.model.named_parameters(), 0)
    if fault == "hang":
        ours._params = ours._params.model_copy(update={"timeout_s": 0.5})
    stand_in.faults.add(fault)
    with pytest.raises(EngineError, match=message) as raised:
        ours.generate(requests(tiny_model), SAMPLING)
    assert "\n" not in str(raised.value)


def test_what_on_done_raises_gives_the_rest_up(stand_in: StandIn, tiny_model: LanguageModel) -> None:
    ours = engine_on(stand_in, tiny_model, connections=1)
    ours.update_weights(tiny_model.model.named_parameters(), 0)

    def stop(index: int, result: Any) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        ours.generate(requests(tiny_model), SAMPLING, on_done=stop)
    asked = len(stand_in.bodies)
    assert asked < 10
    assert len(ours.generate(requests(tiny_model), SAMPLING)) == 4  # the engine goes on


def test_a_server_that_is_not_there(tiny_model: LanguageModel) -> None:
    with pytest.raises(EngineError, match=r"http://127.0.0.1:9 is gone \(ConnectionRefusedError"):
        engines.load(Choice(name="vllm", mode="server", urls=["http://127.0.0.1:9"]), tiny_model)
    with pytest.raises(ConfigError, match="'127.0.0.1:8000' is no address of a server"):
        engines.load(Choice(name="vllm", mode="server", urls=["127.0.0.1:8000"]), tiny_model)


def test_settings_that_do_not_go_together(tiny_model: LanguageModel, stand_in: StandIn) -> None:
    for data in ({"mode": "server"}, {"mode": "server", "start": True, "urls": ["http://x"]}):
        with pytest.raises(ConfigError, match="one of the two"):
            engines.choose(Choice(name="vllm", **data))
    with pytest.raises(ConfigError, match="belong to mode=server"):
        engines.choose(Choice(name="vllm", start=True))
    with pytest.raises(ConfigError, match=r"temperature=2.5: vLLM draws at 2 at most"):
        engine_on(stand_in, tiny_model).generate(requests(tiny_model), Sampling(max_new_tokens=3, temperature=2.5))


def test_arguments_and_flags(tiny_model: LanguageModel) -> None:
    chosen = arguments(tiny_model, VllmParams(max_rows=8, arguments={"block_size": 16}))
    assert (chosen["max_num_seqs"], chosen["block_size"], chosen["max_model_len"]) == (8, 16, 512)
    assert (chosen["dtype"], chosen["logprobs_mode"], chosen["enforce_eager"]) == (
        "float32",
        "processed_logprobs",
        True,
    )
    made = flags({"max_num_seqs": 8, "enable_chunked_prefill": False, "enforce_eager": True, "a": None, "b": {"c": 1}})
    assert made == ["--max-num-seqs", "8", "--no-enable-chunked-prefill", "--enforce-eager", "--b", '{"c": 1}']
    given = environment({"RANK": "1", "PATH": "/bin", "VLLM_LOGGING_LEVEL": "INFO"})
    assert "RANK" not in given
    assert (given["PATH"], given["VLLM_LOGGING_LEVEL"], given["VLLM_SERVER_DEV_MODE"]) == ("/bin", "INFO", "1")


def test_a_model_is_described_without_its_weights(tiny_model: LanguageModel, tmp_path: Path) -> None:
    write_description(tiny_model, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "tokenizer.json"} <= names
    assert not any(name.endswith(".safetensors") for name in names)


def test_an_adapter_is_merged_on_the_way(tiny_model: LanguageModel) -> None:
    plain = {name: tensor.detach().clone() for name, tensor in tiny_model.model.named_parameters()}
    attach(tiny_model.model, LoraSettings(r=2, alpha=6, target=("q_proj", "down_proj")), "base")
    unchanged = dict(named_tensors(tiny_model, tiny_model.model.named_parameters()))
    assert unchanged.keys() == plain.keys()
    assert all(torch.equal(unchanged[name], plain[name]) for name in plain)
    with torch.no_grad():
        for name, parameter in tiny_model.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    layer = tiny_model.model.model.layers[1].mlp.down_proj
    a = layer.lora_A["default"].weight.detach()
    sent = dict(named_tensors(tiny_model, tiny_model.model.named_parameters()))
    name = "model.layers.1.mlp.down_proj.weight"
    # W + (6 / 2) B A, every row of B A the same: half the sum of A's rows.
    assert torch.allclose(sent[name], plain[name] + 3 * 0.5 * a.sum(dim=0))
    untouched = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(sent[untouched], plain[untouched])


def test_sums_over_what_was_sent(tiny_model: LanguageModel) -> None:
    def take(count: int | None) -> SentWeights:
        sent = SentWeights(tiny_model.model.named_parameters())
        for number, _ in enumerate(sent):
            if number == count:
                break
        return sent

    stored = stored_total(tiny_model.model)
    take(None).require_taken(stored, tiny_model, 1)
    take(None).require_taken(None, tiny_model, 1)
    with pytest.raises(EngineError, match="read 3 tensors of step 1 and not the rest"):
        take(2).require_taken(stored, tiny_model, 1)
    assert stored is not None
    with pytest.raises(EngineError, match="some were not sent, or not taken"):
        take(None).require_taken(stored + 1, tiny_model, 1)
    packed = torch.nn.Linear(2, 2)
    packed.weight = torch.nn.Parameter(torch.empty(0))
    assert stored_total(packed) is None


def test_chunks_hold_what_fits_and_one_at_least() -> None:
    tensors = [(str(size), torch.ones(size)) for size in (2, 1, 5, 1)]  # 8, 4, 20 and 4 bytes
    found = [[name for name, _ in chunk] for chunk in chunks(tensors, size=12)]
    assert found == [["2", "1"], ["5"], ["1"]]
    told = announcement(tensors[:2])
    assert told == {"names": ["2", "1"], "dtypes": ["float32", "float32"], "shapes": [[2], [1]], "total": 3.0}


SERVER = """
import http.server, os, subprocess, sys
folder, port = sys.argv[1], int(sys.argv[sys.argv.index("--port") + 1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(os.environ["PIDS"], "w").write(f"{os.getpid()} {child.pid}")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def test_a_started_server_is_ended_with_all_it_started(
    tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    params = VllmParams(mode="server", start=True)
    started = StartedServer(tiny_model, params, program=("-c", SERVER))
    server = engines._http.HttpServer(started.url, engine="vllm", timeout_s=5.0)
    started.await_ready(server, 60.0)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    started.close()
    assert all(gone(pid) for pid in pids)


def test_a_server_that_cannot_start_says_why(tiny_model: LanguageModel) -> None:
    params = VllmParams(mode="server", start=True)
    started = StartedServer(tiny_model, params, program=("-c", "raise ValueError('no such device')"))
    server = engines._http.HttpServer(started.url, engine="vllm", timeout_s=5.0)
    with pytest.raises(EngineError, match="the server ended while it started: .*ValueError: no such device"):
        started.await_ready(server, 60.0)
    started.close()


def test_the_server_dies_with_a_trainer_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, time; command = [sys.executable, '-c', sys.argv[2], 'x', '--port', '0']; "
        "subprocess.Popen([sys.executable, sys.argv[1], str(os.getpid()), *command], start_new_session=True); time.sleep(600)"
    )
    pids = tmp_path / "pids"
    trainer = subprocess.Popen(
        [sys.executable, "-c", program, _supervise.__file__, SERVER], env=os.environ | {"PIDS": str(pids)}
    )
    assert eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    assert eventually(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))
