"""Checkpoints as c2sp.org/tlog-checkpoint has them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.unit.ledger.ledgers import NEW, OLD, STRANGER, verifier
from worker_sync.ledger.checkpoint import Checkpoint, checkpoint, open_checkpoint, parse, sign_checkpoint
from worker_sync.ledger.note import MalformedNote, Untrusted, split

# c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature
BEHIND_THE_SOFA = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa \
Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""
ROOT = bytes(range(32))


def test_the_published_checkpoint_is_read() -> None:
    text, signatures = split(BEHIND_THE_SOFA)
    tree = parse(text)
    assert (tree.origin, tree.size) == ("example.com/behind-the-sofa", 20852163)
    assert tree.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert tree.text == text
    assert [(one.name, one.key_id.hex(), len(one.signature)) for one in signatures] == [(tree.origin, "033de0ae", 64)]


def test_a_checkpoint_reads_back_with_its_time() -> None:
    at = datetime(2026, 1, 31, 13, 0, 0, 5, timezone(timedelta(hours=1)))
    tree = checkpoint("ledger.example/shop", 7, ROOT, at)
    opened, note = open_checkpoint(sign_checkpoint(tree, [OLD]), [verifier(OLD)])
    assert opened == tree
    assert opened.time == "2026-01-31T12:00:00.000005Z"
    assert note.text.split("\n")[3:] == ["time 2026-01-31T12:00:00.000005Z", ""]


def test_a_checkpoint_needs_no_time_and_may_have_other_lines() -> None:
    assert checkpoint("a", 0, ROOT).time is None
    assert parse(Checkpoint("a", 0, ROOT, ("one", "two three")).text).extensions == ("one", "two three")


def test_keys_that_change_over_sign_together() -> None:
    note = sign_checkpoint(checkpoint("a", 1, ROOT), [OLD, NEW])
    assert [open_checkpoint(note, [verifier(key)])[0].size for key in (OLD, NEW)] == [1, 1]
    with pytest.raises(Untrusted):
        open_checkpoint(note, [verifier(STRANGER)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
        "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n-1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n\u0661\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n9223372036854775808\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2\n",
        "a\n1\nCsUYapGGPo4d\n",
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\nb\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(MalformedNote):
        parse(text)


@pytest.mark.parametrize(
    "tree", [Checkpoint("", 1, ROOT), Checkpoint("a\nb", 1, ROOT), Checkpoint("a", 1, ROOT, ("",))]
)
def test_what_would_not_read_back_is_not_signed(tree: Checkpoint) -> None:
    with pytest.raises(MalformedNote):
        sign_checkpoint(tree, [OLD])
