"""HTTP GET within a `FetchPolicy`: pinned and checked IP addresses, redirects checked again, limits, retries."""

import asyncio
import errno
import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urldefrag, urljoin

import httpcore2

from vqmon.core.types import ByteRange
from vqmon.errors import FetchError, UnknownHostError
from vqmon.media.fetch.content import IDENTITY_CODINGS, decompress, is_decodable, is_gzip
from vqmon.media.fetch.ssrf_policy import (
    CheckedUrl,
    FetchPolicy,
    check_addresses,
    check_url,
    parse_ip_address,
    redact_url,
)
from vqmon.retry import Backoff

OnReceived = Callable[[bytearray], None]
"""Called with a body as far as it has come, each time that there is more; after a retry it begins anew."""

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host name, port) -> its IP addresses as text."""

_BACKOFF = Backoff(first_seconds=0.25)
_RETRY_AFTER_MAX_SECONDS = 5.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

_LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EADDRNOTAVAIL})
"""Errors of the operating system that say what this machine lacks, and nothing of an origin or a file."""

_Headers = dict[bytes, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedResource:
    """The body behind a URL, and when it was modified."""

    body: bytes
    # after redirects; relative URLs in the body are resolved against it
    url: str
    modified_at: datetime | None = None
    # the server's clock (Date header)
    served_at: datetime | None = None


class _RetryableError(FetchError):
    """A failure that a retry may overcome."""

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        retry_after_seconds: float | None = None,
        raised_as: type[FetchError] = FetchError,
    ) -> None:
        super().__init__(reason, detail)
        self.retry_after_seconds = retry_after_seconds
        # what callers get when no retry helps
        self.raised_as = raised_as


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a host name, from the system's resolver."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class PinnedNetworkBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, checks every IP address against the policy, and connects to those addresses only."""

    def __init__(
        self,
        policy: FetchPolicy,
        resolve: Resolver = resolve_host,
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
        """Connect to the first checked address that accepts; `timeout` covers all of them and the resolver."""
        # The name is checked again here, so that no connection depends on how another library parsed the URL.
        if not self._policy.allows_host(host):
            raise FetchError("refused", f"host {host} is not in {self._policy.section}.allowed_hosts")
        failure: Exception = httpcore2.ConnectError("no address")
        try:
            async with asyncio.timeout(timeout):
                for address in check_addresses(host, await self._addresses_of(host, port), self._policy):
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
        """Refuse: local sockets are never connected to."""
        raise FetchError("refused", "Unix sockets are not allowed")

    async def sleep(self, seconds: float) -> None:
        """Sleep; httpcore2 requires it."""
        await asyncio.sleep(seconds)

    async def _addresses_of(self, host: str, port: int) -> list[str]:
        if parse_ip_address(host) is not None:
            return [host]
        try:
            return list(await self._resolve(host, port))
        except (OSError, UnicodeError):
            detail = f"the host name {host} cannot be resolved; check the name, and the name server of this machine"
            raise _RetryableError("unreachable", detail, raised_as=UnknownHostError) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedBody:
    """What of a resource is wanted."""

    max_bytes: int
    # None = all of it
    byte_range: ByteRange | None = None
    on_received: OnReceived = lambda body: None


class HttpClient:
    """Makes GET requests within a policy; raises FetchError and nothing else."""

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
        # A bare connection pool: a full client would add cookies, authentication and proxies from the environment.
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

    async def get(self, url: str, wanted: WantedBody) -> FetchedResource:
        """Fetch a URL; retry retryable failures within the policy's number of retries and its deadline."""
        url = urldefrag(url).url
        began = self._clock()
        for attempt in itertools.count():
            try:
                return await self._follow_redirects(url, wanted)
            except _RetryableError as error:
                delay = error.retry_after_seconds
                if delay is None:
                    delay = _BACKOFF.delay_seconds(attempt + 1)
                remaining_seconds = self._policy.total_seconds - (self._clock() - began)
                if attempt >= self._policy.retries or delay >= remaining_seconds:
                    raise error.raised_as(error.reason, error.detail) from None
                await self._sleep(delay)
        raise AssertionError("count() does not end")

    async def _follow_redirects(self, url: str, wanted: WantedBody) -> FetchedResource:
        location = url
        for _ in range(self._policy.max_redirects + 1):
            answer = await self._send_request(check_url(location, self._policy), wanted)
            if isinstance(answer, FetchedResource):
                return answer
            try:
                location = urldefrag(urljoin(location, answer)).url
            except ValueError:
                raise FetchError("refused", f"{redact_url(url)}: redirected to something that is not a URL") from None
        raise FetchError("refused", f"{redact_url(url)}: more than {self._policy.max_redirects} redirects")

    async def _send_request(self, url: CheckedUrl, wanted: WantedBody) -> FetchedResource | str:
        """Send one request; returns the resource, or the Location header of a redirect."""
        name, policy = redact_url(url.url), self._policy
        max_bytes, byte_range = wanted.max_bytes, wanted.byte_range
        with _translate_errors(name):
            try:
                async with asyncio.timeout(policy.connect_seconds + policy.first_byte_seconds):
                    response = await self._pool.handle_async_request(_build_request(url, policy, byte_range))
            except TimeoutError:
                raise _RetryableError("timeout", f"{name}: no answer in {policy.first_byte_seconds:g} s") from None
        try:
            headers = {key.lower(): value.decode("latin-1") for key, value in response.headers}
            if response.status in _REDIRECTS and b"location" in headers:
                return headers[b"location"]
            _check_response_head(name, response.status, headers)
            body_slice = _body_slice(name, response.status, headers, byte_range)
            coding = _content_coding(headers)
            is_compressed = coding not in IDENTITY_CODINGS
            # a range of a compressed body is cut out after decompression
            received_slice = slice(0, None) if is_compressed else body_slice
            _check_announced_length(name, headers, received_slice, max_bytes)
            with _translate_errors(name):
                body = await self._receive(name, response.aiter_stream(), received_slice, wanted)
        finally:
            await response.aclose()
        if is_compressed or (byte_range is None and is_gzip(body)):
            decode = partial(_decode_body, name, body, coding, body_slice, max_bytes=max_bytes)
            body = await asyncio.to_thread(decode)
        return FetchedResource(
            body=body,
            url=url.url,
            modified_at=_parse_http_date(headers.get(b"last-modified")),
            served_at=_parse_http_date(headers.get(b"date")),
        )

    async def _receive(self, name: str, chunks: AsyncIterator[bytes], body_slice: slice, wanted: WantedBody) -> bytes:
        """Read until the end of the body or of `body_slice`, whichever comes first."""
        body = bytearray()
        window_began, window_bytes = self._clock(), 0
        async for chunk in chunks:
            body += chunk
            if body_slice.stop is not None and len(body) >= body_slice.stop:
                break
            if len(body) > wanted.max_bytes:
                raise FetchError("too_large", f"{name}: more than {wanted.max_bytes} bytes")
            wanted.on_received(body)
            seconds = self._clock() - window_began
            if seconds >= self._policy.rate_window_seconds:
                if len(body) - window_bytes < self._policy.min_rate_bytes * seconds:
                    raise FetchError("too_slow", f"{name}: under {self._policy.min_rate_bytes} bytes per second")
                window_began, window_bytes = self._clock(), len(body)
        return bytes(body[body_slice])


def _build_request(url: CheckedUrl, policy: FetchPolicy, byte_range: ByteRange | None) -> httpcore2.Request:
    headers = {"Host": url.authority, "User-Agent": "vqmon", "Accept": "*/*", "Accept-Encoding": "identity"}
    if byte_range is not None:
        last = byte_range.offset_bytes + byte_range.length_bytes - 1
        headers["Range"] = f"bytes={byte_range.offset_bytes}-{last}"
    target = url.path
    credential = policy.credential_of(url.host)
    if credential is not None:
        target = credential.signed_path(target)
        if credential.header:
            headers[credential.header] = credential.secret
    idle_seconds = policy.first_byte_seconds
    return httpcore2.Request(
        "GET",
        httpcore2.URL(scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=target.encode()),
        headers=list(headers.items()),
        extensions={"timeout": {"connect": policy.connect_seconds, "read": idle_seconds, "write": idle_seconds}},
    )


def _check_response_head(name: str, status: int, headers: _Headers) -> None:
    if status in (404, 410):
        raise FetchError("not_found", f"{name}: status {status}")
    if status in _RETRYABLE_STATUSES:
        raise _RetryableError(
            "http_status",
            f"{name}: status {status}",
            retry_after_seconds=_parse_retry_after(headers.get(b"retry-after")),
        )
    if not 200 <= status < 300:
        raise FetchError("http_status", f"{name}: status {status}")
    coding = _content_coding(headers)
    if not is_decodable(coding):
        raise FetchError("http_status", f"{name}: compressed as {coding[:20]} though identity was requested")
    if status == 206 and coding not in IDENTITY_CODINGS:
        raise FetchError("http_status", f"{name}: a part of a body that is compressed as {coding}")


def _content_coding(headers: _Headers) -> str:
    """The coding of the body, without those that leave it as it is."""
    codings = [coding.strip() for coding in headers.get(b"content-encoding", "").lower().split(",")]
    return ", ".join(coding for coding in codings if coding not in IDENTITY_CODINGS)


def _decode_body(name: str, body: bytes, coding: str, body_slice: slice, *, max_bytes: int) -> bytes:
    try:
        return decompress(body, coding, max_bytes=max_bytes)[body_slice]
    except FetchError as error:
        raise FetchError(error.reason, f"{name}: {error.detail}") from None


def _body_slice(name: str, status: int, headers: _Headers, byte_range: ByteRange | None) -> slice:
    """The slice of the body to return: servers may answer a range request with that range or with everything."""
    if byte_range is None:
        if status == 206:
            raise FetchError("http_status", f"{name}: status 206, a part, though the whole was requested")
        return slice(0, None)
    if status != 206:
        return slice(byte_range.offset_bytes, byte_range.offset_bytes + byte_range.length_bytes)
    content_range = headers.get(b"content-range", "").strip().lower()
    if content_range and not content_range.startswith(f"bytes {byte_range.offset_bytes}-"):
        raise FetchError("http_status", f"{name}: the server sent another range than requested")
    return slice(0, byte_range.length_bytes)


def _check_announced_length(name: str, headers: _Headers, body_slice: slice, max_bytes: int) -> None:
    """Refuse a body that is announced as too large; a smaller announcement is not trusted while reading."""
    content_length = headers.get(b"content-length", "")
    is_number = content_length.isascii() and content_length.isdigit()
    length = body_slice.stop or (int(content_length[:18]) if is_number else 0)
    if length > max_bytes:
        raise FetchError("too_large", f"{name}: {length} bytes, {max_bytes} allowed")


def lack_of_resources(error: BaseException) -> str:
    """What this process or machine lacks, by the error or one that it comes from; empty when it is something else."""
    chain: list[BaseException] = []
    while error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__ or error
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in _LACKS:
            return os.strerror(cause.errno)
        if isinstance(cause, MemoryError):
            return "Out of memory"
        if isinstance(cause, RuntimeError) and "new thread" in str(cause):
            return "No more threads"
    return ""


@contextmanager
def translated_lacks(name: str) -> Iterator[None]:
    """Raise FetchError("resources") for an error of the context that says what this machine lacks."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        if lack := lack_of_resources(error):
            raise FetchError("resources", f"{name}: {lack}") from error
        raise


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (httpcore2.ConnectTimeout, httpcore2.ReadTimeout, httpcore2.WriteTimeout) as error:
        kind = "connection" if isinstance(error, httpcore2.ConnectTimeout) else "bytes"
        raise _RetryableError("timeout", f"{name}: no {kind} in time") from None
    except httpcore2.ConnectError as error:
        if lack := lack_of_resources(error):
            raise FetchError("resources", f"{name}: {lack}") from None
        raise _RetryableError("unreachable", f"{name}: {str(error)[:200] or 'no connection'}") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
        raise _RetryableError("unreachable", f"{name}: the connection broke ({type(error).__name__})") from None


def _parse_retry_after(text: str | None) -> float | None:
    """Seconds from a Retry-After header, at most `_RETRY_AFTER_MAX_SECONDS`; dates give None."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:9]), _RETRY_AFTER_MAX_SECONDS)


def _parse_http_date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text) if text else None
    except (TypeError, ValueError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC) if date else None
