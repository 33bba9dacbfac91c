"""A system whose broker is RabbitMQ, as a person runs and watches it."""

from __future__ import annotations

import base64
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance import orders
from tests.acceptance.orders import arrives
from tests.fixtures.certificates import Certificates, certificates
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import simple_config, start, worker_sync, write_config
from tests.fixtures.rabbitmq_server import RabbitmqServer
from worker_sync.core.secrets import Url
from worker_sync.embedded.server import free_port
from worker_sync.store import ControlStore

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]

PATIENCE_S = 120.0
#: What Flower shows and answers that has to do with the broker or comes from it.
FLOWER = ("/workers", "/broker", "/api/workers", "/api/tasks", "/api/queues/length", "/metrics")
FILE = "SSL_CERT_FILE"
USER, PASSWORD = "watcher", "the-watchers-password"


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def configured(directory: Path, source: str, target: str, control: str, broker: str) -> tuple[Path, dict[str, str]]:
    """A configuration, and where its exporter and its Flower are."""
    orders.create(source)
    ports = {"exporter": free_port(), "flower": free_port()}
    document = simple_config(source, target, control=control, broker=broker, state_dir=str(directory / "state"))
    document |= {
        "exporter": {"port": ports["exporter"]},
        "flower": {"port": ports["flower"], "user": USER, "password": PASSWORD},
    }
    places = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    return write_config(directory / "worker-sync.yaml", document), places


@contextmanager
def running(config: Path, more: Mapping[str, str] | None = None) -> Iterator[Path]:
    """`up`, and that it ends in order."""
    log = config.with_name("up.log")
    process = start(["up", "-c", str(config)], log, more)
    try:
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()  # its children end with it
            process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()[-5000:]


def page(url: str) -> str:
    """What is there, an error's text included; empty while nobody answers."""
    known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    asked = urllib.request.Request(url, headers={"Authorization": f"Basic {known}"})
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except (OSError, urllib.error.URLError):
        return ""


def healthy(control: str, subject: str) -> bool:
    with ControlStore(control) as store:
        return any(one.subject == subject and one.ok for one in store.health.all())


def test_a_system_on_rabbitmq_runs_and_shows_no_password_anywhere(
    tmp_path: Path, source_db: str, target_db: str, control_db: str, rabbitmq_url: str
) -> None:
    config, places = configured(tmp_path, source_db, target_db, control_db, rabbitmq_url)
    with running(config) as log:
        arrives(target_db, 1, "one")
        shown = [page(places["flower"] + path) for path in _once_it_answers(places["flower"])]
        metrics = eventually(lambda: page(places["exporter"] + "/metrics"), PATIENCE_S, "the exporter answers")
        assert 'queue_depth{queue="sync"}' in metrics, metrics
        assert 'queue_depth{queue="dead-letters"} 0' in metrics, metrics
        status = worker_sync("status", "--json", config=config)
        assert status.code == 0, status
        verified = worker_sync("verify", "shop-to-reporting", "--json", config=config)
        assert verified.json["ok"], verified
        eventually(lambda: healthy(control_db, "broker"), PATIENCE_S, "the check of the broker is recorded")
    said = [log.read_text(), metrics, status.out, status.err, *shown]
    for secret in Url(rabbitmq_url).secrets() | {PASSWORD}:
        assert not any(secret in text for text in said)


def _once_it_answers(flower: str) -> tuple[str, ...]:
    eventually(lambda: "worker-" in page(flower + "/api/workers?refresh=1"), PATIENCE_S, "Flower knows the worker")
    return FLOWER


def test_a_rabbitmq_behind_tls_is_trusted_by_its_authority_only(
    tmp_path: Path,
    source_db: str,
    target_db: str,
    control_db: str,
    tls_rabbitmq: tuple[RabbitmqServer, Certificates],
) -> None:
    server, trusted = tls_rabbitmq
    config, places = configured(tmp_path, source_db, target_db, control_db, server.url)
    other = tmp_path / "other"
    other.mkdir()
    for more in ({}, {FILE: str(certificates(other).authority)}):
        refused = worker_sync("up", config=config, more=more)
        assert refused.code == 3, refused
        assert refused.out.count("certificate verify failed") == 1, refused
        assert FILE in refused.out
        assert "Traceback" not in refused.out + refused.err
    with running(config, {FILE: str(trusted.authority)}) as log:
        arrives(target_db, 1, "one")
        eventually(lambda: 'queue_depth{queue="sync"}' in page(places["exporter"] + "/metrics"), PATIENCE_S)
        eventually(lambda: "worker-" in page(places["flower"] + "/api/workers?refresh=1"), PATIENCE_S, "Flower")
        eventually(lambda: healthy(control_db, "broker"), PATIENCE_S, "the check of the broker is recorded")
    for secret in Url(server.url).secrets():
        assert secret not in log.read_text()
