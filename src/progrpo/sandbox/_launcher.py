"""The first code inside the sandbox: lowers its own limits for good, says that it did, and becomes the program.

Handed to the interpreter as text (`python -c`), so it imports nothing of this package. Arguments: the descriptors of
the program, of the channel and of the payload ("-": none), folders of packages joined by ":", the processes to limit
("0" is this one), then NAME=LIMIT.
"""

import sys

sys.path[:] = [folder for folder in sys.path if folder]  # `python -c` puts the working directory first

import builtins  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402


def start() -> None:
    program, channel, payload, packages, processes, *limits = sys.argv[1:]
    with open(int(program), "rb") as file:
        source = file.read()
    if processes != "0" and os.getpid() != 2:
        raise RuntimeError("not alone: there is no namespace of processes")  # process 1 would be the machine's
    for limit in limits:
        name, _, value = limit.partition("=")
        for process in processes.split(","):
            lower(int(process), getattr(resource, f"RLIMIT_{name}"), int(value))
    sys.path += [folder for folder in packages.split(":") if folder]
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # a thread's stack is address space
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # what `site` would define; starting without it is faster
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    os.write(int(channel), b"ready\n")
    main = type(sys)("__main__")
    main.__dict__.update(__file__="main.py", __builtins__=builtins)
    sys.argv = ["main.py"]
    if payload == "-":
        os.close(int(channel))
    else:
        sys.argv += [payload, channel]
    sys.modules["__main__"] = main
    exec(compile(source, "main.py", "exec", dont_inherit=True), main.__dict__)


def lower(process: int, kind: int, value: int) -> None:
    """Set a limit, soft and hard; the limit on CPU time leaves a second between the signal and the kill."""
    _, hard = resource.prlimit(process, kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    ceiling = value + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else value
    resource.prlimit(process, kind, (value, ceiling))


start()
