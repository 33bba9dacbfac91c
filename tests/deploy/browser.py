"""Pages as a person sees them: Debian's Chromium, without a window."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.fixtures.fix_prometheus import program

#: Milliseconds of the page's own time, which passes as fast as its requests are answered.
SETTLED_MS: Final = 10_000
SECONDS: Final = 120.0


def look(url: str, directory: Path, *options: str) -> str:
    command = [
        program("chromium"),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--window-size=1400,900",
        f"--user-data-dir={directory / 'profile'}",
        f"--virtual-time-budget={SETTLED_MS}",
        *options,
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout


def text_of(url: str, directory: Path) -> str:
    """The page as its scripts have made it."""
    return look(url, directory, "--dump-dom")


def picture_of(url: str, directory: Path, name: str) -> Path:
    """A picture of the page, as PNG."""
    path = directory / f"{name}.png"
    look(url, directory, f"--screenshot={path}")
    return path
