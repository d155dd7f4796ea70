"""HTTP GET against a scripted server: pinned addresses, redirects, limits, retries and ranges."""

import asyncio
import gzip
import os
import ssl
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.media.fetch.rig import (
    BODY,
    LIMIT,
    PUBLIC,
    Fetcher,
    ManualClock,
    ScriptedResolver,
    UnreachableNetwork,
    loopback_policy,
    refusal,
    silent,
)
from tests.media.loopback import Answer, Request, Server, serving
from vqmon.core.types import ByteRange
from vqmon.errors import FetchError, UnknownHostError
from vqmon.media.fetch.fetcher import FetchPolicy
from vqmon.media.fetch.ssrf_policy import check_url

FORBIDDEN_ANSWERS = [
    "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.20.0.1", "192.168.0.1", "100.64.0.1", "100.127.255.255",
    "169.254.169.254", "168.63.129.16", "192.0.0.1", "192.0.2.7", "192.88.99.1", "198.18.0.1", "198.19.255.255",
    "203.0.113.9", "224.0.0.251", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:8.8.8.8",
    "::ffff:10.0.0.1", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:db8::1",
    "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1", "not an address",
]  # fmt: skip


@pytest.mark.parametrize("answer", FORBIDDEN_ANSWERS)
async def test_a_name_with_one_forbidden_address_is_refused(answer: str) -> None:
    """One bad answer among good ones spoils the name, wherever it stands."""
    for answers in ([answer], [PUBLIC, answer], [answer, PUBLIC]):
        network = UnreachableNetwork()
        policy = FetchPolicy(allowed_hosts=("*",), retries=0)
        async with Fetcher(policy, resolve=ScriptedResolver(answers), network=network) as fetcher:
            error = await refusal(fetcher, "https://video.example.com/a.ts")
        assert (error.reason, network.asked) == ("refused", [])


async def test_the_connection_goes_to_the_checked_ip_address() -> None:
    """The network is given the number, not the name."""
    network, names = UnreachableNetwork(), ScriptedResolver([PUBLIC, "2001:4860:4860::8888"])
    policy = FetchPolicy(allowed_hosts=("example.com",), retries=0)
    async with Fetcher(policy, resolve=names, network=network) as fetcher:
        error = await refusal(fetcher, "https://example.com/a.ts")

    assert error.reason == "unreachable"
    assert network.asked == [(PUBLIC, 443), ("2001:4860:4860::8888", 443)]
    assert names.asked == ["example.com"]


async def test_a_name_is_checked_again_for_each_connection(server: Server) -> None:
    """DNS rebinding: the name is resolved once per connection, and the second answer is refused."""
    server.answers["/a"] = Answer(b"first", headers={"Connection": "close"})
    names = ScriptedResolver(["127.0.0.1"], ["169.254.169.254"])
    async with Fetcher(loopback_policy(server), resolve=names) as fetcher:
        first = await fetcher.get(server.url("/a", host="video.test"), max_bytes=LIMIT)
        error = await refusal(fetcher, server.url("/a", host="video.test"))

    assert first.body == b"first"
    assert error.reason == "refused"
    assert (len(names.asked), server.connections) == (2, 1)


async def test_requests_carry_the_host_name_and_nothing_unnecessary(server: Server) -> None:
    """Host carries the name; no cookies, no compression, no fragment."""
    server.answers["/a"] = [Answer(b"x", headers={"Set-Cookie": "id=1"}), Answer(b"y")]
    async with Fetcher(loopback_policy(server), resolve=ScriptedResolver(["127.0.0.1"])) as fetcher:
        for _ in range(2):
            await fetcher.get(server.url("/a?t=1#f", host="video.test"), max_bytes=LIMIT)

    assert {request.path for request in server.requests} == {"/a?t=1"}
    assert server.requests[1].headers == {
        "host": f"video.test:{server.port}",
        "user-agent": "vqmon",
        "accept": "*/*",
        "accept-encoding": "identity",
    }


def certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server that is `name`, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    serves, trusts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(file))
    serves.load_cert_chain(file)
    return serves, trusts


async def test_the_certificate_is_checked_against_the_name(tmp_path: Path) -> None:
    """Though the connection goes to a number, SNI and certificate are about the name."""
    serves, trusts = certificate("video.test", tmp_path)
    async with serving(tls=serves) as server:
        server.answers["/a"] = b"secret pictures"
        policy = loopback_policy(server, retries=0)
        async with Fetcher(policy, resolve=ScriptedResolver(["127.0.0.1"]), tls=trusts) as fetcher:
            response = await fetcher.get(server.url("/a", host="video.test", scheme="https"), max_bytes=LIMIT)
            error = await refusal(fetcher, server.url("/a", host="other.test", scheme="https"))

    assert response.body == b"secret pictures"
    assert server.server_names == ["video.test", "other.test"]
    assert error.reason == "unreachable"
    assert "certificate" in error.detail


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    """A resolver's error is a failure of the network, not of the policy."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with Fetcher(FetchPolicy(allowed_hosts=("*",), retries=0), resolve=resolve) as fetcher:
        error = await refusal(fetcher, "https://example.com/")
    assert (error.reason, type(error)) == ("unreachable", UnknownHostError)
    assert "the host name example.com cannot be resolved; check the name" in error.detail


async def test_a_resolver_that_does_not_answer_is_a_timeout() -> None:
    """The time to connect covers the resolver."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    policy = FetchPolicy(allowed_hosts=("*",), connect_seconds=0.05, retries=0)
    async with Fetcher(policy, resolve=resolve) as fetcher:
        assert (await refusal(fetcher, "https://example.com/")).reason == "timeout"


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:1/",
        "http://[::1]/",
        "//evil.example/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://user:pass@127.0.0.1/",
        "http://2130706433/",
        "http://[",
        "javascript:alert(1)",
    ],
)
async def test_redirects_are_checked_against_the_policy(server: Server, location: str) -> None:
    """The server may point anywhere; we do not go."""
    server.answers["/a"] = Answer(status=302, headers={"Location": location})
    async with Fetcher(loopback_policy(server, file_roots=(Path("/"),))) as fetcher:
        error = await refusal(fetcher, server.url("/a"))

    assert error.reason == "refused"
    assert server.connections == 1


async def test_the_url_after_redirects_is_returned(server: Server) -> None:
    """Relative addresses inside a playlist start from where it was found."""
    server.answers["/a"] = Answer(status=301, headers={"Location": "/b/c?token=1"})
    server.answers["/b/c"] = Answer(b"there", headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "?"})
    async with Fetcher(loopback_policy(server)) as fetcher:
        response = await fetcher.get(server.url("/a"), max_bytes=LIMIT)

    assert (response.body, response.url) == (b"there", server.url("/b/c?token=1"))
    assert response.modified_at == datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    assert response.served_at is None


async def test_a_redirect_loop_ends_at_the_limit(server: Server) -> None:
    """At most so many redirects as the policy says."""
    server.answers["/a"] = Answer(status=307, headers={"Location": "/a"})
    async with Fetcher(loopback_policy(server, max_redirects=2)) as fetcher:
        assert (await refusal(fetcher, server.url("/a"))).reason == "refused"
    assert server.count("/a") == 3


async def test_a_redirect_from_https_to_http_needs_http_to_be_allowed() -> None:
    """A redirect must not take the encryption away."""
    policy = FetchPolicy(allowed_hosts=("*",))
    with pytest.raises(FetchError, match=r"fetch\.allow_http"):
        check_url("http://example.com/", policy)


async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
    """A chunked body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def until_close(request: Request, writer: asyncio.StreamWriter) -> None:
    """A body without any length that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def dripping_head(request: Request, writer: asyncio.StreamWriter) -> None:
    """Header bytes, one at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def dripping_body(request: Request, writer: asyncio.StreamWriter) -> None:
    """Body bytes, one at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def stalled(request: Request, writer: asyncio.StreamWriter) -> None:
    """Half an answer."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await asyncio.sleep(60)


async def broken(request: Request, writer: asyncio.StreamWriter) -> None:
    """Less than was announced."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def nonsense(request: Request, writer: asyncio.StreamWriter) -> None:
    """No HTTP."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()


async def huge_head(request: Request, writer: asyncio.StreamWriter) -> None:
    """Headers without end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 8000 + b"\r\n")
        await writer.drain()


BOMBS = [
    (endless, "too_large"),
    (until_close, "too_large"),
    (Answer(b"x" * 10, headers={"Content-Length": "99999999999999999999"}), "too_large"),
    (Answer(b"x" * (LIMIT + 1)), "too_large"),
    (Answer(gzip.compress(b"0" * 5_000_000), headers={"Content-Encoding": "gzip"}), "too_large"),
    (Answer(zlib.compress(b"0" * 5_000_000), headers={"Content-Encoding": "deflate"}), "too_large"),
    (Answer(gzip.compress(b"0" * 5_000_000)), "too_large"),
    (Answer(gzip.compress(os.urandom(500))[:9] + b"x" * 99, headers={"Content-Encoding": "gzip"}), "http_status"),
    (Answer(b"x", headers={"Content-Encoding": "br"}), "http_status"),
    (Answer(b"x", status=206), "http_status"),
    (dripping_head, "timeout"),
    (dripping_body, "too_slow"),
    (silent, "timeout"),
    (stalled, "timeout"),
    (broken, "unreachable"),
    (nonsense, "unreachable"),
    (huge_head, "unreachable"),
    (Answer(status=204), None),
    (Answer(status=304), "http_status"),
    (Answer(status=401), "http_status"),
    (Answer(status=403), "http_status"),
    (Answer(status=404), "not_found"),
    (Answer(status=410), "not_found"),
    (Answer(status=500), "http_status"),
]


@pytest.mark.parametrize(("answer", "reason"), BOMBS)
async def test_a_hostile_or_failing_server_ends_in_the_right_reason(
    server: Server, answer: Any, reason: str | None
) -> None:
    """Each within its limits, and each with the right word."""
    server.answers["/a"] = answer
    policy = loopback_policy(server, retries=0, connect_seconds=0.1, first_byte_seconds=0.3, rate_window_seconds=0.2)
    async with Fetcher(policy) as fetcher:
        if reason is None:
            assert (await fetcher.get(server.url("/a"), max_bytes=LIMIT)).body == b""
        else:
            assert (await refusal(fetcher, server.url("/a"))).reason == reason


async def test_the_deadline_ends_a_slow_but_steady_response(server: Server) -> None:
    """Bytes that come fast enough still end with the total time."""

    async def steady(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(0.02)

    server.answers["/a"] = steady
    policy = loopback_policy(server, total_seconds=0.3, min_rate_bytes=0)
    async with Fetcher(policy) as fetcher:
        assert (await refusal(fetcher, server.url("/a"))).reason == "timeout"


async def test_bytes_beyond_the_content_length_are_ignored(server: Server) -> None:
    """Bytes after the announced length are never taken."""
    server.answers["/a"] = Answer(b"x" * 1000, headers={"Content-Length": "10"})
    async with Fetcher(loopback_policy(server)) as fetcher:
        assert (await fetcher.get(server.url("/a"), max_bytes=LIMIT)).body == b"x" * 10


async def test_retryable_failures_are_retried_with_growing_delays(server: Server) -> None:
    """503, a broken connection, then the bytes."""
    server.answers["/a"] = [Answer(status=503), broken, Answer(b"at last")]
    clock = ManualClock()
    async with Fetcher(loopback_policy(server), clock=clock, sleep=clock.sleep) as fetcher:
        response = await fetcher.get(server.url("/a"), max_bytes=LIMIT)

    assert response.body == b"at last"
    assert clock.slept == [0.25, 0.5]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 501])
async def test_permanent_failures_are_not_retried(server: Server, status: int) -> None:
    """A segment that is not there will not come by asking."""
    server.answers["/a"] = Answer(status=status)
    clock = ManualClock()
    async with Fetcher(loopback_policy(server), clock=clock, sleep=clock.sleep) as fetcher:
        await refusal(fetcher, server.url("/a"))

    assert (server.count("/a"), clock.slept) == (1, [])


@pytest.mark.parametrize(
    ("header", "slept"), [("1", [1.0]), ("0", [0.0]), ("soon", [0.25]), ("Wed, 21 Oct 2015 07:28:00 GMT", [0.25])]
)
async def test_retry_after_in_seconds_sets_the_delay(server: Server, header: str, slept: list[float]) -> None:
    """Retry-After in seconds is heeded; anything else means our own pause."""
    server.answers["/a"] = [Answer(status=429, headers={"Retry-After": header}), Answer(b"now")]
    clock = ManualClock()
    async with Fetcher(loopback_policy(server, total_seconds=20), clock=clock, sleep=clock.sleep) as fetcher:
        await fetcher.get(server.url("/a"), max_bytes=LIMIT)
    assert clock.slept == slept


async def test_retry_after_is_capped(server: Server) -> None:
    """A day of Retry-After is cut to five seconds, and to nothing when the deadline is nearer."""
    server.answers["/a"] = Answer(status=503, headers={"Retry-After": "86400"})
    for total, slept in ((20.0, [5.0, 5.0]), (4.0, [])):
        clock = ManualClock()
        async with Fetcher(loopback_policy(server, total_seconds=total), clock=clock, sleep=clock.sleep) as fetcher:
            assert (await refusal(fetcher, server.url("/a"))).reason == "http_status"
        assert clock.slept == slept


async def ranged(request: Request, writer: asyncio.StreamWriter) -> None:
    """A server that knows ranges."""
    first, last = (int(number) for number in request.headers["range"].removeprefix("bytes=").split("-"))
    part = BODY[first : last + 1]
    writer.write(Answer(part, status=206, headers={"Content-Range": f"bytes {first}-{last}/{len(BODY)}"}).on_the_wire())
    await writer.drain()


@pytest.mark.parametrize("answer", [ranged, Answer(BODY), until_close])
async def test_a_byte_range_is_cut_from_a_full_response(server: Server, answer: Any) -> None:
    """A server may answer a range with everything, even without end; we stop where the part stops."""
    server.answers["/a"] = answer
    part = ByteRange(offset_bytes=300, length_bytes=500)
    async with Fetcher(loopback_policy(server)) as fetcher:
        response = await fetcher.get(server.url("/a"), max_bytes=LIMIT, byte_range=part)

    assert response.body == (b"x" * 500 if answer is until_close else BODY[300:800])
    assert server.requests[0].headers["range"] == "bytes=300-799"


async def test_a_response_with_another_range_is_refused(server: Server) -> None:
    """Content-Range must begin where we asked."""
    server.answers["/a"] = Answer(BODY[:10], status=206, headers={"Content-Range": "bytes 0-9/10240"})
    async with Fetcher(loopback_policy(server)) as fetcher:
        with pytest.raises(FetchError, match="another range"):
            await fetcher.get(server.url("/a"), max_bytes=LIMIT, byte_range=ByteRange(offset_bytes=5, length_bytes=10))


async def test_a_byte_range_beyond_the_limit_is_not_requested(server: Server) -> None:
    """A playlist cannot make us read more than the limit, nor skip more than the limit."""
    server.answers["/a"] = Answer(BODY)
    async with Fetcher(loopback_policy(server)) as fetcher:
        for part in (ByteRange(offset_bytes=0, length_bytes=10**12), ByteRange(offset_bytes=10**12, length_bytes=1)):
            with pytest.raises(FetchError) as caught:
                await fetcher.get(server.url("/a"), max_bytes=LIMIT, byte_range=part)
            assert caught.value.reason == "too_large"
