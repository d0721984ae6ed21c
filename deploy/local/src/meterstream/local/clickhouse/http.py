"""ClickHouse's HTTP interface on the embedded engine, as a Starlette application."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from meterstream.local.clickhouse.auth import User, authenticate
from meterstream.local.clickhouse.compression import choose_encoding, compress, decompress
from meterstream.local.clickhouse.engine import Engine, Request, Result
from meterstream.local.clickhouse.errors import ErrorCode, ServerError
from meterstream.local.clickhouse.native import CUSTOM_SERIALIZATION_REVISION, with_block_info

# URL parameters that speak to the HTTP interface itself; every other one is a setting.
_OWN_PARAMETERS = frozenset(
    {
        "query", "database", "default_format", "user", "password", "quota_key", "query_id",
        "session_id", "session_timeout", "session_check", "close_session", "stacktrace",
        "wait_end_of_query", "buffer_size", "enable_http_compression", "role", "readonly",
        "client_protocol_version", "cancel_http_readonly_queries_on_client_close",
        "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "http_zlib_compression_level", "add_http_cors_header",
    }
)  # fmt: skip
_UNSUPPORTED_PARAMETERS = frozenset({"compress", "decompress"})
_CONTENT_TYPES = tuple(
    (re.compile(pattern, re.IGNORECASE), media_type)
    for pattern, media_type in (
        (r"JSON.*EachRow.*|NDJSON", "application/x-ndjson; charset=UTF-8"),
        (r"JSON.*", "application/json; charset=UTF-8"),
        (r"CSV.*", "text/csv; charset=UTF-8"),
        (r"(TSV|TabSeparated).*", "text/tab-separated-values; charset=UTF-8"),
        (r"XML", "application/xml; charset=UTF-8"),
        (r"Native|RowBinary.*|Parquet|Arrow.*|ORC|Avro", "application/octet-stream"),
    )
)
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", ""})


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How the server treats requests."""

    users: tuple[User, ...]
    body_bytes_max: int = 1 << 30
    concurrent_max: int = 16


def make_app(engine: Engine, settings: HttpSettings) -> Starlette:
    """Return the application; it closes the engine when it shuts down."""
    handler = _Handler(engine, settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        engine.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/ping", _ok, methods=["GET", "HEAD"]),
            Route("/replicas_status", _ok, methods=["GET", "HEAD"]),
            Route("/", handler.handle, methods=["GET", "HEAD", "POST"]),
            Route("/{path:path}", _unknown_path),
        ],
    )


async def _ok(_request: HttpRequest) -> Response:
    return PlainTextResponse("Ok.\n")


async def _unknown_path(request: HttpRequest) -> Response:
    return PlainTextResponse(f"There is no handle {request.url.path}\n", status_code=404)


class _Handler:
    def __init__(self, engine: Engine, settings: HttpSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._limiter = anyio.CapacityLimiter(settings.concurrent_max)

    async def handle(self, http: HttpRequest) -> Response:
        query_id = http.query_params.get("query_id") or str(uuid.uuid4())
        headers = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": "meterstream-local",
            "X-ClickHouse-Timezone": self._engine.timezone,
        }
        try:
            _refuse_foreign_page(http.headers)
            url = dict(http.query_params)
            if http.method != "POST" and "query" not in url:
                return PlainTextResponse("Ok.\n", headers=headers)
            user = authenticate(self._settings.users, http.headers, url)
            body = await self._read_body(http)
            response = await anyio.to_thread.run_sync(
                self._run, http, user, body, headers, limiter=self._limiter
            )
        except ServerError as error:
            return self._error_response(error, headers)
        return response

    async def _read_body(self, http: HttpRequest) -> bytes:
        limit_bytes = self._settings.body_bytes_max
        body = bytearray()
        async for part in http.stream():
            body += part
            if len(body) > limit_bytes:
                raise ServerError(
                    ErrorCode.TOO_LARGE_STRING_SIZE,
                    f"the request's body is larger than {limit_bytes} bytes: send it in parts",
                )
        return bytes(body)

    def _run(self, http: HttpRequest, user: User, body: bytes, headers: dict[str, str]) -> Response:
        plain = decompress(
            body,
            http.headers.get("content-encoding", ""),
            limit_bytes=self._settings.body_bytes_max,
        )
        result = self._engine.run(_engine_request(http, user, plain))
        headers |= {
            "X-ClickHouse-Format": result.format,
            "X-ClickHouse-Summary": _summary(result),
        }
        data = _for_protocol(result, http.query_params.get("client_protocol_version", "0"))
        if http.query_params.get("enable_http_compression") in ("1", "true"):
            encoding = choose_encoding(http.headers.get("accept-encoding", ""))
            if encoding is not None and data:
                data = compress(data, encoding)
                headers["Content-Encoding"] = encoding
        return Response(data, headers=headers, media_type=_content_type(result.format))

    def _error_response(self, error: ServerError, headers: dict[str, str]) -> Response:
        headers["X-ClickHouse-Exception-Code"] = str(error.code)
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        return PlainTextResponse(
            error.body(self._engine.version), status_code=error.status, headers=headers
        )


def _engine_request(http: HttpRequest, user: User, body: bytes) -> Request:
    url = http.query_params
    if http.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ServerError(ErrorCode.NOT_IMPLEMENTED, "external tables are not supported here")
    for name in _UNSUPPORTED_PARAMETERS & url.keys():
        if url[name] not in ("0", ""):
            raise ServerError(
                ErrorCode.NOT_IMPLEMENTED,
                f"{name}=1 (ClickHouse's own block compression) is not supported here: "
                "use Content-Encoding and Accept-Encoding",
            )
    sql = url.get("query", "").encode()
    names = url.keys() - _OWN_PARAMETERS - _UNSUPPORTED_PARAMETERS
    return Request(
        sql=sql + b"\n" + body if sql and body else sql + body,
        database=url.get("database") or http.headers.get("x-clickhouse-database"),
        default_format=url.get("default_format")
        or http.headers.get("x-clickhouse-format")
        or "TabSeparated",
        settings={name: url[name] for name in names if not name.startswith("param_")},
        parameters={name[6:]: url[name] for name in names if name.startswith("param_")},
        # As in ClickHouse, a GET request cannot change anything.
        read_only=user.read_only or http.method != "POST" or url.get("readonly", "0") != "0",
    )


def _for_protocol(result: Result, wanted: str) -> bytes:
    # Clients of older revisions notice that they get revision 0, and read that.
    newer = wanted.isdigit() and int(wanted) >= CUSTOM_SERIALIZATION_REVISION
    return with_block_info(result.data) if newer and result.format == "Native" else result.data


def _refuse_foreign_page(headers: Headers) -> None:
    """Refuse requests that a web page of another origin made in the user's browser."""
    host = headers.get("host", "")
    if re.sub(r":\d+\Z", "", host) not in _LOOPBACK_HOSTS:
        raise ServerError(
            ErrorCode.ACCESS_DENIED, f"this server answers on loopback, not as {host}"
        )
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise ServerError(ErrorCode.ACCESS_DENIED, f"requests from pages of {origin} are refused")


def _summary(result: Result) -> str:
    counts = {
        "read_rows": result.read_rows,
        "read_bytes": result.read_bytes,
        "written_rows": result.written_rows,
        "written_bytes": result.written_bytes,
        "total_rows_to_read": result.read_rows,
        "result_rows": result.written_rows,
        "result_bytes": len(result.data),
        "elapsed_ns": result.elapsed_ns,
    }
    return json.dumps({name: str(count) for name, count in counts.items()})


def _content_type(format_name: str) -> str:
    for pattern, media_type in _CONTENT_TYPES:
        if pattern.fullmatch(format_name):
            return media_type
    return "text/plain; charset=UTF-8"
