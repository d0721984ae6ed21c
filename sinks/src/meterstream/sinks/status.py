"""Serves /metrics, /healthz and /readyz from a thread of its own."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from .errors import SinkError

Faults = Callable[[], Mapping[str, str]]
"""Returns what keeps the service from being healthy or ready, by name; empty if nothing does."""


class StatusServer:
    """A small HTTP server for probes and Prometheus. It says nothing about anybody's usage."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, healthy: Faults, ready: Faults
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path in ("/healthz", "/readyz"):
                    faults = healthy() if path == "/healthz" else ready()
                    body = json.dumps({"ok": not faults, "faults": dict(faults)}).encode()
                    self._answer(503 if faults else 200, "application/json", body)
                else:
                    self._answer(404, "text/plain", b"see /metrics, /healthz and /readyz\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: probes come every few seconds."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as failure:
            raise SinkError(
                f"{host}:{port} cannot be listened on ({failure.strerror}): choose another port"
                " with METERSTREAM_SINK_METRICS_PORT, or 0 for any"
            ) from None
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status", daemon=True
        )

    def __enter__(self) -> "StatusServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
