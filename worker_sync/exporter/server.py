"""/metrics and /healthz on one port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from worker_sync.core.errors import WorkerSyncError

TEXT = "text/plain; charset=utf-8"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: CollectorRegistry
    healthy: Callable[[], None]
    alive: Callable[[], None]

    def service_actions(self) -> None:
        """Called by the loop that accepts connections, between two of them."""
        self.alive()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "worker-sync"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.server.registry), content_type)
        elif path == "/healthz":
            self._health()
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"/metrics or /healthz\n", TEXT)

    def _health(self) -> None:
        try:
            self.server.healthy()
        except WorkerSyncError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode(), TEXT)
        else:
            self._answer(HTTPStatus.OK, b"ok\n", TEXT)

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """A scrape every few seconds is no news."""


class MetricsServer:
    """Serves from a thread of its own until closed. `healthy` raises a WorkerSyncError when we can't do our work;
    `alive` is called while the server takes requests."""

    def __init__(
        self,
        collector: Collector,
        host: str,
        port: int,
        healthy: Callable[[], None],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._server = _Server((host, port), _Handler)
        self._server.registry = CollectorRegistry()
        self._server.registry.register(collector)
        self._server.healthy = healthy
        self._server.alive = alive
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens; with port 0 the one that was free."""
        host, port = self._server.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
