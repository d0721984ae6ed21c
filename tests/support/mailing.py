"""A real mail server on loopback, whose answers a test chooses."""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from meterstream.local.ports import free_ports


@dataclass(frozen=True)
class Mail:
    """A message that the server took."""

    sender: str
    recipients: list[str]
    message: EmailMessage


@dataclass
class MailServer:
    """What the server took, and what it refuses."""

    port: int
    taken: list[Mail] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """The answer to each address that it does not take."""
    content: Callable[[], str] = lambda: "250 OK"
    """The answer to a message."""
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """Take or refuse an address."""
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: Any, session: Any, envelope: Any
    ) -> str:
        """Take or refuse a message."""
        answer = self.content()
        if answer.startswith("250"):
            message = message_from_bytes(envelope.content, policy=default)
            self.taken.append(Mail(envelope.mail_from, envelope.rcpt_tos, message))
        return answer

    def login(self, server: Any, session: Any, envelope: Any, kind: str, data: Any) -> AuthResult:
        """Let in the user whose password is `right`."""
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"right", handled=False)


@contextlib.contextmanager
def mail_server(tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[MailServer]:
    """Run a server; with `tls` it offers STARTTLS and asks for a login behind it."""
    (port,) = free_ports(1)
    server = MailServer(port)
    if tls is not None:
        options |= {"tls_context": tls, "auth_required": True, "authenticator": server.login}
    controller = Controller(server, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


def email(server: MailServer, *to: str) -> dict[str, Any]:
    """Return a destination of the file: these addresses, by this server without TLS."""
    return {
        "email": {
            "host": "127.0.0.1",
            "port": server.port,
            "tls": "none",
            "from": "meterstream@example.com",
            "to": list(to),
        }
    }
