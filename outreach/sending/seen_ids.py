"""Ids seen lately, in memory that is all there from the start.

Only a hash of each id is kept, 8 bytes in a table of fixed size: 100,000 ids take 2 MiB. As texts in sets they would be
17 MiB, by which a sender would grow in the hours after its start.

The hash has 64 bits and a key of its own in each process. That an id is taken for one of 100,000 others happens once in
10¹⁴ ids.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Final

_HASH_MASK: Final = 2**64 - 1


class _Hashes:
    """A set of hashes: a table, at most half full, with linear probing. 0 is a free place."""

    def __init__(self, hashes_max: int) -> None:
        places = 1 << (2 * hashes_max).bit_length()
        self.count = 0
        self._mask = places - 1
        self._table = array("Q", bytes(8 * places))

    def __contains__(self, hashed: int) -> bool:
        return self._table[self._place(hashed)] == hashed

    def update(self, hashes: Iterable[int]) -> None:
        for hashed in hashes:
            place = self._place(hashed)
            self.count += not self._table[place]
            self._table[place] = hashed

    def _place(self, hashed: int) -> int:
        """Where it is, or would be."""
        table, mask = self._table, self._mask
        place = hashed & mask
        while table[place] and table[place] != hashed:
            place = (place + 1) & mask
        return place


class SeenIds:
    """Ids seen lately: at least half, at most all of `ids_max`. In two halves: the older one is forgotten at once."""

    def __init__(self, ids_max: int) -> None:
        self._half = ids_max // 2
        self._new = _Hashes(self._half)
        self._old = _Hashes(self._half)

    def __contains__(self, seen_id: str) -> bool:
        hashed = _hashed(seen_id)
        return hashed in self._new or hashed in self._old

    def add(self, ids: Sequence[str]) -> None:
        """Of more than half of `ids_max` only the last ones are kept."""
        if self._new.count + len(ids) > self._half:
            self._old = (
                self._new
            )  # first, so that the next table takes the place of the one that goes
            self._new = _Hashes(self._half)
        self._new.update(map(_hashed, ids[-self._half :]))


def _hashed(seen_id: str) -> int:
    return hash(seen_id) & _HASH_MASK or 1
