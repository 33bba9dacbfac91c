"""Verifies an export of an audit ledger: independent of Worker-Sync, with the standard library and `cryptography`.

    python verify_ledger.py EXPORT --key NAME+ID+BASE64 [--key ...] [--anchor NOTE_FILE ...] [--range FIRST END]
Keys come from whom you trust; anchors are checkpoints kept in a second place; an export of a part needs its range.
Prints what was found and exits with 0 or: 14 forked, 10 altered, 11 missing, 12 inserted, 13 moved, 15 unsigned.
"""

import argparse
import base64
import contextlib
import functools
import json
import re
from collections import namedtuple
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EXITS = {"forked": 14, "altered": 10, "missing": 11, "inserted": 12, "moved": 13, "unsigned": 15, "gap": 0}
EMPTY, HOLE = sha256(b"").digest(), bytes(32)
Tree = namedtuple("Tree", "origin size root anchor")


def fold(roots: list[bytes]) -> bytes:
    return functools.reduce(lambda right, left: sha256(b"\1" + left + right).digest(), roots[::-1] or [EMPTY])


def unbase64(text: str, length: int) -> bytes:
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text or len(data) != length:
        raise ValueError("not the encoding of so many bytes")
    return data


def number(text: str) -> int:
    return int(re.findall(r"\A(?:0|[1-9][0-9]{0,18})\Z", text)[0])


def read_json(data: bytes) -> Any:
    loaded = json.loads(data)
    if json.dumps(loaded, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() != data:
        raise ValueError("not canonical")
    return loaded


def read_manifest(data: bytes) -> tuple[str, int, int]:
    loaded = read_json(data)
    if loaded.pop("format") != "worker-sync-ledger-export/1" or len(loaded) != 3:
        raise ValueError("another format")
    return loaded["origin"], number(loaded["first"]), number(loaded["end"])


def read_key(text: str) -> tuple[tuple[str, bytes], Ed25519PublicKey]:
    name, identifier, encoded = text.split("+", 2)
    material = unbase64(encoded, 33)
    if sha256(f"{name}\n".encode() + material).digest()[:4].hex() != identifier or material[:1] != b"\1":
        raise ValueError("a damaged key")
    return (name, bytes.fromhex(identifier)), Ed25519PublicKey.from_public_bytes(material[1:])


def read_note(note: str, keys: Any, anchor: bool) -> Tree:
    """The checkpoint in a signed note. Raises ValueError or InvalidSignature unless a trusted key signed it."""
    text, _, block = note.rpartition("\n\n")
    signed, lines = 0, re.findall(r"— (\S+) (\S+)\n", block)
    for name, encoded in lines:
        data = base64.b64decode(encoded, validate=True)
        if key := dict(keys).get((name, data[:4])):
            key.verify(data[4:], f"{text}\n".encode())
            signed += 1
    origin, size, root, *more = text.split("\n")
    if not signed or block != "".join(f"— {name} {encoded}\n" for name, encoded in lines) or not all([origin, *more]):
        raise ValueError("unsigned, or no checkpoint")
    return Tree(origin, number(size), unbase64(root, 32), anchor)


def rebuilt(old: int, new: int, seed: bytes, proof: list[bytes]) -> tuple[bytes, bytes]:
    """The roots of the old and the new tree: RFC 6962's SUBPROOF read backwards, which uses up `proof`."""
    if old == new:
        return (seed or proof[-1], seed or proof.pop())
    half, other = 1 << (new - 1).bit_length() - 1, proof.pop()
    if old <= half:
        low, high = rebuilt(old, half, seed, proof)
        return low, fold([high, other])
    low, high = rebuilt(old - half, new - half, b"", proof)
    return fold([other, low]), fold([other, high])


class Export:
    def __init__(self, folder: Path) -> None:
        self.folder, self.found, self.intact = folder, set[str](), 0

    def note(self, kind: str, bad: object = True) -> None:
        self.found |= {kind} if bad else set()

    def read(self, name: str, parse: Any, load: Any = Path.read_bytes) -> Any:
        """What `parse` makes of a file; None where it isn't there or is damaged."""
        with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return parse(load(self.folder / name)) if (self.folder / name).exists() else self.note("missing")
        return self.note("altered")

    def verify(self, trees: list[Tree], wanted: list[int] | None) -> None:
        self.read("keys", lambda data: [read_key(line) for line in data.decode().removesuffix("\n").split("\n")])
        if manifest := self.read("manifest.json", read_manifest):
            stated, first, end = manifest
            origin = max([t[1::-1] for t in trees if not t.anchor], key=lambda t: t[0], default=(0, stated))[1]
            self.note("altered", stated != origin)
            self.note("forked", any(tree.origin != origin for tree in trees))
            trees = [tree for tree in trees if tree.origin == origin]
            newest = max((tree.size for tree in trees), default=0)
            low, high = wanted or (0, newest)
            self.note("unsigned", not trees or end > max(newest, first))
            self.note("missing", min(first, high) > low or high > max(end, low))
            data = self.read("leaves.bin", bytes) or b""
            leaves = re.findall(b"(?s).{32}", data)[: end - first]
            self.note("missing", len(leaves) < end - first or HOLE in leaves)
            self.note("inserted", len(data) > 32 * (end - first))
            self.check_trees(trees, first, end, leaves)
            self.check_entries(first, end, leaves)

    def check_trees(self, trees: list[Tree], first: int, end: int, leaves: list[bytes]) -> None:
        def read_proofs(data: bytes) -> dict[int, list[bytes]]:
            return {number(size): [unbase64(text, 32) for text in proof] for size, proof in read_json(data).items()}

        data, proofs = self.read("left.bin", bytes), self.read("proofs.json", read_proofs) or {}
        if data is None or len(data) != 32 * first.bit_count():
            return self.note("altered", data is not None)
        left = re.findall(b"(?s).{32}", data)
        known, there = {0: EMPTY, first: fold(left)}, first + len(leaves)
        for size, leaf in enumerate(leaves, first + 1):
            row = size - 1
            while row & 1:
                leaf, row = fold([left.pop(), leaf]), row >> 1
            left.append(leaf)
            if size == there or any(tree.size == size for tree in trees):
                known[size] = fold(left)
        there = first + [*leaves, HOLE].index(HOLE)
        agreed: dict[Tree, bool | None] = dict.fromkeys(tree for tree in trees if there == end or tree.size <= there)
        for tree in agreed:
            if tree.size in known:
                agreed[tree] = known[tree.size] == tree.root
            elif tree.size in proofs:
                near, rest = first if tree.size < first else end, [b""] * 64 + proofs[tree.size]
                (old, low), (new, high) = sorted([(tree.size, tree.root), (near, known[near])])
                agreed[tree] = (old == 0 or rebuilt(old, new, low, rest) == (low, high)) and len(rest) == 64
        good = max((tree.size for tree in agreed if agreed[tree]), default=-1)
        bad = max((tree.size for tree in agreed if agreed[tree] is False and not tree.anchor), default=-1)
        for tree in (tree for tree in agreed if agreed[tree] is False):
            self.note("forked" if tree.size <= good or (tree.anchor and bad < tree.size) else "altered")
        self.note("missing", None in agreed.values())
        return self.note("forked", len({tree[1:3] for tree in agreed}) > len({tree.size for tree in agreed}))

    def check_entries(self, first: int, end: int, leaves: list[bytes]) -> None:
        due, there, wrong = first, first + len(leaves), dict[int, str]()
        opened = self.read("entries.jsonl", contextlib.closing, lambda path: path.open("rb"))
        with opened or contextlib.nullcontext(()) as lines:
            for line in lines:
                leaf = sha256(b"\0" + sha256(line.removesuffix(b"\n")).digest()).digest()
                own, kind = -1, None
                with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError, AttributeError):
                    own, kind = number(json.loads(line)["number"]), json.loads(line).get("kind")
                due = next((n for n in range(due, there) if leaves[n - first] != HOLE), there)
                if first <= own < there and leaves[own - first] == HOLE:
                    continue
                at = due if due < there and leaf == leaves[due - first] else own
                if not first <= at < there or leaf != leaves[at - first]:
                    self.note("inserted", due >= there and not there <= own < end)
                    wrong.update({due: "altered"} if due < there else {})
                    due += due < there
                elif at < due and at not in wrong:
                    self.note("inserted")
                else:
                    self.note("moved", wrong.get(at) == "missing" or own != at)
                    self.note("inserted", wrong.get(at) == "altered")
                    self.note("gap", kind == "gap" and own == at)
                    wrong.update(dict.fromkeys(range(due, at), "missing"))
                    wrong.pop(at, None)
                    self.intact, due = self.intact + (own == at), max(due, at + 1)
        self.note("missing", due < there)
        self.found.update(wrong.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("--key", action="append", type=read_key, required=True)
    parser.add_argument("--anchor", action="append", type=Path, default=[])
    parser.add_argument("--range", type=int, nargs=2)
    options = parser.parse_args()
    export, trees = Export(options.export), []
    for path in [*sorted((options.export / "checkpoints").glob("*")), *options.anchor]:
        try:
            trees.append(read_note(path.read_bytes().decode(), options.key, path in options.anchor))
        except (ValueError, LookupError, InvalidSignature):
            export.note("unsigned")
    export.verify(trees, options.range)
    print("intact", export.intact, *sorted(export.found))
    raise SystemExit(next((code for kind, code in EXITS.items() if kind in export.found), 0))
