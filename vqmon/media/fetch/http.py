"""One guarded HTTP GET: pinned and checked addresses, redirects checked again, limits in time and size, retries."""

import asyncio
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urldefrag, urljoin

import httpcore2

from vqmon.core.types import ByteRange
from vqmon.errors import FetchError
from vqmon.media.fetch.policy import FetchPolicy, Target, check_addresses, check_url, literal_of, shown

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port -> the addresses behind it, as text."""

_BACK_OFF_SECONDS = 0.25
_RETRY_AFTER_MAX_SECONDS = 5.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAY_HEAL = frozenset({408, 425, 429, 500, 502, 503, 504})

Headers = dict[bytes, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What an address gave."""

    body: bytes
    # after redirects; relative addresses inside the body start from here
    url: str
    modified_at: datetime | None = None
    # by the server's clock
    served_at: datetime | None = None


class _MayHealError(FetchError):
    """A failure that another try may not meet again."""

    def __init__(self, reason: str, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason, detail)
        self.retry_after_seconds = retry_after_seconds


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """What this machine's resolver answers."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class PinnedNetwork(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, checks every answer, and connects to just those addresses."""

    def __init__(
        self,
        policy: FetchPolicy,
        resolve: Resolve = system_resolver,
        network: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._network = network or httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first checked address that answers; `timeout` covers them all and the resolver."""
        # The name is checked again here, so that no connection depends on how somebody else read the URL.
        if not self._policy.allows_host(host):
            raise FetchError("refused", f"host {host} is not in allowed_hosts")
        failure: Exception = httpcore2.ConnectError("no address")
        try:
            async with asyncio.timeout(timeout):
                for address in check_addresses(host, await self._answers(host, port), self._policy):
                    try:
                        return await self._network.connect_tcp(
                            str(address), port, timeout=timeout, socket_options=socket_options
                        )
                    except httpcore2.ConnectError as error:
                        failure = error
        except TimeoutError:
            raise httpcore2.ConnectTimeout(host) from None
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Never: sockets of this machine are not fetched from."""
        raise FetchError("refused", "sockets of this machine are not fetched from")

    async def sleep(self, seconds: float) -> None:
        """Wait; part of the interface."""
        await asyncio.sleep(seconds)

    async def _answers(self, host: str, port: int) -> list[str]:
        if literal_of(host) is not None:
            return [host]
        try:
            return list(await self._resolve(host, port))
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError(f"{host} cannot be resolved") from None


class HttpGetter:
    """GETs within a policy; raises FetchError and nothing else. See `Fetcher` for what is injected."""

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        network: httpcore2.AsyncNetworkBackend,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        # No cookies, no authentication, no proxy from the environment: a client would bring those along.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or httpcore2.default_ssl_context(),
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=30,
            network_backend=network,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def get(self, url: str, *, max_bytes: int, byte_range: ByteRange | None) -> Fetched:
        """Try until it works, cannot heal, or the retries or the time are used up."""
        url = urldefrag(url).url
        began = self._clock()
        for attempt in itertools.count():
            try:
                return await self._follow(url, max_bytes, byte_range)
            except _MayHealError as error:
                delay = error.retry_after_seconds
                if delay is None:
                    delay = _BACK_OFF_SECONDS * 2**attempt
                left = self._policy.total_seconds - (self._clock() - began)
                if attempt >= self._policy.retries or delay >= left:
                    raise FetchError(error.reason, error.detail) from None
                await self._sleep(delay)
        raise AssertionError("count() does not end")

    async def _follow(self, url: str, max_bytes: int, byte_range: ByteRange | None) -> Fetched:
        here = url
        for _ in range(self._policy.max_redirects + 1):
            answer = await self._ask(check_url(here, self._policy), max_bytes, byte_range)
            if isinstance(answer, Fetched):
                return answer
            try:
                here = urldefrag(urljoin(here, answer)).url
            except ValueError:
                raise FetchError("refused", f"{shown(url)}: redirected to what is no address") from None
        raise FetchError("refused", f"{shown(url)}: more than {self._policy.max_redirects} redirects")

    async def _ask(self, target: Target, max_bytes: int, byte_range: ByteRange | None) -> Fetched | str:
        """One request: what came, or where the answer points to."""
        name, policy = shown(target.url), self._policy
        with _translated(name):
            try:
                async with asyncio.timeout(policy.connect_seconds + policy.first_byte_seconds):
                    response = await self._pool.handle_async_request(_request(target, policy, byte_range))
            except TimeoutError:
                raise _MayHealError("timeout", f"{name}: no answer in {policy.first_byte_seconds:g} s") from None
        try:
            headers = {key.lower(): value.decode("latin-1") for key, value in response.headers}
            if response.status in _REDIRECTS and b"location" in headers:
                return headers[b"location"]
            _check_head(name, response.status, headers)
            part = _part(name, response.status, headers, byte_range)
            _check_length(name, headers, part, max_bytes)
            with _translated(name):
                body = await self._receive(name, response.aiter_stream(), part, max_bytes)
        finally:
            await response.aclose()
        return Fetched(
            body=body,
            url=target.url,
            modified_at=_moment(headers.get(b"last-modified")),
            served_at=_moment(headers.get(b"date")),
        )

    async def _receive(self, name: str, chunks: AsyncIterator[bytes], part: slice, max_bytes: int) -> bytes:
        """Read until the end of the body or of `part`, whichever comes first."""
        body = bytearray()
        began, counted = self._clock(), 0
        async for chunk in chunks:
            body += chunk
            if part.stop is not None and len(body) >= part.stop:
                break
            if len(body) > max_bytes:
                raise FetchError("too_large", f"{name}: more than {max_bytes} bytes")
            seconds = self._clock() - began
            if seconds >= self._policy.rate_window_seconds:
                if len(body) - counted < self._policy.min_rate_bytes * seconds:
                    raise FetchError("too_slow", f"{name}: under {self._policy.min_rate_bytes} bytes per second")
                began, counted = self._clock(), len(body)
        return bytes(body[part])


def _request(target: Target, policy: FetchPolicy, byte_range: ByteRange | None) -> httpcore2.Request:
    headers = {"Host": target.authority, "User-Agent": "vqmon", "Accept": "*/*", "Accept-Encoding": "identity"}
    if byte_range is not None:
        last = byte_range.offset_bytes + byte_range.length_bytes - 1
        headers["Range"] = f"bytes={byte_range.offset_bytes}-{last}"
    silence = policy.first_byte_seconds
    return httpcore2.Request(
        "GET",
        httpcore2.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        ),
        headers=list(headers.items()),
        extensions={"timeout": {"connect": policy.connect_seconds, "read": silence, "write": silence}},
    )


def _check_head(name: str, status: int, headers: Headers) -> None:
    if status in (404, 410):
        raise FetchError("not_found", f"{name}: status {status}")
    if status in _MAY_HEAL:
        raise _MayHealError(
            "http_status", f"{name}: status {status}", retry_after_seconds=_retry_after(headers.get(b"retry-after"))
        )
    if not 200 <= status < 300:
        raise FetchError("http_status", f"{name}: status {status}")
    coding = headers.get(b"content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise FetchError("http_status", f"{name}: compressed as {coding[:20]} though identity was asked for")


def _part(name: str, status: int, headers: Headers, byte_range: ByteRange | None) -> slice:
    """Which part of the body is wanted: servers may answer a range with that range or with everything."""
    if byte_range is None:
        return slice(0, None)
    if status != 206:
        return slice(byte_range.offset_bytes, byte_range.offset_bytes + byte_range.length_bytes)
    given = headers.get(b"content-range", "").strip().lower()
    if given and not given.startswith(f"bytes {byte_range.offset_bytes}-"):
        raise FetchError("http_status", f"{name}: another range than asked for")
    return slice(0, byte_range.length_bytes)


def _check_length(name: str, headers: Headers, part: slice, max_bytes: int) -> None:
    """What is announced as too large is not read; an announcement is never believed to be small."""
    claimed = headers.get(b"content-length", "")
    length = part.stop or (int(claimed[:18]) if claimed.isascii() and claimed.isdigit() else 0)
    if length > max_bytes:
        raise FetchError("too_large", f"{name}: {length} bytes, {max_bytes} allowed")


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (httpcore2.ConnectTimeout, httpcore2.ReadTimeout, httpcore2.WriteTimeout) as error:
        kind = "connection" if isinstance(error, httpcore2.ConnectTimeout) else "bytes"
        raise _MayHealError("timeout", f"{name}: no {kind} in time") from None
    except httpcore2.ConnectError as error:
        raise _MayHealError("unreachable", f"{name}: {str(error)[:200] or 'no connection'}") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
        raise _MayHealError("unreachable", f"{name}: the connection broke ({type(error).__name__})") from None


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait, at most `_RETRY_AFTER_MAX_SECONDS`; a date or nonsense means our own back-off."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:9]), _RETRY_AFTER_MAX_SECONDS)


def _moment(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text) if text else None
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC) if moment else None
