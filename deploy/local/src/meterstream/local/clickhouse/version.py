"""Refuses ClickHouse servers that are too old."""

import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from meterstream.local.errors import LocalStackError, UnsupportedServerError

MINIMUM_VERSION = (24, 8)


def check_version(version: str) -> tuple[int, ...]:
    """Return the version's numbers; raise UnsupportedServerError below MINIMUM_VERSION."""
    match = re.match(r"\d+(?:\.\d+)+", version.strip())
    numbers = tuple(int(part) for part in match[0].split(".")) if match else ()
    if numbers < MINIMUM_VERSION:
        oldest = ".".join(map(str, MINIMUM_VERSION))
        raise UnsupportedServerError(
            f"ClickHouse {version.strip() or '(no version)'} is too old: Meterstream needs "
            f"{oldest} or newer (Debian's own package is older; use ClickHouse's packages, "
            "the image clickhouse/clickhouse-server, or the embedded engine)"
        )
    return numbers


def check_server(
    url: str, *, user: str = "default", password: str = "", timeout_s: float = 10.0
) -> str:
    """Ask the server at `url` for its version and return it.

    Raises LocalStackError when it does not answer or refuses the user, and
    UnsupportedServerError when it is too old.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise LocalStackError(f"{url} is no ClickHouse address: use http://HOST:PORT")
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url.rstrip("/") + "/",
        data=b"SELECT version()",
        headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password},
    )
    # No proxy stands between this machine and itself.
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    proxies = urllib.request.ProxyHandler({} if local else None)
    try:
        with urllib.request.build_opener(proxies).open(request, timeout=timeout_s) as response:
            version = str(response.read(200), errors="replace").strip()
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace").strip()
        raise LocalStackError(f"ClickHouse at {url} answers {error.code}: {said}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise LocalStackError(
            f"no ClickHouse server answers at {url} ({reason}): start one, or correct the address"
        ) from error
    check_version(version)
    return version
