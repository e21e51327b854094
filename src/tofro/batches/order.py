"""Randomness as a function: which samples make up the global batch of a step, and the numbers that draws are made of.

In: seeds, names, steps and indices. Out: the same numbers in every process, for any number of ranks and workers, with nothing
to store and nothing to replay. There is no generator and no state in this file; a resume asks for step k and gets it at once.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ROUNDS = 6


def key(*parts: int | str) -> int:
    """Hash seeds, names and numbers to 64 bits, equal in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def bits(stream: int, *indices: np.ndarray | int) -> np.ndarray:
    """Return 64 random bits for every element of the broadcast ``indices``, as uint64.

    The output function of splitmix64 (Steele, Lea and Flood 2014) applied to ``stream`` and each index in turn: a counter,
    not a sequence, so that any element can be asked for alone.
    """
    state = np.array([stream], dtype=np.uint64)
    for index in indices:
        state = _mix(state + np.atleast_1d(index).astype(np.uint64) * _WEYL + _WEYL)
    return state


def uniform(stream: int, *indices: np.ndarray | int) -> np.ndarray:
    """Return numbers in [0, 1), float64, one for every element of the broadcast ``indices``."""
    return (bits(stream, *indices) >> np.uint64(11)) * 2.0**-53


def below(bound: np.ndarray | int, stream: int, *indices: np.ndarray | int) -> np.ndarray:
    """Return int64 numbers in [0, ``bound``), one for every element of the broadcast ``indices``."""
    return (uniform(stream, *indices) * bound).astype(np.int64)


def permute(stream: int, n: int, indices: np.ndarray) -> np.ndarray:
    """Map ``indices`` through a permutation of [0, n) that ``stream`` chooses; no memory grows with n.

    A Feistel network over the cells of a grid that holds n in about sqrt(n) rows; the few values that land beyond n are
    mapped again until they are inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    assert len(indices) == 0 or (indices.min() >= 0 and indices.max() < n), "an index outside the permutation"
    rows = math.isqrt(n - 1) + 1
    columns = -(-n // rows)
    values = _feistel(stream, rows, columns, indices.astype(np.uint64))
    outside = np.flatnonzero(values >= n)
    while len(outside):
        values[outside] = _feistel(stream, rows, columns, values[outside])
        outside = outside[values[outside] >= n]
    return values.astype(np.int64)


def steps_per_epoch(batch: int, n: int) -> int:
    """Return how many global batches ``n`` samples make; the remainder waits for the next epoch's order.

    Raises ValueError where there is not one.
    """
    if n < batch:
        raise ValueError(f"{n} training samples make no batch of {batch}; lower budget.batch or give more data")
    return n // batch


def global_batch(seed: int, stream: str, step: int, batch: int, n: int) -> tuple[int, np.ndarray]:
    """Return the epoch of optimizer step ``step`` and the ``batch`` sample indices it trains on, (batch,) int64."""
    epoch, place = divmod(step, steps_per_epoch(batch, n))
    places = np.arange(place * batch, (place + 1) * batch)
    return epoch, permute(key(seed, stream, "order", epoch), n, places)


def rank_share(indices: np.ndarray, rank: int, world_size: int, accumulate: int) -> list[np.ndarray]:
    """Cut a global batch into ranks and micro-batches and return this rank's micro-batches.

    The union over ranks is the global batch, whatever their number. Raises ValueError where it can't be cut into equal parts.
    """
    parts = world_size * accumulate
    if len(indices) % parts:
        raise ValueError(
            f"budget.batch={len(indices)} can't be cut into {parts} equal micro-batches "
            f"(trainer.devices={world_size} x budget.accumulate={accumulate}); make it a multiple of {parts}"
        )
    return list(indices.reshape(world_size, accumulate, -1)[rank])


def evaluation_share(samples: np.ndarray, batch: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Cut ``samples`` (n,), in their order, into batches of at most ``batch`` and return this rank's.

    Every rank gets the same number of batches, none of them empty, so that ranks may talk to one another between them. Raises
    ValueError where there are fewer samples than ranks.
    """
    if world_size == 1:
        return [samples[start : start + batch] for start in range(0, len(samples), batch)]
    if len(samples) < world_size:
        raise ValueError(f"{len(samples)} held-out samples are fewer than {world_size} ranks; use fewer trainer.devices")
    rounds = -(-len(samples) // (batch * world_size))
    return np.array_split(samples, rounds * world_size)[rank::world_size]


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


def _feistel(stream: int, rows: int, columns: int, values: np.ndarray) -> np.ndarray:
    """Permute [0, rows * columns): each round moves one coordinate by a hash of the other."""
    left, right = np.divmod(values, np.uint64(columns))
    for turn in range(_ROUNDS):
        salt = np.uint64(key(stream, turn))
        if turn % 2:
            right = (right + _scramble(left, salt)) % np.uint64(columns)
        else:
            left = (left + _scramble(right, salt)) % np.uint64(rows)
    return left * np.uint64(columns) + right


def _scramble(values: np.ndarray, salt: np.uint64) -> np.ndarray:
    """Hash to 32 bits: enough to move a coordinate, and room to add it without overflow."""
    state = (values ^ salt) * _MIX_1
    state = (state ^ (state >> np.uint64(29))) * _MIX_2
    return state >> np.uint64(32)
