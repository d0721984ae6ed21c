"""Email: one plain-text message an event, with an id that every attempt repeats."""

import contextlib
import smtplib
import socket
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Final, Literal

from .deadline import Deadline
from .parcel import Failed, Notice
from .words import words_of

Tls = Literal["starttls", "tls", "none"]

_FINAL: Final = range(500, 600)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mail server and the addresses that it is asked to bring messages to."""

    host: str
    port: int
    tls: Tls
    sender: str
    to: tuple[str, ...]
    user: str | None
    password: str | None
    ca_file: Path | None
    timeout_s: float

    def parcel(self, notice: Notice, recipients: tuple[str, ...] = ()) -> "Letter":
        """Make a notice ready, for all addresses or those named."""
        return Letter(self, notice, recipients or self.to)


class Letter:
    """A message on its way to one or more addresses."""

    def __init__(self, mailbox: Mailbox, notice: Notice, recipients: tuple[str, ...]) -> None:
        self._mailbox = mailbox
        self._notice = notice
        self.recipients = recipients

    def attempt(self) -> Failed | None:
        """Offer the message once to the server; addresses that took it are not asked again."""
        mailbox = self._mailbox
        content = message_of(mailbox, self._notice).as_bytes(policy=SMTP)
        server = self._server()

        def its_socket() -> socket.socket | None:
            return server.sock

        deadline = Deadline(mailbox.timeout_s, its_socket)
        try:
            with deadline:
                self._greet(server)
                refused = server.sendmail(mailbox.sender, self.recipients, content)
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    server.quit()  # the server has the message, whatever it says now
        except smtplib.SMTPRecipientsRefused as error:
            return self._refusal(error.recipients)
        except smtplib.SMTPResponseException as error:
            return Failed(f"the server answered with status {error.smtp_code}")
        except (smtplib.SMTPException, OSError) as error:
            return Failed(_why(error, deadline.is_over, mailbox.timeout_s))
        finally:
            server.close()
        if not refused:
            return None
        failure = self._refusal(refused)
        self.recipients = tuple(address for address in self.recipients if address in refused)
        return failure

    def _server(self) -> smtplib.SMTP:
        """Return a client that is not connected yet: that is done within the deadline."""
        mailbox = self._mailbox
        server = (
            smtplib.SMTP_SSL(timeout=mailbox.timeout_s, context=self._context())
            if mailbox.tls == "tls"
            else smtplib.SMTP(timeout=mailbox.timeout_s)
        )
        # The name that a certificate must have; smtplib takes it in the call that connects.
        vars(server)["_host"] = mailbox.host
        return server

    def _greet(self, server: smtplib.SMTP) -> None:
        mailbox = self._mailbox
        server.connect(mailbox.host, mailbox.port)
        if mailbox.tls == "starttls":
            server.starttls(context=self._context())
        if mailbox.user is not None and mailbox.password is not None:
            server.login(mailbox.user, mailbox.password)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._mailbox.ca_file)

    def _refusal(self, refused: dict[str, tuple[int, bytes]]) -> Failed:
        codes = {code for code, _ in refused.values()}
        return Failed(
            f"the server refuses {len(refused)} of {len(self.recipients)} recipients with status"
            f" {min(codes)}",
            # The server may have ended the conversation before it was asked about the others.
            final=codes <= set(_FINAL) and len(refused) == len(self.recipients),
        )


def message_of(mailbox: Mailbox, notice: Notice) -> EmailMessage:
    """Return the message, the same on every attempt."""
    words = words_of(notice.event)
    message = EmailMessage(policy=SMTP)
    # A name may hold what Unicode takes for the end of a line, and a header has no second one.
    message["Subject"] = " ".join(words.subject.splitlines())
    message["From"] = mailbox.sender
    message["To"] = ", ".join(mailbox.to)
    message["Date"] = format_datetime(notice.event.time)
    message["Message-ID"] = f"<{notice.delivery_id}@{mailbox.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice answers it
    message.set_content(words.text)
    return message


def _why(error: Exception, is_over: bool, timeout_s: float) -> str:
    """Say why the server has not taken the message, in nothing but our words."""
    # Of a silent server smtplib tells that it left, with the socket's own timeout behind that.
    if is_over or isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "the server does not offer what it is asked for: STARTTLS or the login"
    if isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException):
        return f"no connection: {error.strerror or type(error).__name__}"
    return f"the conversation ended early: {type(error).__name__}"
