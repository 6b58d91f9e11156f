"""Runs tests that assert, in a sandbox of their own, where the program has never been.

Handed to the sandbox as text. What the tests import from the program are stand-ins: a call goes through a pipe to the
program's sandbox, and plain data come back, made anew here by exact type. So an assertion compares values of Python's own and
runs here; the program sees the arguments of calls and never an expected value, and has no way to the verdict.

An object of the program's that is no plain data is a stand-in too: its methods and attributes, items, length, text and
iteration are asked for. It equals nothing but itself, and has neither order nor arithmetic: those would show the expected
value to the program, or take its word for the result.
"""

import builtins
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pickle import Pickler as PlainPickler
from pickle import PicklingError
from select import select

TYPE_CHECKING = False  # the name is what type checkers look for; importing it takes too long
if TYPE_CHECKING:
    from typing import Any, NoReturn

payload, channel = (int(descriptor) for descriptor in sys.argv[1:])
_MOST_QUESTIONS = 100_000


refused: "list[str]" = []


class GoneError(BaseException):
    """The program has ended. Not an Exception: `pytest.raises(Exception)` must not catch it."""


class RefusedError(BaseException):
    """The program gave what no test can rely on. Remembered: a bare `except` in a test must not forgive it."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        refused.append(words)


class UnsupportedError(BaseException):
    """The tests do what cannot be done here: their fault, not the program's."""


class Standing:
    """Stands for an object of the program's."""

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):
            raise AttributeError(name)
        return program.ask("get", self, name)

    def __setattr__(self, name: str, value: "Any") -> None:
        program.ask("set", self, name, value)

    def __call__(self, *args: "Any", **named: "Any") -> "Any":
        return program.ask("call", self, *args, **named)

    def __getitem__(self, key: "Any") -> "Any":
        return program.ask("item", self, key)

    def __setitem__(self, key: "Any", value: "Any") -> None:
        program.ask("set item", self, key, value)

    def __delitem__(self, key: "Any") -> None:
        program.ask("delete item", self, key)

    def __len__(self) -> int:
        answer: int = program.ask("len", self)
        return answer

    def __bool__(self) -> bool:
        return program.ask("bool", self) is True

    def __iter__(self) -> "Any":
        return program.ask("iter", self)

    def __next__(self) -> "Any":
        return program.ask("next", self)

    def __await__(self) -> "NoReturn":
        raise UnsupportedError("the tests await what the program returns")

    def __str__(self) -> str:
        answer: str = program.ask("str", self)
        return answer

    def __repr__(self) -> str:
        answer: str = program.ask("repr", self)
        return answer

    def __instancecheck__(self, other: "Any") -> bool:
        return isinstance(other, Standing) and program.ask("is a", other, self) is True

    def __hash__(self) -> int:
        return hash(id(self))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Standing) and self is not other:
            refuse("==")
        return self is other

    def __lt__(self, other: object) -> "NoReturn":
        refuse("an order")

    __le__ = __gt__ = __ge__ = __lt__


def refuse(what: str) -> "NoReturn":
    raise RefusedError(
        f"the tests rest on {what} between objects of the program's, whose word on that counts for nothing"
    )


class Pickler(PlainPickler):
    def persistent_id(self, value: "Any") -> "int | None":
        return value._number if isinstance(value, Standing) else None


class Program:
    """The other end of the pipes."""

    def __init__(self, answers: int, questions: int, longest: int, wait_s: float, read: "Any") -> None:
        self._answers, self._questions = answers, questions
        os.set_blocking(questions, False)
        self._longest, self._wait_s = longest, wait_s
        self._read = read
        self.asked = 0
        self._known: dict[int, Any] = {}
        self.gone = False
        self.errors: dict[str, type[BaseException]] = {}

    def ask(self, what: str, *args: "Any", **named: "Any") -> "Any":
        self.asked += 1
        if self.asked > _MOST_QUESTIONS:
            raise RefusedError(f"more than {_MOST_QUESTIONS} calls")
        data = _packed((what, args, named))
        try:
            line = self._exchange(len(data).to_bytes(8, "big") + data)
        except OSError as error:
            self.gone = True
            raise GoneError(f"no answer from the program: {error}") from None
        try:
            kind, content, changed = self._read(line, self._object)
            changes = [(args[at], value) for at, value in changed]
        except Exception as error:  # noqa: BLE001 - a line that the driver did not write
            raise RefusedError(f"returned what cannot be read ({error})") from None
        for old, new in changes:
            _change(old, new)
        if kind == "raised":
            ends = {"StopIteration", "StopAsyncIteration"} & set(content[0])
            if ends and what != "next":  # it would end a loop of the tests as if all were well
                raise RuntimeError(f"the program raised {min(ends)}")
            raise self._error(*content)
        return content

    def _exchange(self, question: bytes) -> bytes:
        """The line that answers.

        Raises:
            OSError: the program has ended, is too slow or writes too much.
        """
        until = time.monotonic() + self._wait_s
        left, line = memoryview(question), b""
        while not line.endswith(b"\n"):
            readable, writable, _ = select(
                [self._answers], [self._questions] if left else [], [], until - time.monotonic()
            )
            if writable:
                left = left[os.write(self._questions, left) :]
            if readable:
                data = os.read(self._answers, 2**16)
                line += data
                if not data or len(line) > self._longest:
                    raise OSError("it has ended" if not data else "it wrote too much")
            elif not writable:
                raise OSError(f"none in {self._wait_s:g} s")
        return line[:-1]

    def _object(self, number: int, names: "list[str]") -> "Any":
        """The stand-in; for a class of exceptions one of the same name, so that it can be raised and caught here."""
        if number not in self._known:
            base = next((builtin for name in names if _is_error(builtin := getattr(builtins, name, None))), None)
            self._known[number] = Standing(number) if base is None else type(names[0], (base,), {})
            if base is not None:
                self.errors[names[0]] = self._known[number]
        return self._known[number]

    def _error(self, names: "list[str]", args: "list[Any]") -> BaseException:
        kinds = (self.errors.get(name) or getattr(builtins, name, None) for name in names)
        kind: Any = next((one for one in kinds if _is_error(one)), Exception)
        try:
            error: BaseException = kind(*args)
        except Exception:  # noqa: BLE001 - a constructor that wants other arguments
            error = Exception(*args)
        error._of_program = True  # type: ignore[attr-defined]
        return error


def _packed(question: "Any") -> bytes:
    data = BytesIO()
    try:
        Pickler(data, 5).dump(question)
    except (PicklingError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise UnsupportedError(f"an argument cannot be handed to the program: {error}") from None
    return data.getvalue()


def _change(old: "Any", new: "Any") -> None:
    """A call changed its argument in place."""
    if isinstance(old, list) and isinstance(new, list):
        old[:] = new
    elif isinstance(old, dict | set) and type(old) is type(new):
        old.clear()
        old.update(new)


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def stand_in(name: str) -> "Any":
    """A module by whose name the tests import the program."""

    class Module(type(sys)):  # type: ignore[misc]
        def __getattr__(self, wanted: str) -> "Any":
            if wanted == "__all__":  # not what the tests have already: pytest, a module, what Python brings
                return [name for name in program.ask("names") if name not in {*namespace, *dir(builtins)}]
            if wanted.startswith("__"):
                raise AttributeError(wanted)
            try:
                return program.ask("name", wanted)
            except NameError as error:
                raise AttributeError(f"the program does not define {wanted}") from error

    return Module(name)


def run(job: "dict[str, Any]") -> "dict[str, int]":
    """Run all tests. How many assertions were reached, and how many held; where the tests hold none at all, how many tests
    asked the program and came to their end.

    Raises:
        Whatever the first that fails raises.
    """
    for name in job["program"]:
        sys.modules[name] = stand_in(name)
    pytest, marks = module("pytest", job["pytest"]), module("marks", job["marks"])
    sys.modules["pytest"] = pytest
    namespace.update(marks.NAMES, __name__="test_solution", pytest=pytest)
    for name in job["modules"]:
        namespace[name] = __import__(name)
    for name in job["names"]:
        with suppress(NameError):  # where it is used, Python says so
            namespace[name] = program.ask("name", name)
    done: set[Any] = set()  # by the functions themselves: two parts may give two the same name
    ended = 0
    try:
        for number, part in enumerate(job["parts"], start=1):
            now["name"], name = f"test {number} of {len(job['parts'])}", f"test_solution_{number}.py"
            sources[name] = part.split("\n")
            exec(marks.compiled(part, name), namespace)
            for name, owner, function, test in pytest.tests(namespace):
                if (name, owner, function) not in done:
                    done.add((name, owner, function))
                    now["name"] = name
                    ended += asking(test, marks)
    except (pytest.CannotRunError, pytest.Skipped) as error:
        raise UnsupportedError(str(error)) from None
    return {"passed": marks.count["held"] if marks.count["there"] else ended, "reached": marks.count["reached"]}


def asking(test: "Any", marks: "Any") -> bool:
    """Run a test. Whether it ended well and asked the program; what held in one that was skipped does not count."""
    asked, before = program.asked, dict(marks.count)
    if not test():
        marks.count.update(before)
        return False
    return program.asked > asked


def module(name: str, source: str) -> "Any":
    new = type(sys)(name)
    exec(compile(source, f"{name}.py", "exec", dont_inherit=True), new.__dict__)
    return new


now = {"name": "before the first test"}
sources: "dict[str, list[str]]" = {}
namespace: "dict[str, Any]" = {}  # of the tests


def place(error: BaseException) -> str:
    """The line of the tests that failed."""
    source_line, trace = "", error.__traceback__
    while trace is not None:
        lines = sources.get(trace.tb_frame.f_code.co_filename, [])
        source_line = lines[trace.tb_lineno - 1].strip() if trace.tb_lineno <= len(lines) else source_line
        trace = trace.tb_next
    return source_line


def say(**what: "Any") -> None:
    """One line for the judge, a Python literal."""
    data = memoryview(ascii(what).encode() + b"\n")
    while data:
        data = data[os.write(channel, data) :]


def chained(error: BaseException) -> "Iterator[BaseException]":
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def main() -> None:
    try:
        counts = run(job)
    except BaseException as error:  # noqa: BLE001 - whatever a test raises is its result
        words = f"{type(error).__name__}: {error}".removesuffix(": ")[:300]
        of_program = any(
            hasattr(one, "_of_program") or isinstance(one, GoneError | RefusedError) for one in chained(error)
        )
        cannot = isinstance(error, UnsupportedError | ModuleNotFoundError | SyntaxError) and not of_program
        say(failed=now["name"], words=words, line=place(error)[:200], cannot=cannot, gone=program.gone)
    else:
        if refused:
            say(failed=now["name"], words=refused[0], line="", cannot=False, gone=program.gone)
        else:
            say(**counts, gone=program.gone)
    os._exit(0)


with open(payload, "rb") as file:
    job = eval(file.read())  # written by the judge
values = module("values", job["values"])
answers, questions = job["pipes"]
program = Program(answers, questions, job["longest"], job["wall_s"], values.value_of)
main()
