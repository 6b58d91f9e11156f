"""LiveCodeBench's private tests: JSON, or base64 of zlib of a pickle of a text of JSON, read without unpickling.

Unpickling runs whatever the file says. Here no unpickler runs: the pickle's opcodes are read one by one, and the only
program admitted is "one text, the end". Globals, calls, persistent ids, containers, numbers and bytes are all refused.
"""

import base64
import binascii
import json
import pickletools
import zlib
from typing import Any

from progrpo.errors import DataError

LARGEST_BYTES = 2**30
"""Of the tests of one problem, decompressed."""

_TEXT = {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_HARMLESS = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}


def read_private_tests(value: Any, place: str) -> list[Any]:
    """The private tests of a row, whichever way they are written.

    Raises:
        DataError: they are none of these, do not end, are larger than `LARGEST_BYTES`, or hold anything but text.
    """
    if isinstance(value, str):
        value = _from_text(value, place)
    if not isinstance(value, list):
        raise DataError(f"{place}: private tests must be a list, got {type(value).__name__}")
    return value


def _from_text(text: str, place: str) -> Any:
    if text.lstrip()[:1] not in ("[", ""):
        try:
            packed = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{place}: private tests are neither a JSON list nor base64: {error}") from None
        text = pickled_text(inflate(packed, place), place)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: private tests are not JSON (damaged or cut short?): {error}") from None


def inflate(packed: bytes, place: str) -> bytes:
    """Decompress, stopping at `LARGEST_BYTES`: a few kilobytes can be made to swell to gigabytes.

    Raises:
        DataError: larger, damaged, cut short, or followed by something else.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, LARGEST_BYTES)
        if stream.unconsumed_tail:
            raise DataError(f"{place}: private tests swell to more than {LARGEST_BYTES} bytes; refused")
    except zlib.error as error:
        raise DataError(f"{place}: private tests do not decompress (damaged or cut short?): {error}") from None
    if not stream.eof or stream.unused_data:
        raise DataError(f"{place}: private tests do not end where they should (damaged or cut short?)")
    return data


def pickled_text(data: bytes, place: str) -> str:
    """The text of a pickle that holds one text and nothing else.

    Raises:
        DataError: any other opcode, named in the message; a damaged pickle.
    """
    texts: list[str] = []
    end = 0
    try:
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name in _TEXT:
                texts.append(str(argument))
            elif opcode.name == "STOP":
                end = (position or 0) + 1
            elif opcode.name not in _HARMLESS:
                raise DataError(f"{place}: the pickle of private tests wants {opcode.name}; only text is read, refused")
    except DataError:
        raise
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise DataError(f"{place}: damaged pickle of private tests: {error}") from None
    if len(texts) != 1 or end != len(data):
        raise DataError(f"{place}: the pickle of private tests must hold one text, got {len(texts)}; refused")
    return texts[0]
