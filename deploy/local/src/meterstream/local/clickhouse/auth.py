"""Who may use the server."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from meterstream.local.clickhouse.errors import ErrorCode, ServerError


@dataclass(frozen=True, slots=True)
class User:
    """A name with a password (empty: none is asked for)."""

    name: str
    password: str
    read_only: bool = False


def authenticate(
    users: tuple[User, ...], headers: Mapping[str, str], url: Mapping[str, str]
) -> User:
    """Return the user of a request: by X-ClickHouse headers, basic auth, or URL parameters.

    Raises ServerError; it does not tell a wrong password from an unknown user.
    """
    name, password = _credentials(headers, url)
    for user in users:
        same_name = hmac.compare_digest(user.name.encode(), name.encode())
        if hmac.compare_digest(user.password.encode(), password.encode()) and same_name:
            return user
    raise ServerError(
        ErrorCode.AUTHENTICATION_FAILED,
        f"{name}: Authentication failed: password is incorrect, or there is no user with such name",
    )


def _credentials(headers: Mapping[str, str], url: Mapping[str, str]) -> tuple[str, str]:
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        name = headers.get("x-clickhouse-user", "default")
        return name, headers.get("x-clickhouse-key", "")
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ServerError(
                ErrorCode.AUTHENTICATION_FAILED, "the basic authorization header cannot be decoded"
            ) from error
        return name or "default", password
    return url.get("user", "default"), url.get("password", "")
