"""HTTP POST to receivers of alerts: no redirects, no proxy, limits in time and size."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Protocol

import httpcore2

from vqmon.errors import DeliveryError, VqmonError

_MAX_RESPONSE_BYTES = 64_000
_MAX_RETRY_AFTER_SECONDS = 3600.0
_RETRYABLE_STATUSES = frozenset({408, 425, 429, *range(500, 600)})


class HttpClient(Protocol):
    """Sends POST requests to receivers."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send one request and return when the response is 2xx; raises DeliveryError for any other."""
        ...


class PooledHttpClient:
    """An `HttpClient` over persistent connections.

    `network` opens the connections and can refuse addresses, such as a private one behind a public name.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float = 5.0,
        network: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or httpcore2.default_ssl_context(),
            max_connections=20,
            keepalive_expiry=120,
            network_backend=network,
        )

    async def __aenter__(self) -> "PooledHttpClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send one request.

        Raises DeliveryError: "gone" (status 410), "busy" (statuses worth a retry), "refused" (other statuses, a
        forbidden address), "timeout" or "unreachable".
        """
        target = httpcore2.URL(url)
        shown_url = f"{target.scheme.decode()}://{target.host.decode()}{target.target.decode().split('?')[0]}"
        sent_headers = {
            "Host": _authority(target),
            "User-Agent": "vqmon",
            "Accept": "*/*",
            "Content-Length": str(len(body)),
            **headers,
        }
        request = httpcore2.Request("POST", target, headers=list(sent_headers.items()), content=_single_chunk(body))
        async with _translated_errors(shown_url, self._timeout_seconds):
            response = await self._pool.handle_async_request(request)
            try:
                text = await _read_text(response)
            finally:
                await response.aclose()
        _raise_for_status(shown_url, response.status, {name.lower(): value for name, value in response.headers}, text)


def _authority(target: httpcore2.URL) -> str:
    host = target.host.decode()
    name = f"[{host}]" if ":" in host else host
    return name if target.port is None else f"{name}:{target.port}"


async def _single_chunk(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _read_text(response: httpcore2.Response) -> str:
    read = bytearray()
    async for chunk in response.aiter_stream():
        read += chunk
        if len(read) > _MAX_RESPONSE_BYTES:
            break
    return read.decode("utf-8", "replace").strip()[:300]


@asynccontextmanager
async def _translated_errors(shown_url: str, timeout_seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except (TimeoutError, httpcore2.TimeoutException):
        raise DeliveryError("timeout", f"{shown_url}: no answer in {timeout_seconds:g} s") from None
    except VqmonError as error:
        raise DeliveryError("refused", f"{shown_url}: {error}") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise DeliveryError("unreachable", f"{shown_url}: {str(error)[:200] or type(error).__name__}") from None


def _raise_for_status(shown_url: str, status: int, headers: Mapping[bytes, bytes], text: str) -> None:
    if 200 <= status < 300:
        return
    message = f"{shown_url}: status {status}" + (f", {text}" if text else "")
    if status == 410:
        raise DeliveryError("gone", message)
    if status in _RETRYABLE_STATUSES:
        retry_after_seconds = _retry_after_seconds(
            headers.get(b"retry-after", b"").decode("latin-1"), datetime.now(UTC)
        )
        raise DeliveryError("busy", message, retry_after_seconds=retry_after_seconds)
    # Redirects too: a sender that signs or sends a token must not follow a redirect to another host.
    raise DeliveryError("refused", message)


def _retry_after_seconds(text: str, now: datetime) -> float | None:
    """Read a Retry-After header, a number of seconds or a date; None when it is neither."""
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _MAX_RETRY_AFTER_SECONDS)
    try:
        retry_at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    seconds = (retry_at.replace(tzinfo=retry_at.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)
