"""One HTTP POST to a receiver of alerts: no redirects, no proxy, limits in time and size."""

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

MAX_ANSWER_BYTES = 64_000
MAX_RETRY_AFTER_SECONDS = 3600.0
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class Post(Protocol):
    """Sends one body and returns when it was taken; raises DeliveryError."""

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> None: ...


class HttpPoster:
    """POSTs over connections that stay open.

    `network` decides which addresses are connected to, so that a name which suddenly leads into the house is refused.
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

    async def __aenter__(self) -> "HttpPoster":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Post and judge the answer: 2xx is taken, 410 is gone, what may heal is busy, all else is refused."""
        address = httpcore2.URL(url)
        place = f"{address.scheme.decode()}://{address.host.decode()}{address.target.decode().split('?')[0]}"
        sent = {
            "Host": _authority(address),
            "User-Agent": "vqmon",
            "Accept": "*/*",
            "Content-Length": str(len(body)),
            **headers,
        }
        request = httpcore2.Request("POST", address, headers=list(sent.items()), content=_once(body))
        async with _translated(place, self._timeout_seconds):
            response = await self._pool.handle_async_request(request)
            try:
                text = await _text(response)
            finally:
                await response.aclose()
        _judge(place, response.status, {name.lower(): value for name, value in response.headers}, text)


def _authority(address: httpcore2.URL) -> str:
    host = address.host.decode()
    name = f"[{host}]" if ":" in host else host
    return name if address.port is None else f"{name}:{address.port}"


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _text(response: httpcore2.Response) -> str:
    read = bytearray()
    async for chunk in response.aiter_stream():
        read += chunk
        if len(read) > MAX_ANSWER_BYTES:
            break
    return read.decode("utf-8", "replace").strip()[:300]


@asynccontextmanager
async def _translated(place: str, timeout_seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except (TimeoutError, httpcore2.TimeoutException):
        raise DeliveryError("timeout", f"{place}: no answer in {timeout_seconds:g} s") from None
    except VqmonError as error:
        raise DeliveryError("refused", f"{place}: {error}") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise DeliveryError("unreachable", f"{place}: {str(error)[:200] or type(error).__name__}") from None


def _judge(place: str, status: int, headers: Mapping[bytes, bytes], text: str) -> None:
    if 200 <= status < 300:
        return
    told = f"{place}: status {status}" + (f", {text}" if text else "")
    if status == 410:
        raise DeliveryError("gone", told)
    if status in _BUSY:
        after = _retry_after(headers.get(b"retry-after", b"").decode("latin-1"), datetime.now(UTC))
        raise DeliveryError("busy", told, retry_after_seconds=after)
    # A redirect too: whoever signs or shows a token does not follow where an answer points.
    raise DeliveryError("refused", told)


def _retry_after(text: str, now: datetime) -> float | None:
    """Seconds to wait, from a number of seconds or a date; None for nonsense."""
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
