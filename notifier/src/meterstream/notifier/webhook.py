"""Webhooks: one signed POST an attempt, on a connection of its own."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .deadline import Deadline
from .parcel import Failed, Notice
from .signing import signed_headers

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
USER_AGENT: Final = "meterstream-notifier"
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL that takes signed events. Neither it nor the keys are ever logged."""

    url: str
    keys: tuple[bytes, ...]
    ca_file: Path | None
    timeout_s: float
    now_s: Callable[[], float] = time.time

    def parcel(self, notice: Notice, recipients: tuple[str, ...] = ()) -> "Post":
        """Make a notice ready; a webhook has no recipients to choose from."""
        del recipients
        return Post(self, notice)


class Post:
    """An event on its way to a URL."""

    recipients: tuple[str, ...] = ()

    def __init__(self, webhook: Webhook, notice: Notice) -> None:
        self._webhook = webhook
        self._notice = notice

    def attempt(self) -> Failed | None:
        """POST once. Redirects are failures, and no answer's body is read."""
        webhook, notice = self._webhook, self._notice
        url = urlsplit(webhook.url)
        headers = {
            "content-type": CONTENT_TYPE,
            "user-agent": USER_AGENT,
            "connection": "close",
            **signed_headers(webhook.keys, notice.delivery_id, int(webhook.now_s()), notice.value),
        }
        connection = self._connection()

        def its_socket() -> socket.socket | None:
            return connection.sock

        deadline = Deadline(webhook.timeout_s, its_socket)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            with deadline:
                self._connect(connection)
                connection.request("POST", path, body=notice.value, headers=headers)
                response = connection.getresponse()
                status, retry_after = response.status, response.getheader("retry-after")
        except (OSError, http.client.HTTPException) as error:
            return Failed(_why(error, deadline.is_over, webhook.timeout_s))
        finally:
            connection.close()
        if 200 <= status < 300:
            return None
        return Failed(
            f"the receiver answered with status {status}",
            hold_s=wanted_pause_s(retry_after, webhook.now_s()),
            gone=status == GONE,
        )

    def _connection(self) -> http.client.HTTPConnection:
        """Return a connection that is not made yet. The port is told: a colon is part of IPv6."""
        url = urlsplit(self._webhook.url)
        if url.scheme == "http":
            return http.client.HTTPConnection(url.hostname or "", url.port or 80)
        return http.client.HTTPSConnection(url.hostname or "", url.port or 443)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        """Connect so that the deadline finds the socket from the first byte on."""
        where = (connection.host, connection.port)
        connection.sock = socket.create_connection(where, self._webhook.timeout_s)
        if isinstance(connection, http.client.HTTPSConnection):
            # The system's authorities, and names checked, unless a file names other authorities.
            context = ssl.create_default_context(cafile=self._webhook.ca_file)
            connection.sock = secured = context.wrap_socket(
                connection.sock, server_hostname=connection.host, do_handshake_on_connect=False
            )
            secured.do_handshake()


def wanted_pause_s(header: str | None, now_s: float) -> float:
    """Return the seconds that a Retry-After header asks for: 0 if it is not there or is neither.

    Source: RFC 9110, 10.2.3: seconds, or a date.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now_s, UTC)).total_seconds())


def _why(error: Exception, is_over: bool, timeout_s: float) -> str:
    """Say why there was no answer, in nothing but our words and those of this machine."""
    if is_over or isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the receiver's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or type(error).__name__}"
    if isinstance(error, OSError):
        return f"no connection: {error.strerror or type(error).__name__}"
    return f"no answer in HTTP: {type(error).__name__}"
