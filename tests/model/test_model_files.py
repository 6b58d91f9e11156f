import json
import logging
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from progrpo.errors import ModelError
from progrpo.model import ModelSettings, count_parameters, load_model, load_tokenizer
from progrpo.model import files as model_files

Folder = Callable[..., Path]


def load(path: Path | str) -> None:
    load_model(ModelSettings(path=str(path), device="cpu"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The hub is at another address, and is asked anew."""

    def at(endpoint: str) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        model_files._asked_hub.cache_clear()

    return at


@pytest.fixture
def silent_host() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("./qwen-tiny", r"no such folder \(did you mean qwen-tiny-a\?\)"),
        ("runs/a/checkpoints/step-000010", "no such folder"),  # too many parts for a hub id
        ("my model", "no such folder"),
        ("qwen-tiny", r"there is no folder of this name \(did you mean qwen-tiny-a\?\), and HF_HUB_OFFLINE is set"),
        ("nobody/nothing", "there is no folder of this name, and HF_HUB_OFFLINE is set"),
        ("data", "holds no config.json; did you mean data/qwen"),
        ("run", "it is a run directory; give one of its checkpoints, for instance run/checkpoints/step-000002"),
        ("file.txt", "is a file"),
    ],
)
def test_a_mistyped_path_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for one in ("qwen-tiny-a", "data/qwen", "run/checkpoints/step-000001", "run/checkpoints/step-000002"):
        (tmp_path / one).mkdir(parents=True)
        (tmp_path / one / "config.json").write_text("{}")
    (tmp_path / "file.txt").write_text("")
    for read in (load, load_tokenizer_of, count_parameters):
        with pytest.raises(ModelError, match=said) as caught:
            read(path)
        assert "connect" not in str(caught.value)
        assert "\n" not in str(caught.value)


def load_tokenizer_of(path: str) -> None:
    load_tokenizer(ModelSettings(path=path))


def test_a_hub_that_refuses_is_said_at_once(online: Callable[[str], None], caplog: pytest.LogCaptureFixture) -> None:
    online("http://127.0.0.1:9")  # the port of "discard", where nobody listens
    started = time.monotonic()
    for read in (load, load_tokenizer_of, count_parameters):
        with pytest.raises(ModelError, match=r"nobody/nothing.*http://127.0.0.1:9 cannot be reached") as caught:
            read("nobody/nothing")
        assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 5
    assert not caplog.records


def test_a_hub_that_is_silent_is_given_up(
    online: Callable[[str], None], silent_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "_HUB_LIMIT_S", 0.2)
    online(silent_host)
    started = time.monotonic()
    with pytest.raises(ModelError, match="nobody/nothing.*cannot be reached"):
        load("nobody/nothing")
    assert time.monotonic() - started < 1


def test_without_the_hub_its_cache_serves(
    online: Callable[[str], None],
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored = tmp_path / "models--somebody--tiny"
    (stored / "snapshots").mkdir(parents=True)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("a" * 40)
    (stored / "snapshots" / ("a" * 40)).symlink_to(tiny_folder())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert model_files.source("somebody/tiny") == ("somebody/tiny", {"local_files_only": True})
    assert not caplog.records  # HF_HUB_OFFLINE is set: the user knows
    online("http://127.0.0.1:9")
    assert model_files.source("somebody/tiny") == ("somebody/tiny", {"local_files_only": True})
    assert "taking the files of its cache" in caplog.text


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("model.safetensors", r"model.safetensors cannot be read \(.*\): cut short\? Copy or download it again"),
        ("config.json", "cannot be loaded"),
        ("tokenizer.json", "cannot be loaded"),
    ],
)
def test_a_file_that_is_cut_short_is_one_line(tiny_folder: Folder, tmp_path: Path, file: str, said: str) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=said) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_architecture_without_a_causal_form_is_one_line(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "t5", "architectures": ["T5Model"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be loaded: Unrecognized configuration class") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_refused(
    tiny_folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    whole = load_file(folder / "model.safetensors")
    layer = {key: value for key, value in whole.items() if ".layers.1." not in key}
    save_file(layer, folder / "model.safetensors", {"format": "pt"})
    # A Qwen2 layer holds q, k, v with biases, o, gate, up, down and two norms: 12 tensors.
    with pytest.raises(ModelError, match=r"12 tensors are not in the files.*\(model.layers.1.input_layernorm.weight, "):
        load(folder)
    save_file(
        whole | {"model.norm.weight": whole["model.norm.weight"][:5]}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"1 tensors have another shape.*\(model.norm.weight: \[5\] for \[32\]\)"):
        load(folder)
    assert "LOAD REPORT" not in caplog.text
    caplog.clear()
    save_file(whole | {"v_head.weight": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    with caplog.at_level(logging.WARNING):
        load(folder)
    assert [one.getMessage() for one in caplog.records] == [
        f"{folder}: 1 tensors of its files have no place in the model and are left out (v_head.weight)"
    ]


def test_tied_weights_are_not_missing(tiny_folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    whole = load_file(folder / "model.safetensors")
    del whole["lm_head.weight"]
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    load(folder)
    assert not caplog.records
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(ModelError, match=r"1 tensors are not in the files.*\(lm_head.weight\)"):
        load(folder)


def test_a_fingerprint_tells_weights_templates_and_bases_apart(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(chat=True), folder)
    seen = {model_files.fingerprint(str(folder))}

    def changed(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)
        mark = model_files.fingerprint(str(folder))
        assert mark not in seen, name
        seen.add(mark)

    (weights,) = folder.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    changed(weights.name, bytes(data))
    changed("chat_template.jinja", b"{{ messages[-1].content }}")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    changed("tokenizer_config.json", json.dumps({**tokenizer, "extra": 1}).encode())
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    (adapter / "adapter_model.safetensors").write_bytes(b"the same")
    before = model_files.fingerprint(str(adapter))
    changed("chat_template.jinja", b"{{ messages[0].content }}")
    assert model_files.fingerprint(str(adapter)) != before


def test_a_fingerprint_of_large_files_reads_places_all_over_them(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "model.safetensors"
    data = bytearray(8 * 2**20)
    file.write_bytes(data)
    before = model_files.fingerprint(str(tmp_path))
    data[3 * 2**20 : 4 * 2**20] = b"1" * 2**20  # a MiB in the middle
    file.write_bytes(data)
    assert model_files.fingerprint(str(tmp_path)) != before
