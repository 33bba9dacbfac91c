"""`make bench`, `python -m benchmarks`: starts its servers, measures, prints, stops everything."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Final

from benchmarks import audit, capture, debezium, engines, latency, load, machine, reading, scaling, throughput
from benchmarks.bed import Bed, servers
from benchmarks.options import Options, parse
from benchmarks.report import Report

BENCHMARKS: Final[dict[str, Callable[[Bed, Options, Report], None]]] = {
    "throughput": throughput.throughput,
    "large": throughput.large,
    "drain": throughput.drain,
    "scaling": scaling.scaling,
    "idle": latency.idle,
    "lag": latency.under_load,
    "decode": reading.decode,
    "capture": capture.capture,
    "engines": engines.engines,
    "verify": reading.verify,
    "audit": audit.audit,
    "debezium": debezium.debezium,
}


def main(arguments: list[str]) -> int:
    """Returns 1 when something that was sent did not arrive as it was."""
    options = parse(arguments)
    with servers(engines=not {"engines", "capture"}.isdisjoint(options.only)) as bed:
        report = Report(machine.describe(bed.source))
        report.begin()
        try:
            for name in options.only:
                BENCHMARKS[name](bed, options, report)
        except load.LoadFailed as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
    report.end()
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 0


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # As an exception, so that the servers are stopped.
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
