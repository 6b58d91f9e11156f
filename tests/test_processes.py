"""Who this process is, as launchers say it, and what one process alone exchanges."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from progrpo.errors import ConfigError, ModelError
from progrpo.processes import ALONE, Processes, join, launched


def test_torchrun_and_accelerate_name_a_rank() -> None:
    environ = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    assert launched(environ) == Processes(rank=5, count=8, local_rank=1)


def test_srun_names_a_rank_and_a_batch_script_none() -> None:
    assert launched({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}) == Processes(
        rank=3, count=4, local_rank=1
    )
    # A batch script is one process, however many tasks the job has.
    assert launched({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}) is ALONE


def test_one_process_is_alone() -> None:
    assert launched({}) is ALONE
    assert launched({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}) is ALONE
    assert join({}) is ALONE
    assert ALONE.main


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "-1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="launcher's environment"):
        launched(environ)


def test_srun_without_a_meeting_point_is_refused() -> None:
    environ = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"}
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        join(environ)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("number", [0, 1, 2, 7, 16])
def test_shares_are_all_there_is_once_and_in_order(count: int, number: int) -> None:
    things = list(range(number))
    parts = [things[Processes(rank=rank, count=count).share(number)] for rank in range(count)]
    assert [thing for part in parts for thing in part] == things
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_gives_back_what_was_put_in() -> None:
    tensor = torch.tensor([1.0, 2.0])
    ALONE.sum(tensor, None)
    ALONE.require_same("anything", tensor)
    ALONE.wait()
    assert tensor.tolist() == [1.0, 2.0]
    assert ALONE.gather("x") == ["x"]
    assert ALONE.same(lambda: 7) == 7

    def fail() -> None:
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        ALONE.same(fail)


_AFTER_AN_EXCHANGE = """
import os, sys, time, torch
import torch.distributed as dist
from progrpo.processes import EndOfProcess

class Slow:
    def __del__(self):
        time.sleep(1)

end = EndOfProcess()
other = os.fork() == 0
dist.init_process_group("gloo", store=dist.FileStore(sys.argv[2], 2), rank=int(other), world_size=2)
if other:
    time.sleep(0.3)
    dist.all_reduce(torch.ones(3))
    time.sleep(0.3)
    os._exit(0)
EndOfProcess.joined = sys.argv[1] == "ours"
group = dist.group.WORLD  # a model that was wrapped keeps it
# What the future calls is given back by gloo's thread, here in the middle of the interpreter's end.
dist.all_reduce(torch.ones(3), async_op=True).get_future().then(lambda done, slow=Slow(): None).wait()
dist.destroy_process_group()
end.status = 3
print("said")
sys.exit(end.status)
"""


@pytest.mark.parametrize(("ends", "status"), [("ours", 3), ("plainly", -6)])
def test_a_process_of_several_ends_with_its_status_whatever_gloo_still_holds(
    ends: str, status: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _AFTER_AN_EXCHANGE, ends, str(tmp_path / "meeting")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, "said\n"), done.stderr
