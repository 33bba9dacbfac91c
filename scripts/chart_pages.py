"""Write chart/README.md from chart/values.yaml: `python scripts/chart_pages.py [--check]`.

The comment above a key is what the page says of it; keys without one are parts of the value above them. With --check
nothing is written; the exit code is 1 when the page is not what the values say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "chart"
PAGE = CHART / "README.md"

_KEY = re.compile(r"^( *)([A-Za-z]\w*):")
_INTRODUCTION = """\
# Chart worker-sync

<!-- Made by scripts/chart_pages.py: change values.yaml, then run `make docs`. -->

Deploys [Worker-Sync](../README.md) with Helm 3 or 4 on Kubernetes 1.25 or newer. How to use it:
[Deploy on Kubernetes](../docs/how-to/deploy-on-kubernetes.md). Ready values: `values-trial.yaml` (with databases and a
broker), `values-development.yaml`, `values-staging.yaml`, `values-production.yaml`.

```text
helm install worker-sync chart --set-file config=worker-sync.yaml --set secret.existing=worker-sync
```

A role (capture, a worker pool, beat, exporter, flower, init) may have every setting of `pod`, and `env`, itself. It
goes over that of `pod` in the way in which Helm puts values files over each other: mappings are merged, anything else
is replaced. `env` is added to that of all.

## Values

| key | default | meaning |
| --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Documented:
    """One key with its comment."""

    path: tuple[str, ...]
    default: Any
    meaning: str


def documented(text: str) -> Iterator[Documented]:
    """Every commented key of the values, in their order."""
    values = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
            continue
        found = _KEY.match(line)
        if found is not None:
            path[len(found[1]) // 2 :] = [found[2]]
            if comment:
                yield Documented(tuple(path), _at(values, path), " ".join(comment))
        comment = []


def _at(values: Any, path: list[str]) -> Any:
    for key in path:
        values = values[key]
    return values


def page(text: str) -> str:
    """The README for values with this text."""
    entries = list(documented(text))
    sections = {entry.path[:length] for entry in entries for length in range(1, len(entry.path))}
    return _INTRODUCTION + "".join(_row(entry, section=entry.path in sections) for entry in entries)


def _row(entry: Documented, *, section: bool) -> str:
    default = "" if section else f"`{json.dumps(entry.default)}`"
    meaning = re.sub(r"(?<!`)(\$\{[^}]*\})(?!`)", r"`\1`", entry.meaning)
    return f"| `{'.'.join(entry.path)}` | {default} | {meaning} |\n"


def main() -> int:
    made = page((CHART / "values.yaml").read_text(encoding="utf-8"))
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == made:
        return 0
    print(f"{PAGE} is not what values.yaml says; run `make docs`", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
