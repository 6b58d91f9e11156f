"""The wheel works without a checkout: it holds the model, the recipes and all files beside the code."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import progrpo

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_run_from_the_wheel_in_a_bare_environment(tmp_path: Path) -> None:
    source = tmp_path / "source"
    copied = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "src", "README.md", "LICENSE", "pyproject.toml"],
                            capture_output=True, text=True, check=True)  # fmt: skip
    for name in filter(None, copied.stdout.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(source)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = {name.removeprefix("src/") for name in copied.stdout.split("\0") if name.startswith("src/")}
    assert tracked <= packed
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(tmp_path / "site"), str(wheel)], check=True
    )

    # Bare: the wheel and what it depends on; neither the checkout, nor what this process was started with.
    here = tmp_path / "here"
    here.mkdir()
    dependencies = sysconfig.get_path("purelib")
    bare = {"PATH": os.environ["PATH"], "HOME": str(here), "PYTHONPATH": f"{tmp_path / 'site'}:{dependencies}"}
    bare |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def run(*words: str) -> str:
        command = [sys.executable, str(tmp_path / "site" / "bin" / "progrpo"), *words]
        found = subprocess.run(command, cwd=here, env=bare, capture_output=True, text=True, timeout=600)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert run("--version") == f"progrpo {progrpo.__version__}\n"
    assert [line.split()[0] for line in run("recipes").splitlines()][:2] == ["math", "demo/balanced"]
    settings = [
        "steps=2",
        "batch.prompts=2",
        "batch.group=4",
        "evaluate.problems=2",
        "evaluate.n=2",
        "verify.check_gold=false",
    ]
    run("train", "demo/progrpo", *settings)
    assert (here / "runs" / "progrpo" / "checkpoints" / "step-000002" / "model.safetensors").is_file()
    run("report", "runs/progrpo")
    assert (here / "runs" / "progrpo" / "report.html").is_file()
    used = subprocess.run([sys.executable, "-c", "import progrpo; print(progrpo.__file__)"],
                          env=bare, cwd=here, capture_output=True, text=True, check=True)  # fmt: skip
    assert used.stdout.strip().startswith(str(tmp_path / "site"))
