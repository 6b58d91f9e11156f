"""The settings of the reward `code`."""

from typing import Literal

from pydantic import Field

from progrpo import rewards


class Params(rewards.Params):
    compare: Literal["tokens", "lcb", "compat"] = "tokens"
    """How printed output is compared: `tokens`: the same words, decimals within the tolerance where the expected word is
    no integer; `lcb`: LiveCodeBench's lines, no tolerance, for calls neither; `compat`: as DeepCoder published it, which
    ACCEPTS WRONG WORDS (YES for NO): only to compare with models trained on it."""
    relative_tolerance: float = Field(1e-6, ge=0, lt=1)
    """Of decimals printed or returned, where the expected one is no integer: the difference as a fraction of the expected
    number. Tests that assert compare as they say themselves."""
    absolute_tolerance: float = Field(1e-9, ge=0)
    """The floor of that tolerance, for expected numbers near 0: with 1e-9, 0 passes for 0.0000000009 and not for 0.0000001.
    HumanEval+ brings its own."""
    cpu_s: int = Field(6, ge=1, le=3600)
    """CPU seconds of one test, whole seconds."""
    wall_factor: float = Field(2.5, ge=1)
    """Wall-clock seconds of one test, in units of `cpu_s`: what a program may wait, and a busy machine delay it."""
    total_s: float = Field(120.0, gt=0)
    """Wall-clock seconds of all tests of one program."""
    memory_mib: int = Field(1024, ge=64)
    """Memory of one program in MiB: address space of each process, resident memory of all together."""
    processes: int = Field(16, ge=1, le=1024)
    """Processes and threads of one program."""
    disk_mib: int = Field(32, ge=1, le=4096)
    """The only place a program can write, a file system in memory, in MiB; one file may take half of it."""
    output_mib: int = Field(8, ge=1, le=1024)
    """Output of one test in MiB, or twice the expected output where that is more."""
    max_tests: int | None = Field(None, ge=1)
    """Run only this many tests, those with the longest inputs; DeepCoder trained with 15. None: all."""
    preamble: bool = True
    """Give programs that use names they do not define LiveCodeBench's star imports, and all a recursion limit of 50,000."""
    allow_unterminated: bool = False
    """Run a last code block that was cut off before its end."""
    python: str | None = None
    """The interpreter of the programs (CPython). None: the one running, else the system's, whichever the sandbox can show."""
    packages: tuple[str, ...] = ()
    """Folders of installed packages (site-packages) that programs may import from, numpy for instance; they must be
    readable by every user. Default: the standard library only."""
    unsafe: bool = False
    """Run programs WITHOUT isolation, under limits only. Model-written programs then have your files and network."""

    @property
    def wall_s(self) -> float:
        return self.cpu_s * self.wall_factor
