"""Random numbers that are a pure function of (seed, stream, index).

Every random choice of the project that must not depend on workers, batch sizes or the
number of processes is drawn here. The generator is Philox, a counter-based generator: the
key is a hash of the seed and of the stream's name, and the counter starts at the index. So
drawing number one million costs as much as drawing number zero, and two streams ("pairs",
"latents", ...) never share numbers.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np

_MASK64 = (1 << 64) - 1
_SMALL = 1 << 16  # up to here a permutation is a shuffled table, above it a cipher


@lru_cache(maxsize=1024)
def _key(seed: int, stream: str) -> int:
    digest = blake2b(f"{int(seed)}\0{stream}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def sample_rng(seed: int, stream: str, index: int) -> np.random.Generator:
    """A generator that depends on (seed, stream, index) and on nothing else.

    `seed` is any integer, `stream` names what the numbers are for, and `index` in
    [0, 2**64) numbers the sample. Each (seed, stream, index) owns 2**64 blocks of four
    64-bit numbers before it would touch the next index's. About 15 microseconds.

    Prefer `.random()` and `.integers()` where results must be equal across numpy versions:
    numpy keeps raw uniforms stable, but may change how other distributions are drawn.
    """
    if not 0 <= index <= _MASK64:
        raise ValueError(f"index must be in [0, 2**64), got {index}")
    # The generator counts in the lowest of the counter's four words; the index is the second.
    return np.random.Generator(np.random.Philox(key=_key(seed, stream), counter=index << 64))


class Permutation:
    """A permutation of range(n) that is a pure function of (n, seed, stream).

    `permutation[i]` is where item i goes. Up to 65,536 items it is a shuffled table; above
    that a Feistel cipher over the next power of four, walked until it lands inside the
    range, which needs no memory and about 20 microseconds an item.
    """

    def __init__(self, n: int, seed: int, stream: str) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        self.n = n
        self._table: np.ndarray | None = None
        if n <= _SMALL:
            # The order of n uniforms, not numpy's shuffle, which another version may change.
            self._table = np.argsort(sample_rng(seed, stream, 0).random(n), kind="stable")
        else:
            self._bits = ((n - 1).bit_length() + 1) // 2  # of each half
            # Philox's raw 64-bit numbers, one a round.
            keys = np.random.Philox(key=_key(seed, stream), counter=0).random_raw(6)
            self._keys = [int(k) for k in keys]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        if not 0 <= i < self.n:
            raise IndexError(f"index must be in [0, {self.n}), got {i}")
        if self._table is not None:
            return int(self._table[i])
        i = self._encipher(i)
        while i >= self.n:  # at most 4n values, so fewer than 4 steps on average
            i = self._encipher(i)
        return i

    def _encipher(self, value: int) -> int:
        bits = self._bits
        mask = (1 << bits) - 1
        left, right = value >> bits, value & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return left << bits | right


def _mix(x: int) -> int:
    """The finaliser of splitmix64: 64 bits to 64 well-mixed bits."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)
