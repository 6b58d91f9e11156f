"""Seeds by hashing: two runs, items or completions never share a stream because their numbers happen to add up alike."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Hash `parts` to an integer in [0, 2**63).

    `seed + index` makes data sets of neighbouring seeds overlap almost entirely; a hash of (seed, index) does not.
    The result depends on the values, order and types of `parts`, and on nothing else (not on PYTHONHASHSEED or platform).
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = f"{type(part).__name__}:{part}".encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return int.from_bytes(digest.digest(), "little") >> 1
