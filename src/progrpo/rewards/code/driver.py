"""Runs a model's program inside the sandbox: as a script that reads standard input, by calling one function, or at the call
of tests that run in a sandbox of their own (`assert_driver.py`).

Handed to the sandbox as text. It knows the program and the inputs, never an expected output; the program may do with
it what it likes, all it can reach by that is to claim other values, and values are compared outside. json is written
by hand: importing the module takes as long as starting Python.
"""

import builtins
import os
import resource
import sys
from _json import encode_basestring_ascii as quote

TYPE_CHECKING = False  # the name is what type checkers look for; importing it takes too long
if TYPE_CHECKING:
    from typing import Any

payload, channel = (int(descriptor) for descriptor in sys.argv[1:])
_DEEPEST = 100


class UnwritableError(Exception):
    """A returned value that is no plain data."""


def drive(job: "dict[str, Any]") -> None:
    sys.argv = ["main.py"]
    if job["preamble"]:
        sys.setrecursionlimit(50_000)
    if job["pipes"]:
        os.close(channel)
        allow_cpu(job["cpu_s"])
        namespace = module("solution")
        run_preamble(job, namespace)
        load(job, namespace)
        serve(job, namespace)
    elif job["function"] is None:
        os.close(channel)
        namespace = module("__main__")
        run_preamble(job, namespace)
        exec(compile(job["code"], "main.py", "exec", dont_inherit=True), namespace)
    else:
        namespace = module("solution")
        run_preamble(job, namespace)
        load(job, namespace)
        for arguments in job["inputs"]:
            allow_cpu(job["cpu_s"])
            answer(find(job["function"], namespace), arguments)
        os._exit(0)  # threads and exit handlers of the program have no say in it


def module(name: str) -> "dict[str, Any]":
    new = type(sys)(name)
    new.__dict__.update(__file__="main.py", __builtins__=builtins)
    sys.modules[name] = new
    return new.__dict__


def run_preamble(job: "dict[str, Any]", namespace: "dict[str, Any]") -> None:
    """Star imports for a program that relies on them: one that uses names it does not define."""
    if job["preamble"] and undefined(job["code"]):
        exec(compile(job["preamble"], "preamble.py", "exec", dont_inherit=True), namespace)


def undefined(code: str) -> "set[str]":
    """Names that a program uses and neither defines nor finds among the builtins."""
    import _symtable as tables  # type: ignore[import-not-found]

    try:
        top = tables.symtable(code, "main.py", "exec")
    except (SyntaxError, ValueError):
        return set()
    used, defined, left = set(), set(dir(builtins)) | {"__name__", "__file__", "__doc__"}, [top]
    while left:
        table = left.pop()
        left += table.children
        for name, flags in table.symbols.items():
            scope = (flags >> tables.SCOPE_OFF) & tables.SCOPE_MASK
            if flags & tables.DEF_BOUND and (table is top or scope == tables.GLOBAL_EXPLICIT):
                defined.add(name)
            elif scope in (tables.GLOBAL_IMPLICIT, tables.GLOBAL_EXPLICIT):
                used.add(name)
    return used - defined


def load(job: "dict[str, Any]", namespace: "dict[str, Any]") -> None:
    """Define the program's functions. The problem's own code comes first; a program that is only the rest of it (the
    body of the function whose head the prompt gave) continues it."""
    prompt, code = job["prompt"], job["code"]
    try:
        program = compile(code, "main.py", "exec", dont_inherit=True)
    except SyntaxError:
        if not prompt:
            raise
        program = compile(prompt + "\n" + code, "main.py", "exec", dont_inherit=True)
    if prompt:
        exec(compile(prompt, "prompt.py", "exec", dont_inherit=True), namespace)
    exec(program, namespace)


def find(name: str, namespace: "dict[str, Any]") -> "Any":
    """The function: a method of a new `Solution` where the program defines one, else a function of that name."""
    solution = namespace.get("Solution")
    if isinstance(solution, type) and hasattr(solution, name):
        return getattr(solution(), name)
    if name not in namespace:
        raise NameError(f"the program does not define {name}")
    return namespace[name]


def allow_cpu(seconds: int) -> None:
    """Start a new allowance of CPU time, as far as the hard limit permits."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def answer(function: "Any", arguments: "list[Any]") -> None:
    """Call and write one line: the value, or what went wrong; after the latter nothing more is run."""
    try:
        line = '{"value":' + written(function(*arguments)) + "}"
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are no way out either
        send('{"error":' + quote(f"{type(error).__name__}: {error}"[:300]) + "}")
        os._exit(1)
    send(line)


def send(line: str, descriptor: int = channel) -> None:
    data = memoryview(line.encode("ascii") + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]


def serve(job: "dict[str, Any]", namespace: "dict[str, Any]") -> None:
    """Answer what the tests ask, one after the other, until they have no more to ask.

    An object that is no plain data stays here: the tests get its number, and may name it by that in what they ask next.
    """
    from _io import BytesIO
    from _pickle import Unpickler

    questions, answers = job["pipes"]
    held, numbers = [], {}  # type: ignore[var-annotated]

    def hold(value: "Any") -> str:
        if id(value) not in numbers:
            numbers[id(value)] = len(held)
            held.append(value)
        names = [one.__name__ for one in value.__mro__] if isinstance(value, type) else []
        return '{"object":[' + str(numbers[id(value)]) + ",[" + ",".join(map(quote, names)) + "]]}"

    class Asked(Unpickler):
        def persistent_load(self, number: int) -> "Any":
            return held[number]

    while head := taken(questions, 8):
        asked, args, named = Asked(BytesIO(taken(questions, int.from_bytes(head, "big")))).load()
        allow_cpu(job["cpu_s"])
        before = [written(one, 0, hold) if type(one) in (list, dict, set) else "" for one in args]
        try:
            value = written(asking(namespace)[asked](*args, **named), 0, hold)
            kind = '"value"'
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are no way out either
            value = "[" + raised(error, hold) + "]"
            kind = '"raised"'
        after = [written(one, 0, hold) if text else "" for one, text in zip(args, before)]  # noqa: B905
        changed = [f"[{at},{text}]" for at, text in enumerate(after) if text != before[at]]
        send(f"[{kind},{value},[{','.join(changed)}]]", answers)
    os._exit(0)  # threads and exit handlers of the program have no say in it


def taken(descriptor: int, size: int) -> bytes:
    """So many bytes; fewer only where the pipe has ended."""
    data = b""
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def raised(error: BaseException, hold: "Any") -> str:
    names = ",".join(quote(one.__name__) for one in type(error).__mro__)
    try:
        return f"[{names}],{written(list(error.args), 0, hold)}"
    except BaseException:  # noqa: BLE001 - whatever an exception of the program's does
        return f"[{names}],[]"


def asking(namespace: "dict[str, Any]") -> "dict[str, Any]":
    """What the tests may ask of the program's objects. No comparison and no arithmetic: see `assert_driver.py`."""
    return {
        "name": lambda name: find(name, namespace),
        "names": lambda: [name for name in namespace if not name.startswith("_")],
        "call": lambda function, /, *args, **named: function(*args, **named),
        "get": getattr,
        "set": setattr,
        "item": lambda container, key: container[key],
        "set item": lambda container, key, value: container.__setitem__(key, value),
        "delete item": lambda container, key: container.__delitem__(key),
        "is a": isinstance,
        "iter": iter,
        "next": next,
        "len": len,
        "str": str,
        "repr": repr,
        "bool": bool,
    }


def written(value: "Any", depth: int = 0, hold: "Any" = None) -> str:
    """A value as JSON; see `value_of` in values.py for what JSON lacks. Exact types, so that no method of the
    program's decides what is written. What is no plain data is `hold`'s, or is refused.
    """
    kind = type(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value) if -(2**63) <= value < 2**63 else f'{{"int":"{hex(value)}"}}'
    if kind is float:
        return repr(value) if value - value == 0 else f'{{"float":"{value!r}"}}'
    if kind is str:
        return quote(value)
    if depth > _DEEPEST:
        raise UnwritableError(f"returned a value nested more than {_DEEPEST} deep")
    if kind in (list, tuple, set, frozenset):
        items = "[" + ",".join([written(item, depth + 1, hold) for item in value]) + "]"
        return items if kind is list else f'{{"{kind.__name__}":{items}}}'
    if kind is dict or (issubclass(kind, dict) and kind.__module__ == "collections"):
        pairs = [
            f"[{written(key, depth + 1, hold)},{written(item, depth + 1, hold)}]" for key, item in dict.items(value)
        ]
        return '{"dict":[' + ",".join(pairs) + "]}"
    if kind is bytes:
        return f'{{"bytes":"{value.hex()}"}}'
    if kind is complex:
        return f'{{"complex":[{written(value.real)},{written(value.imag)}]}}'
    if kind.__module__ == "numpy" and hasattr(kind, "tolist"):
        return written(value.tolist(), depth + 1, hold)
    if (kind.__module__, kind.__name__) in (("decimal", "Decimal"), ("fractions", "Fraction")):
        return f'{{"{kind.__name__}":{quote(str(value))}}}'
    if kind.__module__ == "datetime" and kind.__name__ in ("date", "datetime", "time"):
        return f'{{"{kind.__name__}":{quote(value.isoformat())}}}'
    if hold is not None:
        reference: str = hold(value)
        return reference
    raise UnwritableError(f"returned an object of type {kind.__name__}")


with open(payload, "rb") as payload_file:
    drive(eval(payload_file.read(), {"inf": float("inf"), "nan": float("nan")}))
