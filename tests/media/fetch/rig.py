"""A scripted resolver, a manual clock and policies for the tests of fetching."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpcore2
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tests.media.loopback import Request, Server
from vqmon.core.types import Rendition, Segment
from vqmon.errors import FetchError
from vqmon.media.fetch import fetcher as fetch
from vqmon.media.fetch.fetcher import FetchPolicy

# Loading all root certificates takes longer than most of these tests.
Fetcher = partial(fetch.Fetcher, tls=ssl.create_default_context())


PUBLIC = "8.8.8.8"


LIMIT = 1_000_000


class UnreachableNetwork(httpcore2.AsyncNetworkBackend):
    """Refuses every connection and records the requested addresses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        self.asked.append((host, port))
        raise httpcore2.ConnectError("nothing is there")


class ScriptedResolver:
    """A resolver with scripted answers: one list of addresses per call, the last one repeated."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class ManualClock:
    """A clock that advances only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


def loopback_policy(server: Server, **changes: Any) -> FetchPolicy:
    """Allows the test's server, by number and by any name below `test`."""
    base = FetchPolicy(
        allowed_hosts=("127.0.0.1", "test"),
        allowed_networks=("127.0.0.0/8",),
        allow_http=True,
        allowed_ports=(server.port,),
        first_byte_seconds=0.5,
        total_seconds=5.0,
    )
    return replace(base, **changes)


async def refusal(fetcher: fetch.Fetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.get(url, max_bytes=LIMIT)
    return caught.value


def segment(url: str, **facts: Any) -> Segment:
    return Segment(
        rendition=Rendition(stream_id="s", name="r"),
        sequence=1,
        url=url,
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        **facts,
    )


async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
    """No answer at all."""
    await asyncio.sleep(60)


BODY = bytes(range(256)) * 40


KEY, IV = bytes(range(16)), bytes(range(16, 32))


def encrypted(plain: bytes, *, key: bytes = KEY) -> bytes:
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(key), modes.CBC(IV)).encryptor()
    return cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
