"""What each service answers over HTTP: /metrics, /healthz and /readyz, from a thread of its own.

It needs prometheus-client, which schemas does not ask for: who imports this module depends on it.
"""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Health = Callable[[], Mapping[str, Any]]
"""Tells what keeps a service from being healthy or ready, by name; empty: nothing does."""


class PortTaken(OSError):
    """The port of the metrics cannot be used. The message says which setting chooses it."""


class StatusServer:
    """A small HTTP server for probes and Prometheus. It says nothing about anybody's usage."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        healthy: Health,
        ready: Health,
        setting: str,
    ) -> None:
        pages = {"/healthz": healthy, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path in pages:
                    faults = pages[path]()
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

            def log_message(self, *args: Any) -> None:
                """Say nothing: probes come every few seconds."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as failure:
            raise PortTaken(
                f"{host}:{port} cannot be listened on ({failure.strerror}): choose another port"
                f" with {setting}, or 0 for any"
            ) from None
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status", daemon=True
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
