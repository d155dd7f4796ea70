"""Fetching of segments and files: initialization sections, keys, caches and messages."""

import asyncio
import base64
import gzip
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.file_handles import no_free_handles
from tests.media.fetch.rig import (
    BODY,
    IV,
    KEY,
    LIMIT,
    Fetcher,
    ManualClock,
    encrypted,
    loopback_policy,
    refusal,
    segment,
    silent,
)
from tests.media.loopback import Answer, Request, Server
from vqmon.core.types import ByteRange, Encryption
from vqmon.errors import FetchError
from vqmon.media.fetch.decryption import add_encryption_fragment
from vqmon.media.fetch.fetcher import _CACHE_SECONDS, FetchPolicy, _TtlCache


async def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe, a device, a folder, and what does not exist would never end or cannot be read."""
    os.mkfifo(tmp_path / "pipe.ts")
    (tmp_path / "loop.ts").symlink_to("loop.ts")
    async with Fetcher(FetchPolicy(file_roots=(tmp_path, Path("/dev")))) as fetcher:
        for address in (
            str(tmp_path / "pipe.ts"),
            str(tmp_path),
            str(tmp_path / "none.ts"),
            str(tmp_path / "loop.ts"),
            f"{tmp_path}/a\x00b",
            f"{tmp_path}/{'a' * 5000}",
            "/dev/zero",
        ):
            assert (await refusal(fetcher, address)).reason == "file", address


async def test_files_are_limited_in_size_and_can_be_read_in_part(tmp_path: Path) -> None:
    """A sparse file of a terabyte costs nothing."""
    big = tmp_path / "big.ts"
    with big.open("wb") as file:
        file.write(BODY)
        file.truncate(10**12)
    async with Fetcher(FetchPolicy(file_roots=(tmp_path,))) as fetcher:
        assert (await refusal(fetcher, str(big))).reason == "too_large"
        part = ByteRange(offset_bytes=256, length_bytes=3)
        assert (await fetcher.get(str(big), max_bytes=LIMIT, byte_range=part)).body == b"\x00\x01\x02"


async def test_the_init_section_precedes_the_media_and_is_cached(server: Server) -> None:
    """Until it is old, or a discontinuity says that another one may be there."""
    server.answers = {"/init": [b"one", b"two", b"three"], "/a": Answer(BODY)}
    clock = ManualClock()
    async with Fetcher(loopback_policy(server), clock=clock) as fetcher:
        part = segment(
            server.url("/a"), init_url=server.url("/init"), byte_range=ByteRange(offset_bytes=1, length_bytes=2)
        )
        assert await fetcher.fetch(part) == b"one\x01\x02"
        assert await fetcher.fetch(part) == b"one\x01\x02"
        assert await fetcher.fetch(replace(part, is_discontinuity=True)) == b"two\x01\x02"
        clock.seconds += _CACHE_SECONDS
        assert await fetcher.fetch(part) == b"three\x01\x02"


async def test_segments_are_decrypted_with_a_cached_key(server: Server) -> None:
    """AES-128 over the segment, and over an init section with its own key."""
    server.answers = {
        "/key": Answer(KEY),
        "/a": Answer(encrypted(b"pictures")),
        "/other": Answer(KEY[::-1]),
        "/init": Answer(encrypted(b"init", key=KEY[::-1])),
    }
    other = Encryption(method="AES-128", key_url=server.url("/other?t=1"), iv_hex=IV.hex())
    part = segment(
        server.url("/a"),
        encryption=Encryption(method="AES-128", key_url=server.url("/key"), iv_hex=IV.hex()),
        init_url=add_encryption_fragment(server.url("/init"), other),
    )
    async with Fetcher(loopback_policy(server)) as fetcher:
        for _ in range(2):
            assert await fetcher.fetch(part) == b"initpictures"
    assert (server.count("/key"), server.count("/other"), server.count("/init"), server.count("/a")) == (1, 1, 1, 2)


@pytest.mark.parametrize(
    ("encryption", "reason"),
    [
        (Encryption(method="ROT-13", key_url="/key"), "encrypted"),
        (Encryption(method="AES-128", iv_hex=IV.hex()), "encrypted"),
        (Encryption(method="AES-128", key_url="/key", iv_hex="00"), "key"),
        (Encryption(method="AES-128", key_url="/key", iv_hex="no"), "key"),
        (Encryption(method="AES-128", key_url="/key"), "key"),
        (Encryption(method="AES-256", key_url="/key", iv_hex=IV.hex()), "key"),
        (Encryption(method="AES-128", key_url="/none", iv_hex=IV.hex()), "key"),
        (Encryption(method="AES-128", key_url="/wrong", iv_hex=IV.hex()), "key"),
        (Encryption(method="AES-128", key_url="/long", iv_hex=IV.hex()), "key"),
    ],
)
async def test_a_segment_that_cannot_be_decrypted_fails_with_its_reason(
    server: Server, encryption: Encryption, reason: str
) -> None:
    """A method that we do not undo is `encrypted`, a key that cannot be had or does not fit is `key`."""
    server.answers = {
        "/key": Answer(KEY),
        "/wrong": Answer(bytes(16)),
        "/long": Answer(b"x" * 2000),
        "/a": Answer(encrypted(b"pictures")),
    }
    if encryption.key_url:
        encryption = replace(encryption, key_url=server.url(encryption.key_url))
    async with Fetcher(loopback_policy(server)) as fetcher:
        with pytest.raises(FetchError) as caught:
            await fetcher.fetch(segment(server.url("/a"), encryption=encryption))
    assert caught.value.reason == reason


def test_the_cache_is_bounded_in_count_and_age() -> None:
    """The oldest goes first, and nothing is used for longer than said."""
    clock = ManualClock()
    recent = _TtlCache(max_count=2, max_age_seconds=10, clock=clock)
    for name in ("a", "b", "c"):
        recent.put(name, name.encode())
    assert [recent.get(name) for name in ("a", "b", "c")] == [None, b"b", b"c"]
    clock.seconds = 10
    assert recent.get("c") is None


def leaks(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if "s3cr3t" in text]


async def test_errors_and_logs_never_hold_credentials_or_queries(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong, the token in the address stays there."""
    server.answers = {
        "/500": Answer(status=500),
        "/away": Answer(status=302, headers={"Location": "http://u:s3cr3t@10.0.0.1/?s3cr3t"}),
        "/slow": silent,
    }
    urls = [server.url(f"/{name}?token=s3cr3t#s3cr3t") for name in ("none", "500", "away", "slow")]
    urls += ["https://u:s3cr3t@example.com/?s3cr3t", "https://example.com:99/?s3cr3t", "http://[?s3cr3t"]
    urls += ["file:///nowhere/a.ts?s3cr3t", f"https://127.0.0.1/{'x' * 3000}?s3cr3t"]
    policy = loopback_policy(server, retries=0, first_byte_seconds=0.1, connect_seconds=0.1)
    caplog.set_level(logging.INFO)
    async with Fetcher(policy) as fetcher:
        errors = [await refusal(fetcher, url) for url in urls]
        encryption = Encryption(method="AES-128", key_url=server.url("/none?s3cr3t"), iv_hex=IV.hex())
        with pytest.raises(FetchError) as caught:
            await fetcher.fetch(segment(server.url("/none?s3cr3t"), encryption=encryption))

    errors.append(caught.value)
    assert leaks(f"{error} {error.detail} {error.__cause__}" for error in errors) == []
    assert leaks(record.getMessage() for record in caplog.records) == []


TS = (b"\x47" + bytes(187)) * 2


async def test_a_transport_stream_gets_no_init_section(server: Server) -> None:
    """An EXT-X-MAP is in force for advertisements of another container too."""
    server.answers = {"/init": b"init", "/a": TS}
    async with Fetcher(loopback_policy(server)) as fetcher:
        assert await fetcher.fetch(segment(server.url("/a"), init_url=server.url("/init"))) == TS


async def test_segment_init_section_and_key_may_be_data_urls() -> None:
    """Without any network, and in parts."""
    key = "data:;base64," + base64.b64encode(KEY).decode()
    media = "data:video/mp4;base64," + base64.b64encode(encrypted(b"pictures")).decode()
    part = segment(media, encryption=Encryption(method="AES-128", key_url=key, iv_hex=IV.hex()), init_url="data:,init")
    async with Fetcher(FetchPolicy()) as fetcher:
        assert await fetcher.fetch(part) == b"initpictures"
        byte_range = ByteRange(offset_bytes=2, length_bytes=3)
        assert await fetcher.fetch(segment("data:,abcdefg", byte_range=byte_range)) == b"cde"


@pytest.mark.parametrize("method", ["SAMPLE-AES", "cenc", "cbcs"])
async def test_media_that_declares_its_encryption_itself_is_fetched(server: Server, method: str) -> None:
    """The playlist says it of clear leads too; decoding tells what is encrypted."""
    server.answers["/a"] = b"clear"
    async with Fetcher(loopback_policy(server)) as fetcher:
        assert await fetcher.fetch(segment(server.url("/a"), encryption=Encryption(method=method))) == b"clear"


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {}])
async def test_the_start_of_a_compressed_body_is_read(server: Server, headers: dict[str, str]) -> None:
    """Though the server answers a request for a part with compressed bytes; ranges are those of the content."""
    server.answers["/a"] = Answer(gzip.compress(BODY), headers=headers)
    byte_range = ByteRange(offset_bytes=5, length_bytes=10)
    async with Fetcher(loopback_policy(server)) as fetcher:
        start = (await fetcher.get_start(server.url("/a"), max_bytes=100)).body
        assert start
        assert BODY.startswith(start)
        if headers:
            assert await fetcher.fetch(segment(server.url("/a"), byte_range=byte_range)) == BODY[5:15]


async def test_the_start_of_a_part_of_a_compressed_body_is_read(server: Server) -> None:
    """The part is refused, the whole is requested."""
    part = Answer(gzip.compress(BODY)[:99], status=206, headers={"Content-Encoding": "gzip"})
    server.answers["/a"] = [part, Answer(gzip.compress(BODY), headers={"Content-Encoding": "gzip"})]
    async with Fetcher(loopback_policy(server)) as fetcher:
        assert (await fetcher.get_start(server.url("/a"), max_bytes=100)).body == BODY[:100]


@pytest.mark.parametrize("origin", ["http", "file"])
async def test_a_lack_of_file_handles_is_not_the_fault_of_an_origin(
    server: Server, tmp_path: Path, origin: str
) -> None:
    """And what is fetched when there are some again is there."""
    (tmp_path / "a.ts").write_bytes(BODY)
    server.answers["/a.ts"] = BODY
    address = server.url("/a.ts") if origin == "http" else (tmp_path / "a.ts").as_uri()
    async with Fetcher(loopback_policy(server, file_roots=(tmp_path,), retries=0)) as fetcher:
        await fetcher.get(address, max_bytes=LIMIT)
        with no_free_handles(), pytest.raises(FetchError) as caught:
            await asyncio.gather(*(fetcher.get(address, max_bytes=LIMIT) for _ in range(2)))
        assert caught.value.reason == "resources"
        assert caught.value.detail.endswith("Too many open files")
        assert (await fetcher.get(address, max_bytes=LIMIT)).body == BODY


async def test_a_growing_segment_is_given_on_as_it_comes(server: Server) -> None:
    """The server sends each piece when the one before was received; one request, to the end of the segment."""
    received: list[bytes] = []
    changed = asyncio.Event()

    async def growing(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            writer.write(b"4\r\n%04d\r\n" % number)
            await writer.drain()
            await changed.wait()
            changed.clear()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def receive(init: bytes, body: bytearray) -> None:
        received.append(init + body)
        changed.set()

    server.answers["/1.m4s"], server.answers["/i.mp4"] = growing, b"init"
    wanted = replace(segment(server.url("/1.m4s")), init_url=server.url("/i.mp4"))
    async with Fetcher(loopback_policy(server)) as fetcher:
        await fetcher.fetch_growing(wanted, receive)
    assert received == [b"init0000", b"init00000001", b"init000000010002"]
    assert server.count("/1.m4s") == 1
