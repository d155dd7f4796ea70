"""Segment -> bytes: the guarded way to whatever an address names.

Every connection goes to an address that was resolved once and checked just then (`vqmon.media.fetch.policy`), with
Host, SNI and certificate check on the name. Answers are streamed with a hard stop and never decompressed.
"""

import asyncio
import os
import ssl
import stat
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Self

import httpcore2

from vqmon.core.types import ByteRange, Encryption, Segment
from vqmon.errors import FetchError
from vqmon.media.fetch.decryption import decrypt, need_decryptable, split_encryption
from vqmon.media.fetch.http import Fetched, HttpGetter, PinnedNetwork, Resolve, system_resolver
from vqmon.media.fetch.policy import FetchPolicy, check_file, is_local, printable, shown


class Recent:
    """Remembers the newest `max_count` bodies for `max_age_seconds`; places are kept as digests, never in clear."""

    def __init__(self, *, max_count: int, max_age_seconds: float, clock: Callable[[], float]) -> None:
        self._max_count = max_count
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._bodies: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def get(self, place: str) -> bytes | None:
        """What was put there, unless it is too old."""
        put_at, body = self._bodies.get(_digest(place), (float("-inf"), b""))
        return body if self._clock() - put_at < self._max_age_seconds else None

    def put(self, place: str, body: bytes) -> None:
        """Remember a body; the oldest one makes room."""
        self._bodies.pop(_digest(place), None)
        self._bodies[_digest(place)] = (self._clock(), body)
        while len(self._bodies) > self._max_count:
            self._bodies.popitem(last=False)


def _digest(place: str) -> bytes:
    return sha256(place.encode("utf-8", "surrogatepass")).digest()


__all__ = ["FetchPolicy", "Fetched", "Fetcher"]

INIT_MAX_BYTES = 1_000_000
KEY_MAX_BYTES = 1_000
REMEMBER_SECONDS = 60.0
"""How long initialization sections and keys are reused: a packager that starts anew writes others to the same place."""

_RAISE = "; fetch.max_bytes (--max-bytes) allows more"


class Fetcher:
    """Fetches segments and playlists within a policy; raises FetchError and nothing else.

    `resolve`, `network`, `tls`, `clock` and `sleep` are for tests and for networks of one's own.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolve: Resolve = system_resolver,
        network: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        pinned = PinnedNetwork(policy, resolve, network or httpcore2.AnyIOBackend())
        self._http = HttpGetter(policy, network=pinned, tls=tls, clock=clock, sleep=sleep)
        self._inits = Recent(max_count=64, max_age_seconds=REMEMBER_SECONDS, clock=clock)
        self._keys = Recent(max_count=256, max_age_seconds=REMEMBER_SECONDS, clock=clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def fetch(self, segment: Segment) -> bytes:
        """The bytes of a segment, decrypted, with its initialization section in front."""
        if segment.encryption is not None:
            need_decryptable(segment.encryption)
        init = await self._init_of(segment) if segment.init_url else b""
        fetched = await self.get(segment.url, max_bytes=self._policy.max_bytes, byte_range=segment.byte_range)
        media = await self._decrypted(fetched.body, segment.encryption)
        if len(init) + len(media) > self._policy.max_bytes:
            raise FetchError("too_large", f"{shown(segment.url)}: more than {self._policy.max_bytes} bytes{_RAISE}")
        return init + media

    async def get(self, url: str, *, max_bytes: int, byte_range: ByteRange | None = None) -> Fetched:
        """What is at an address now: http(s) or a local file, whole or in part.

        At most `max_bytes`, and never more than the policy's. The deadline covers all retries and redirects.
        """
        max_bytes = min(max_bytes, self._policy.max_bytes)
        try:
            if byte_range is not None and byte_range.length_bytes > max_bytes:
                raise FetchError("too_large", f"{shown(url)}: {byte_range.length_bytes} bytes, {max_bytes} allowed")
            async with asyncio.timeout(self._policy.total_seconds):
                if not is_local(url):
                    return await self._http.get(url, max_bytes=max_bytes, byte_range=byte_range)
                path = await asyncio.to_thread(check_file, url, self._policy)
                body = await asyncio.to_thread(_read_file, path, max_bytes=max_bytes, byte_range=byte_range)
                return Fetched(body=body, url=url)
        except TimeoutError:
            raise FetchError("timeout", f"{shown(url)}: not done in {self._policy.total_seconds:g} s") from None
        except FetchError as error:
            if error.reason == "too_large" and max_bytes == self._policy.max_bytes:
                raise FetchError("too_large", f"{error.detail}{_RAISE}") from None
            raise

    async def _init_of(self, segment: Segment) -> bytes:
        place = f"{segment.init_url} {segment.init_byte_range}"
        known = None if segment.is_discontinuity else self._inits.get(place)
        if known is not None:
            return known
        url, encryption = split_encryption(segment.init_url or "")
        fetched = await self.get(url, max_bytes=INIT_MAX_BYTES, byte_range=segment.init_byte_range)
        init = await self._decrypted(fetched.body, encryption)
        self._inits.put(place, init)
        return init

    async def _decrypted(self, body: bytes, encryption: Encryption | None) -> bytes:
        if encryption is None:
            return body
        key = await self._key_at(need_decryptable(encryption))
        return await asyncio.to_thread(decrypt, body, encryption, key)

    async def _key_at(self, url: str) -> bytes:
        known = self._keys.get(url)
        if known is not None:
            return known
        try:
            key = (await self.get(url, max_bytes=KEY_MAX_BYTES)).body
        except FetchError as error:
            raise FetchError("key", f"the key cannot be had: {error}") from None
        self._keys.put(url, key)
        return key


def _read_file(path: Path, *, max_bytes: int, byte_range: ByteRange | None) -> bytes:
    """Read a regular file, or a part of it; what is no regular file might never end."""
    name = printable(str(path))
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise FetchError("file", f"{name} is not a regular file")
            if byte_range is not None:
                file.seek(byte_range.offset_bytes)
                return file.read(byte_range.length_bytes)
            body = file.read(max_bytes + 1)
    except OSError as error:
        raise FetchError("file", f"{name}: {error.strerror}") from None
    if len(body) > max_bytes:
        raise FetchError("too_large", f"{name}: more than {max_bytes} bytes")
    return body
