"""`worker-sync check --exporter` against a real exporter, one that lies, and none."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import simple_config, start, worker_sync, write_config
from tests.integration.test_exporter import report
from worker_sync.composition.metrics_check import check_exporter
from worker_sync.composition.preflight import Checked
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import load, parse
from worker_sync.embedded.server import free_port
from worker_sync.store import ControlStore

pytestmark = pytest.mark.slow


def results(checked: Checked) -> dict[str, bool | None]:
    return {finding.check: finding.ok for finding in checked.findings}


def test_the_check_of_an_exporter_says_which_captures_report(postgres: str, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with new_database(postgres, "control") as control, ControlStore(control) as store:
        store.migrate()
        document = simple_config("postgresql://h/shop", "postgresql://h/reporting", control=control, broker=redis_url)
        config = write_config(tmp_path / "worker-sync.yaml", document)
        settings = load(config)
        assert results(check_exporter(url, settings)) == {"reachable": None}
        # Where it listens is not what the configuration says.
        log = tmp_path / "log"
        process = start(["--config", str(config), "exporter", "--host", "127.0.0.1", "--port", str(port)], log)
        try:
            eventually(lambda: f"serving {url}/metrics" in log.read_text(), 60)
            silent = results(check_exporter(f"{url}/metrics", settings))
            assert silent == {"health": True, "metrics": True, "capture of shop": False}
            store.reports.put("capture:shop", "capture", "shop", report())
            reporting = worker_sync("check", "--exporter", url, "--json", config=config)
            assert (reporting.code, {found["result"] for found in reporting.json["checks"]}) == (0, {"ok"})
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_another_program_there_is_no_exporter_of_ours() -> None:
    document = simple_config("postgresql://h/shop", "postgresql://h/reporting")
    settings = parse(document, where="test", folder=Path())
    server, thread = start_http_server(0, "127.0.0.1", CollectorRegistry())
    try:
        found = results(check_exporter(f"http://127.0.0.1:{server.server_port}", settings))
        assert found["metrics"] is False
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(ConfigError, match="http://HOST:PORT"):
        check_exporter("file:///etc/passwd", settings)
