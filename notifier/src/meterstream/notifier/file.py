"""The file of destinations and routes: read once at start, with every fault told at once."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .errors import FileInvalid
from .mail import Mailbox, Tls
from .parcel import Kind, Target
from .rules import DestinationName, Route
from .secret import Secret, read_secret
from .signing import key_of
from .webhook import Webhook

MAX_DESTINATIONS: Final = 50
"""Each has a connection to Kafka and a thread of its own."""
MAX_SECRETS: Final = 5
MAX_RECIPIENTS: Final = 50
DEFAULT_PORTS: Final[dict[Tls, int]] = {"starttls": 587, "tls": 465, "none": 25}

_HOST: Final = re.compile(r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+")
_TEXT: Final = re.compile(r"[\x21-\x7e]+")


def _fault(text: str, **values: Any) -> PydanticCustomError:
    return PydanticCustomError("notifier_file", text, values)


def _url(text: str) -> str:
    """Take an address of http(s) that can be called as it stands; never show it."""
    try:
        url = urlsplit(text)
        is_sound = url.port is None or url.port > 0
    except ValueError:
        is_sound = False
    if not is_sound or not _TEXT.fullmatch(text) or url.scheme not in {"http", "https"}:
        raise _fault("an address with https:// is expected, in ASCII and without spaces")
    if url.username is not None or url.password is not None or url.fragment:
        raise _fault("an address has no user, password or fragment here")
    if not _is_host(url.hostname or ""):
        raise _fault("an address names a host")
    return text


def _host(text: str) -> str:
    if not _is_host(text):
        raise _fault("the name or address of a host is expected")
    return text


def _address(text: str) -> str:
    """Take a mail address such as ops@example.com, alone and in ASCII."""
    try:
        found = Address(addr_spec=text)
    except (MessageError, ValueError, IndexError):
        raise _fault("a mail address such as ops@example.com is expected") from None
    if not _TEXT.fullmatch(text) or not _is_host(found.domain):
        raise _fault("a mail address such as ops@example.com is expected")
    return text


def _key(source: Any) -> bytes:
    try:
        return key_of(read_secret(source).get_secret_value())
    except ValueError as error:
        raise _fault("{reason}", reason=str(error)) from None


def _file(path: Any) -> Path:
    if not isinstance(path, str) or not Path(path).is_file():
        raise _fault("the path of a file is expected, and there is none")
    return Path(path)


SigningKey = Annotated[bytes, BeforeValidator(_key)]
ExistingFile = Annotated[Path, BeforeValidator(_file)]
MailAddress = Annotated[str, AfterValidator(_address)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class WebhookPart(_Part):
    """A URL that takes signed events; the newest secret first."""

    url: Annotated[str, AfterValidator(_url)]
    secrets: Annotated[list[SigningKey], Field(min_length=1, max_length=MAX_SECRETS)]
    ca_file: ExistingFile | None = None
    allow_http: bool = False

    @model_validator(mode="after")
    def _is_not_overheard(self) -> Self:
        url = urlsplit(self.url)
        if url.scheme == "http" and not self.allow_http and not _is_loopback(url):
            raise _fault(
                "http:// can be read by everybody on the way: use https://, or say"
                " `allow_http: true` where the network is closed"
            )
        return self

    def target(self, timeout_s: float) -> Target:
        """Return the way to deliver."""
        return Webhook(self.url, tuple(self.secrets), self.ca_file, timeout_s)


class EmailPart(_Part):
    """A mail server, and who gets the messages."""

    host: Annotated[str, AfterValidator(_host)]
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: Annotated[MailAddress, Field(alias="from")]
    to: Annotated[list[MailAddress], Field(min_length=1, max_length=MAX_RECIPIENTS)]
    user: str | None = None
    password: Secret | None = None
    ca_file: ExistingFile | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise _fault("user and password are needed together")
        if self.user is not None and self.tls == "none" and not _is_loopback_host(self.host):
            raise _fault("a password is not sent without TLS: use `tls: starttls` or `tls: tls`")
        if len(set(self.to)) < len(self.to):
            raise _fault("`to` names an address twice")
        return self

    def target(self, timeout_s: float) -> Target:
        """Return the way to deliver."""
        return Mailbox(
            host=self.host,
            port=self.port or DEFAULT_PORTS[self.tls],
            tls=self.tls,
            sender=self.sender,
            to=tuple(self.to),
            user=self.user,
            password=self.password.get_secret_value() if self.password else None,
            ca_file=self.ca_file,
            timeout_s=timeout_s,
        )


class DestinationPart(_Part):
    """One destination: a webhook or email."""

    webhook: WebhookPart | None = None
    email: EmailPart | None = None
    start: Literal["now", "beginning"] = "now"

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.webhook is None) == (self.email is None):
            raise _fault("a destination has either `webhook` or `email`")
        return self


class _Document(_Part):
    destinations: Annotated[
        dict[DestinationName, DestinationPart], Field(min_length=1, max_length=MAX_DESTINATIONS)
    ]
    routes: Annotated[list[Route], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go, which ones, and how."""

    name: str
    kind: Kind
    target: Target
    routes: tuple[Route, ...]
    from_beginning: bool
    """Whether it gets what the topic holds already when it is served for the first time."""


def read_file(path: Path, timeout_s: float) -> tuple[Destination, ...]:
    """Return the destinations of the file; each attempt may take `timeout_s`.

    Raises FileInvalid with every fault. No fault shows a value, since one may be a secret.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise FileInvalid(f"{path} cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        raise FileInvalid(f"{path} is not YAML{where}: {reason}") from None
    faults = list(_between(document))
    try:
        found = _Document.model_validate(document)
    except ValidationError as error:
        faults = [*_of_fields(error), *faults]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise FileInvalid(f"{path} cannot be used:\n{lines}")
    return tuple(_destination(name, found, timeout_s) for name in found.destinations)


def _destination(name: str, document: _Document, timeout_s: float) -> Destination:
    part = document.destinations[name]
    kind: Kind = "webhook" if part.webhook else "email"
    way = part.webhook or part.email
    assert way is not None, "checked by its model"
    return Destination(
        name,
        kind,
        way.target(timeout_s),
        tuple(route for route in document.routes if name in route.to),
        part.start == "beginning",
    )


def _of_fields(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        yield f"{where}: {fault['msg']}" if where else fault["msg"]


def _between(document: Any) -> Iterator[str]:
    """Tell what does not fit between destinations and routes, also where other things are wrong."""
    if not isinstance(document, dict):
        return
    named, routes = document.get("destinations"), document.get("routes")
    if not isinstance(named, dict) or not isinstance(routes, list):
        return
    used: Counter[Any] = Counter()
    for number, route in enumerate(routes):
        to = route.get("to") if isinstance(route, dict) else None
        for name in to if isinstance(to, list) else []:
            if isinstance(name, str):
                used[name] += 1
                if name not in named:
                    yield f"routes.{number}.to: there is no destination {name}"
    for name in named:
        if not used[name]:
            yield f"destinations.{name}: no route leads to it"


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True


def _is_loopback(url: SplitResult) -> bool:
    return _is_loopback_host(url.hostname or "")


def _is_loopback_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Loader(yaml.SafeLoader):
    """YAML of plain values, in which no key stands twice: the first one would be lost."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key, (place, _) in zip(keys, node.value, strict=True):
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, "a key stands twice", place.start_mark
            )
    made: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return made


_construct: Callable[..., None] = _Loader.add_constructor
_construct("tag:yaml.org,2002:map", _mapping)
