"""Fetching of segments and playlists over HTTP(S) and from local files, within a `FetchPolicy`.

A name is resolved once per connection, its IP addresses are checked, and the connection goes to one of them, with Host
header, SNI and certificate check on the name. Responses are streamed up to a hard limit, which holds for their content
as well where a server compresses it unasked.
"""

import asyncio
import os
import ssl
import stat
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Self

import httpcore2

from vqmon.core.types import ByteRange, Encryption, Segment
from vqmon.errors import FetchError
from vqmon.media.fetch.content import decode_data_url, decompress, is_data_url, is_gzip
from vqmon.media.fetch.decryption import decrypt, require_key_url, split_encryption_fragment, whole_segment_encryption
from vqmon.media.fetch.http import (
    FetchedResource,
    HttpClient,
    OnReceived,
    PinnedNetworkBackend,
    Resolver,
    WantedBody,
    lack_of_resources,
    resolve_host,
    translated_lacks,
)
from vqmon.media.fetch.ssrf_policy import FetchPolicy, check_file, is_local_address, printable, redact_url


class _TtlCache:
    """Caches the newest `max_count` bodies for `max_age_seconds`; keys are stored as digests, never in clear."""

    def __init__(self, *, max_count: int, max_age_seconds: float, clock: Callable[[], float]) -> None:
        self._max_count = max_count
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._bodies: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """The body stored under a key; None when there is none or it has expired."""
        stored_at, body = self._bodies.get(_digest(key), (float("-inf"), b""))
        return body if self._clock() - stored_at < self._max_age_seconds else None

    def put(self, key: str, body: bytes) -> None:
        """Store a body and evict the oldest beyond `max_count`."""
        self._bodies.pop(_digest(key), None)
        self._bodies[_digest(key)] = (self._clock(), body)
        while len(self._bodies) > self._max_count:
            self._bodies.popitem(last=False)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


__all__ = ["FetchPolicy", "FetchedResource", "Fetcher"]

OnGrown = Callable[[bytes, bytearray], None]
"""Called with an initialization section, and what has come of the segment after it."""

_INIT_MAX_BYTES = 1_000_000
_KEY_MAX_BYTES = 1_000
_CACHE_SECONDS = 60.0
"""How long initialization sections and keys are reused; a packager that restarts writes new ones to the same URL."""

_MAX_BYTES_HINT = "; fetch.max_bytes (--max-bytes) allows more"


class Fetcher:
    """Fetches segments and playlists within a policy; raises FetchError and nothing else.

    `resolve`, `network`, `tls`, `clock` and `sleep` can be replaced by tests and for special networks.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolve: Resolver = resolve_host,
        network: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        pinned = PinnedNetworkBackend(policy, resolve, network or httpcore2.AnyIOBackend())
        self._http = HttpClient(policy, network=pinned, tls=tls, clock=clock, sleep=sleep)
        self._inits = _TtlCache(max_count=64, max_age_seconds=_CACHE_SECONDS, clock=clock)
        self._keys = _TtlCache(max_count=256, max_age_seconds=_CACHE_SECONDS, clock=clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def fetch(self, segment: Segment) -> bytes:
        """The bytes of a segment, decrypted and preceded by its initialization section."""
        encryption = whole_segment_encryption(segment.encryption)
        if encryption is not None:
            require_key_url(encryption)
        init = await self._init_section(segment) if segment.init_url else b""
        fetched = await self.get(segment.url, max_bytes=self._policy.max_bytes, byte_range=segment.byte_range)
        media = await self._decrypt(fetched.body, encryption)
        if _needs_no_init(media):
            init = b""
        if len(init) + len(media) > self._policy.max_bytes:
            raise FetchError(
                "too_large", f"{redact_url(segment.url)}: more than {self._policy.max_bytes} bytes{_MAX_BYTES_HINT}"
            )
        return init + media

    async def fetch_growing(self, segment: Segment, on_received: OnGrown) -> None:
        """Fetch a segment that its server sends as it is made; returns at its end.

        `on_received` is called with its initialization section and what has come of it, each time that there is more.
        """
        init = await self._init_section(segment) if segment.init_url else b""
        await self.get(segment.url, max_bytes=self._policy.max_bytes, on_received=partial(on_received, init))

    async def get(
        self,
        url: str,
        *,
        max_bytes: int,
        byte_range: ByteRange | None = None,
        on_received: OnReceived = lambda body: None,
    ) -> FetchedResource:
        """Fetch an http(s) URL or a local file, whole or in part.

        The body has at most `max_bytes`, and never more than the policy allows. The deadline covers everything.
        `on_received` gets what has come of a body of http(s), still compressed where it is.
        """
        max_bytes = min(max_bytes, self._policy.max_bytes)
        try:
            if byte_range is not None and byte_range.length_bytes > max_bytes:
                raise FetchError(
                    "too_large", f"{redact_url(url)}: {byte_range.length_bytes} bytes, {max_bytes} allowed"
                )
            async with asyncio.timeout(self._policy.total_seconds):
                with translated_lacks(redact_url(url)):
                    wanted = WantedBody(max_bytes=max_bytes, byte_range=byte_range, on_received=on_received)
                    return await self._get(url, wanted)
        except TimeoutError:
            raise FetchError("timeout", f"{redact_url(url)}: not done in {self._policy.total_seconds:g} s") from None
        except FetchError as error:
            if error.reason == "too_large" and max_bytes == self._policy.max_bytes:
                raise FetchError("too_large", f"{error.detail}{_MAX_BYTES_HINT}") from None
            raise

    async def _get(self, url: str, wanted: WantedBody) -> FetchedResource:
        max_bytes, byte_range = wanted.max_bytes, wanted.byte_range
        if is_data_url(url):
            body = await asyncio.to_thread(decode_data_url, url, max_bytes=max_bytes)
            return FetchedResource(body=_cut(body, byte_range), url=url)
        if not is_local_address(url):
            return await self._http.get(url, wanted)
        path = await asyncio.to_thread(check_file, url, self._policy)
        body = await asyncio.to_thread(_read_file, path, max_bytes=max_bytes, byte_range=byte_range)
        if byte_range is None and is_gzip(body):
            body = await asyncio.to_thread(decompress, body, "", max_bytes=max_bytes)
        return FetchedResource(body=body, url=url)

    async def get_start(self, url: str, *, max_bytes: int) -> FetchedResource:
        """Fetch the first `max_bytes` of a resource, or fewer, to detect what it is."""
        start = ByteRange(offset_bytes=0, length_bytes=max_bytes)
        try:
            fetched = await self.get(url, max_bytes=max_bytes, byte_range=start)
        except FetchError as error:
            if error.reason not in ("http_status", "too_large"):
                raise
            # of a body that the server compresses, a part cannot be read
            fetched = await self.get(url, max_bytes=self._policy.max_bytes)
        body = fetched.body
        if is_gzip(body):
            body = await asyncio.to_thread(decompress, body, "", max_bytes=self._policy.max_bytes)
        return replace(fetched, body=body[:max_bytes])

    async def _init_section(self, segment: Segment) -> bytes:
        key = f"{segment.init_url} {segment.init_byte_range}"
        cached = None if segment.is_discontinuity else self._inits.get(key)
        if cached is not None:
            return cached
        url, encryption = split_encryption_fragment(segment.init_url or "")
        fetched = await self.get(url, max_bytes=_INIT_MAX_BYTES, byte_range=segment.init_byte_range)
        init = await self._decrypt(fetched.body, whole_segment_encryption(encryption))
        self._inits.put(key, init)
        return init

    async def _decrypt(self, body: bytes, encryption: Encryption | None) -> bytes:
        if encryption is None:
            return body
        key = await self._fetch_key(require_key_url(encryption))
        return await asyncio.to_thread(decrypt, body, encryption, key)

    async def _fetch_key(self, url: str) -> bytes:
        cached = self._keys.get(url)
        if cached is not None:
            return cached
        try:
            key = (await self.get(url, max_bytes=_KEY_MAX_BYTES)).body
        except FetchError as error:
            raise FetchError("key", f"the key cannot be fetched: {error}") from None
        self._keys.put(url, key)
        return key


def _needs_no_init(media: bytes) -> bool:
    """Whether media is a transport stream, which an initialization section in front would make unreadable.

    An EXT-X-MAP stays in force after a discontinuity to segments of another container, such as advertisements.
    """
    return media[:1] == b"\x47" and media[188:189] in (b"\x47", b"")


def _cut(body: bytes, byte_range: ByteRange | None) -> bytes:
    if byte_range is None:
        return body
    return body[byte_range.offset_bytes : byte_range.offset_bytes + byte_range.length_bytes]


def _read_file(path: Path, *, max_bytes: int, byte_range: ByteRange | None) -> bytes:
    """Read a regular file, or a part of it; other files are refused because reading them might never end."""
    name = printable(str(path))
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FetchError("file", f"{name} is not a regular file")
            if byte_range is not None:
                file.seek(byte_range.offset_bytes)
                return file.read(byte_range.length_bytes)
            body = file.read(max_bytes + 1)
    except OSError as error:
        raise FetchError("resources" if lack_of_resources(error) else "file", f"{name}: {error.strerror}") from None
    if len(body) > max_bytes:
        raise FetchError("too_large", f"{name}: more than {max_bytes} bytes")
    return body
