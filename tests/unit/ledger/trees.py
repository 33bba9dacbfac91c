"""RFC 6962 as it is written, and the tree of its published test vectors."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from worker_sync.ledger.merkle import Frontier
from worker_sync.ledger.tiles import hashes_from

# github.com/transparency-dev/merkle, proof/verify_test.go; first published with certificate-transparency.
LEAF_DATA = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LEAF_DATA.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]


def plain_leaf(data: bytes) -> bytes:
    return sha256(b"\0" + data).digest()


def some_leaves(count: int) -> list[bytes]:
    return [plain_leaf(str(number).encode()) for number in range(count)]


def split_at(count: int) -> int:
    """The largest power of two smaller than `count`."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """Section 2.1: MTH."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split_at(len(leaves))
    return sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Section 2.1.1: PATH."""
    if len(leaves) == 1:
        return []
    k = split_at(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(old: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """Section 2.1.2: SUBPROOF."""
    if old == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = split_at(len(leaves))
    if old <= k:
        return [*naive_subproof(old, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(old - k, leaves[k:], False), naive_root(leaves[:k])]


class Stored:
    """A tree as a database keeps it: leaves and every eighth level above; counts what is asked of it."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.calls = 0
        self._rows: dict[int, dict[int, bytes]] = {0: dict(enumerate(leaves))}
        for subtree in Frontier().append(leaves):
            self._rows.setdefault(subtree.level, {})[subtree.index] = subtree.hash
        self._hash_of = hashes_from(self._read)

    def hash_of(self, level: int, index: int) -> bytes:
        self.calls += 1
        return self._hash_of(level, index)

    def _read(self, level: int, first: int, end: int) -> list[bytes]:
        row = self._rows.get(level, {})
        return [row[index] for index in range(first, end) if index in row]
