"""What a GGUF file says of rotary embeddings, read from its head alone: gguf's own reader takes seconds for the vocabulary."""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from progrpo.errors import ModelError

_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Numbers by their kind in the file, as `struct` calls them."""
_STRING, _ARRAY = 8, 9
_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def scaled_rope(file: Path) -> str | None:
    """The tensor or the key by which rotary embeddings are scaled; None where they are not.

    Raises:
        ModelError: the file's head is damaged.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head = _Head(data)
        try:
            keys = dict(head.keys())
            tensors = set(head.tensors())
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise ModelError(
                f"model {str(file)!r}: its head cannot be read ({error}): copy or download it again"
            ) from error
    for key, value in keys.items():
        scaled = key.endswith(".rope.scaling.type") and value != "none"
        # Without a kind, llama.cpp scales linearly.
        if scaled or (key.endswith((".rope.scaling.factor", ".rope.scale_linear")) and value not in (0, 1)):
            return f"{key}={value}"
    return next((name for name in tensors if name.endswith(_TENSORS)), None)


class _Head:
    """Reads a file's keys and then the names of its tensors (versions 2 and 3 of the format)."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at, self._order = data, 4, "<"
        (version,) = self._numbers("I")
        if version & 0xFFFF == 0:  # written for machines of the other byte order
            self._order = ">"
        self._tensors, self._keys = self._numbers("QQ")

    def keys(self) -> Iterator[tuple[str, Any]]:
        for _ in range(self._keys):
            name = self._string()
            (kind,) = self._numbers("I")
            yield name, self._value(kind)

    def tensors(self) -> Iterator[str]:
        for _ in range(self._tensors):
            yield self._string()
            (dimensions,) = self._numbers("I")
            self._at += 8 * dimensions + 4 + 8  # sizes, number format, place

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._numbers(_FORMATS[kind])[0]
        element, count = self._numbers("IQ")
        if element in _FORMATS:
            self._at += count * struct.calcsize(_FORMATS[element])
        else:
            for _ in range(count):
                self._skip(element)
        return None

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            (length,) = self._numbers("Q")
            self._at += length
        else:
            self._value(kind)

    def _string(self) -> str:
        (length,) = self._numbers("Q")
        start, self._at = self._at, self._at + length
        return self._data[start : self._at].decode()

    def _numbers(self, kinds: str) -> tuple[Any, ...]:
        values = struct.unpack_from(self._order + kinds, self._data, self._at)
        self._at += struct.calcsize(self._order + kinds)
        return values
