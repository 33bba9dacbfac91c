"""Opens what the configuration means by an anchor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from connectors.ledger.anchors import Anchor
from connectors.ledger.directories import DirectoryAnchor
from worker_sync.core.ledger_section import S3_SCHEME, Ledger


@contextmanager
def opened_anchors(ledger: Ledger) -> Iterator[list[Anchor]]:
    """The configured anchors; they are connected to on first use. Raises ConfigError for a library that is missing."""
    with ExitStack() as stack:
        found: list[Anchor] = []
        for place in ledger.anchors:
            found.append(_opened(place, ledger))
            stack.callback(found[-1].close)
        yield found


def _opened(place: str, ledger: Ledger) -> Anchor:
    if not place.startswith(S3_SCHEME):
        return DirectoryAnchor(Path(place))
    from connectors.aws.anchor import S3Anchor

    assert ledger.s3 is not None
    return S3Anchor(place, ledger.s3)
