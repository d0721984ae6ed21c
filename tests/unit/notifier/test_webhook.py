"""One attempt of a webhook, on a real connection."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier
from tests.support.notices import REACHED, SECRET, Receiver, threshold_event
from tests.unit.notifier.conftest import Certified
from tests.unit.notifier.test_words import event_of

from meterstream.notifier.parcel import Failed, Notice
from meterstream.notifier.signing import key_of
from meterstream.notifier.webhook import Webhook, wanted_pause_s

VALUE = json.dumps(threshold_event(), indent=1).encode()
NOTICE = Notice("ntf_1", event_of("usage.threshold.reached", REACHED), VALUE)
NOW_S = 1_795_000_000.0


def webhook(url: str, ca_file: Path | None = None, timeout_s: float = 10) -> Webhook:
    """Return a webhook with the secret of all tests."""
    return Webhook(url, (key_of(SECRET),), ca_file, timeout_s)


def attempt(target: Webhook) -> Failed | None:
    """Try once."""
    return target.parcel(NOTICE).attempt()


def test_the_event_goes_out_as_it_stands(hook: Receiver) -> None:
    """The body is the event's own bytes, and the signature is that of the specification."""
    assert attempt(webhook(hook.url)) is None
    (taken,) = hook.taken
    assert taken.body == VALUE
    assert Verifier(SECRET).verify(taken.body, dict(taken.headers)) == json.loads(VALUE)
    assert taken.headers["host"] == f"127.0.0.1:{hook.port}"


def test_attempts_differ_in_time_alone(hook: Receiver) -> None:
    """The id stays, and the timestamp is that of the attempt, so that receivers refuse old ones."""
    parcel = replace(webhook(hook.url), now_s=lambda: NOW_S + 60 * len(hook.taken)).parcel(NOTICE)
    hook.answer = lambda _: (500, {})
    assert parcel.attempt() == parcel.attempt() == Failed("the receiver answered with status 500")
    first, second = hook.taken
    assert first.delivery_id == second.delivery_id == "ntf_1"
    assert first.headers["webhook-timestamp"] == "1795000000"
    assert second.headers["webhook-timestamp"] == "1795000060"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_taken(hook: Receiver, status: int) -> None:
    """The receiver has it."""
    hook.answer = lambda _: (status, {})
    assert attempt(webhook(hook.url)) is None


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 422, 500, 502, 503])
def test_anything_else_has_failed(hook: Receiver, status: int) -> None:
    """Redirects are not followed, and neither the answer nor the address is told."""
    hook.answer = lambda _: (status, {"location": hook.url})
    failed = attempt(webhook(hook.url))
    assert failed == Failed(f"the receiver answered with status {status}")
    assert len(hook.taken) == 1


def test_a_receiver_that_is_gone_or_busy(hook: Receiver) -> None:
    """410 and Retry-After are told apart from other failures."""
    hook.answer = lambda _: (410, {})
    assert attempt(webhook(hook.url)) == Failed("the receiver answered with status 410", gone=True)
    hook.answer = lambda _: (503, {"retry-after": "120"})
    failed = attempt(webhook(hook.url))
    assert failed == Failed("the receiver answered with status 503", hold_s=120)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("17", 17),
        (" 17 ", 17),
        ("-17", 0),
        ("1e9", 0),
        ("9" * 400, 999_999_999),
        ("Wed, 18 Nov 2026 11:07:20 GMT", 40),
        ("Wed, 18 Nov 2026 11:07:20", 40),
        ("Wed, 18 Nov 2020 11:07:20 GMT", 0),
        ("tomorrow", 0),
        ("٣", 0),
    ],
)
def test_what_retry_after_asks_for(header: str | None, seconds: float) -> None:
    """Seconds or a date, and nothing where it is neither."""
    assert wanted_pause_s(header, NOW_S) == seconds


@given(st.text(st.characters(codec="latin-1")))
def test_no_header_is_too_odd(header: str) -> None:
    """Whatever a receiver writes there, it is a time to wait or nothing."""
    assert wanted_pause_s(header, NOW_S) >= 0


def test_nobody_listens(hook: Receiver) -> None:
    """The reason is the machine's own."""
    hook.stop()
    assert attempt(webhook(hook.url)) == Failed("no connection: Connection refused")


Talk = Callable[[socket.socket], None]


@pytest.fixture
def talker() -> Iterator[Callable[[Talk], str]]:
    """Return a function that starts a server which talks as it is told; it gives the address."""
    servers: list[socket.socket] = []
    ended = threading.Event()

    def start(talk: Talk) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                talk(connection)
                ended.wait(30)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield start
    ended.set()
    for server in servers:
        server.close()


def test_silence_ends_in_time(talker: Callable[[Talk], str]) -> None:
    """A receiver that never answers is left after the timeout."""
    failed = attempt(webhook(talker(lambda _: None), timeout_s=0.3))
    assert failed == Failed("no answer within 0.3 s")


@pytest.mark.parametrize(
    ("scheme", "begin", "timeout_s", "outcome"),
    [
        ("http", b"HTTP/1.1 ", 0.5, Failed("no answer within 0.5 s")),
        # Time for a busy machine to send the status.
        ("http", b"HTTP/1.1 200 OK\r\nx: ", 4, None),
        (
            "https",
            b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc",
            0.5,
            Failed("no answer within 0.5 s"),
        ),
    ],
    ids=["in the status", "behind the status", "in the handshake"],
)
def test_an_answer_that_drips_ends_in_time(
    talker: Callable[[Talk], str],
    scheme: str,
    begin: bytes,
    timeout_s: float,
    outcome: Failed | None,
) -> None:
    """The timeout bounds the whole attempt, and the status decides if it had come by then."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(begin)
        try:
            while not ended.wait(0.02):
                connection.sendall(b" ")
        except OSError:
            ended.set()

    url = talker(drip).replace("http", scheme)
    assert attempt(webhook(url, timeout_s=timeout_s)) == outcome
    assert ended.wait(60), "the connection is closed"


def test_what_is_no_http(talker: Callable[[Talk], str]) -> None:
    """Nothing of what the receiver wrote is told."""
    failed = attempt(webhook(talker(lambda c: c.sendall(b"secret nonsense\r\n\r\n"))))
    assert failed == Failed("no answer in HTTP: BadStatusLine")


def test_certificates_are_checked(hook: Receiver, certified: Certified) -> None:
    """Over TLS a receiver needs a certificate that is trusted, by its own name."""
    hook.serve_tls(certified.context)
    url = f"https://127.0.0.1:{hook.port}/"
    refused = attempt(webhook(url))
    assert refused is not None
    assert refused.error.startswith("the receiver's certificate is not trusted: ")
    wrong_name = attempt(webhook(f"https://localhost:{hook.port}/", certified.ca_file))
    assert wrong_name is not None
    assert "not trusted" in wrong_name.error
    assert not hook.taken
    assert attempt(webhook(url, certified.ca_file)) is None
    assert hook.taken[0].headers["host"] == f"127.0.0.1:{hook.port}"


def test_plain_text_to_a_tls_port(hook: Receiver, certified: Certified) -> None:
    """TLS to a server that has none is a failure like any other."""
    failed = attempt(webhook(f"https://127.0.0.1:{hook.port}/", certified.ca_file))
    assert failed is not None
    assert failed.error.startswith("TLS failed: ")
