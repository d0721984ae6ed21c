"""Messages go to a real mail server on loopback."""

import socket
from collections.abc import Callable
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest
from tests.support.mailing import MailServer, mail_server
from tests.support.notices import REACHED
from tests.unit.notifier.conftest import Certified
from tests.unit.notifier.test_words import event_of

from meterstream.notifier.deadline import Deadline
from meterstream.notifier.mail import Mailbox
from meterstream.notifier.parcel import Failed, Notice

NOTICE = Notice("ntf_1", event_of("usage.threshold.reached", REACHED), b"{}")


def mailbox(server: MailServer, *to: str) -> Mailbox:
    """Return a way to these addresses, without TLS."""
    return Mailbox(
        host="127.0.0.1",
        port=server.port,
        tls="none",
        sender="meterstream@example.com",
        to=to or ("ops@example.com",),
        user=None,
        password=None,
        ca_file=None,
        timeout_s=10,
    )


def test_a_message() -> None:
    """Plain text to all recipients, with an id and a date that follow from the event."""
    with mail_server() as server:
        assert mailbox(server, "a@example.com", "b@example.com").parcel(NOTICE).attempt() is None
        assert mailbox(server, "a@example.com").parcel(NOTICE).attempt() is None
    first, second = server.taken
    assert first.sender == "meterstream@example.com"
    assert first.recipients == ["a@example.com", "b@example.com"]
    message = first.message
    assert message["subject"] == "Team team-1 has used 80 % of limit monthly-cap"
    assert message["to"] == "a@example.com, b@example.com"
    assert message["message-id"] == second.message["message-id"] == "<ntf_1@example.com>"
    assert parsedate_to_datetime(message["date"]) == NOTICE.event.time.replace(microsecond=0)
    assert message["auto-submitted"] == "auto-generated"
    assert message.get_content_type() == "text/plain"
    assert "800.000001 credits of 1,000 credits" in message.get_content()


def test_names_of_any_script() -> None:
    """Names that are not ASCII arrive as they are, and none can add a line to the header."""
    data = {**REACHED, "team_id": "équipe-東京", "limit_id": "x" * 60 + "\u2028Bcc"}
    notice = replace(NOTICE, event=event_of("usage.threshold.reached", data))
    with mail_server() as server:
        assert mailbox(server).parcel(notice).attempt() is None
    message = server.taken[0].message
    assert message["subject"] == f"Team équipe-東京 has used 80 % of limit {'x' * 60} Bcc"
    assert "bcc" not in message
    assert "Team équipe-東京 has used" in message.get_content()


def test_recipients_that_are_refused_for_now_are_tried_alone() -> None:
    """Who has the message does not get it again with the next attempt."""
    with mail_server() as server:
        server.refused = {"b@example.com": "451 later"}
        parcel = mailbox(server, "a@example.com", "b@example.com").parcel(NOTICE)
        failed = parcel.attempt()
        assert failed == Failed("the server refuses 1 of 2 recipients with status 451")
        assert parcel.recipients == ("b@example.com",)
        server.refused = {}
        assert parcel.attempt() is None
    assert [mail.recipients for mail in server.taken] == [["a@example.com"], ["b@example.com"]]
    assert {mail.message["to"] for mail in server.taken} == {"a@example.com, b@example.com"}


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        (["550 no"], Failed("the server refuses 1 of 1 recipients with status 550", final=True)),
        (["450 no"], Failed("the server refuses 1 of 1 recipients with status 450")),
        (["550 a", "450 b"], Failed("the server refuses 2 of 2 recipients with status 450")),
        (["421 bye", "550 b"], Failed("the server refuses 1 of 2 recipients with status 421")),
    ],
)
def test_when_nobody_is_taken(answers: list[str], failure: Failed) -> None:
    """Mailboxes that are refused for good are not asked again; all keep their claim."""
    addresses = tuple(f"u{number}@example.com" for number in range(len(answers)))
    with mail_server() as server:
        server.refused = dict(zip(addresses, answers, strict=True))
        parcel = mailbox(server, *addresses).parcel(NOTICE)
        assert parcel.attempt() == failure
        assert parcel.recipients == addresses
    assert server.taken == []


def test_some_are_refused_for_good() -> None:
    """Where the others have it, those are given up at once."""
    with mail_server() as server:
        server.refused = {"gone@example.com": "550 no such mailbox"}
        parcel = mailbox(server, "a@example.com", "gone@example.com").parcel(NOTICE)
        failed = parcel.attempt()
        assert failed is not None
        assert not failed.final
        assert parcel.recipients == ("gone@example.com",)
        failed = parcel.attempt()
        assert failed is not None
        assert failed.final
    assert len(server.taken) == 1


def test_a_message_that_is_refused() -> None:
    """The server's words are not told, only its status."""
    with mail_server() as server:
        server.content = lambda: "554 your secret is bad"
        failed = mailbox(server).parcel(NOTICE).attempt()
    assert failed == Failed("the server answered with status 554")


def test_starttls_and_login(certified: Certified) -> None:
    """The certificate is checked before the password is sent, and the password by the server."""
    with mail_server(certified.context) as server:
        sound = replace(
            mailbox(server), tls="starttls", user="u", password="right", ca_file=certified.ca_file
        )
        untrusted = replace(sound, ca_file=None).parcel(NOTICE).attempt()
        assert untrusted is not None
        assert untrusted.error.startswith("the server's certificate is not trusted: ")
        assert server.logins == []
        wrong = replace(sound, password="wrong").parcel(NOTICE).attempt()
        assert wrong == Failed("the server answered with status 535")
        assert sound.parcel(NOTICE).attempt() is None
        assert set(server.logins) == {("u", "wrong"), ("u", "right")}
    assert len(server.taken) == 1


def test_tls_from_the_first_byte(certified: Certified) -> None:
    """A port that speaks TLS at once is served too."""
    with mail_server(ssl_context=certified.context) as server:
        sound = replace(mailbox(server), tls="tls", ca_file=certified.ca_file)
        assert sound.parcel(NOTICE).attempt() is None
    assert len(server.taken) == 1


def test_a_server_without_starttls() -> None:
    """Nothing is sent in plain text where TLS is asked for."""
    with mail_server() as server:
        failed = replace(mailbox(server), tls="starttls").parcel(NOTICE).attempt()
    assert failed is not None
    assert "STARTTLS" in failed.error
    assert server.taken == []


def test_silence_ends_in_time() -> None:
    """A server that greets nobody is left after the timeout, and so is one that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = MailServer(silent.getsockname()[1])
        failed = replace(mailbox(server), timeout_s=0.3).parcel(NOTICE).attempt()
        assert failed == Failed("no answer within 0.3 s")
    failed = mailbox(server).parcel(NOTICE).attempt()
    assert failed == Failed("no connection: Connection refused")


def test_silence_that_the_socket_notices_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the socket's timeout or the deadline of the whole ends it, the words are the same."""

    def later(seconds: float, find: Callable[[], socket.socket | None]) -> Deadline:
        return Deadline(seconds + 60, find)

    monkeypatch.setattr("meterstream.notifier.mail.Deadline", later)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = MailServer(silent.getsockname()[1])
        failed = replace(mailbox(server), timeout_s=0.3).parcel(NOTICE).attempt()
    assert failed == Failed("no answer within 0.3 s")
