"""What may be fetched and what may not, limits in time and size, retries, files, encryption."""

import asyncio
import gzip
import logging
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given
from hypothesis import strategies as st

from tests.media.loopback import Answer, Request, Server, serving
from vqmon.core.types import ByteRange, Encryption, Rendition, Segment
from vqmon.errors import FetchError, SettingsError
from vqmon.media.fetch import fetcher as fetch
from vqmon.media.fetch.decryption import add_encryption_fragment, split_encryption_fragment
from vqmon.media.fetch.fetcher import CACHE_SECONDS, FetchPolicy, TtlCache
from vqmon.media.fetch.policy import check_url, redact_url

# Loading the certificates of the world takes longer than most of these tests.
Fetcher = partial(fetch.Fetcher, tls=ssl.create_default_context())

PUBLIC = "8.8.8.8"
LIMIT = 1_000_000


class DeadNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to nothing, and remembers to what it should have."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        self.asked.append((host, port))
        raise httpcore2.ConnectError("nothing is there")


class Names:
    """A resolver that answers from a script: one list of addresses per question, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


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


# --- addresses ------------------------------------------------------------------------------------------------------

REFUSED_URLS = [
    # ways to write 127.0.0.1
    "http://127.0.0.1/x",
    "http://127.0.0.1./x",
    "http://127.1/x",
    "http://127.0.1/x",
    "http://2130706433/x",
    "http://0x7f000001/x",
    "http://0x7f.0.0.1/x",
    "http://0X7F.0.0.1/x",
    "http://0177.0.0.1/x",
    "http://017700000001/x",
    "http://127.0.0.01/x",
    "http://0/x",
    "http://0.0.0.0/x",
    "http://0x/x",
    "http://127.0.0.1%2f@example.com/x",
    "http://%31%32%37.0.0.1/x",
    "http://１２７.０.０.１/x",
    "http://①②⑦.0.0.1/x",
    "http://127。0。0。1/x",
    "http://127.0.0.1．/x",
    # IPv6, and IPv4 inside of it
    "http://[::1]/x",
    "http://[::]/x",
    "http://[0:0:0:0:0:0:0:1]/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://[::ffff:7f00:1]/x",
    "http://[::FFFF:169.254.169.254]/x",
    "http://[::127.0.0.1]/x",
    "http://[64:ff9b::127.0.0.1]/x",
    "http://[64:ff9b::a9fe:a9fe]/x",
    "http://[64:ff9b:1::1]/x",
    "http://[2002:7f00:1::]/x",
    "http://[2001:0:7f00:1::]/x",
    "http://[fe80::1]/x",
    "http://[fe80::1%25eth0]/x",
    "http://[fec0::1]/x",
    "http://[fc00::1]/x",
    "http://[fd00:ec2::254]/x",
    "http://[ff02::1]/x",
    "http://[2001:db8::1]/x",
    "http://[100::1]/x",
    "http://[::1/x",
    "http://[not-an-address]/x",
    # special networks
    "http://10.0.0.1/x",
    "http://172.16.0.1/x",
    "http://172.31.255.255/x",
    "http://192.168.1.1/x",
    "http://100.64.0.1/x",
    "http://100.100.100.200/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/x",
    "http://168.63.129.16/x",
    "http://192.0.0.192/x",
    "http://192.0.2.1/x",
    "http://192.88.99.1/x",
    "http://198.18.0.1/x",
    "http://198.51.100.1/x",
    "http://203.0.113.1/x",
    "http://224.0.0.1/x",
    "http://240.0.0.1/x",
    "http://255.255.255.255/x",
    # user names, and what one reader takes for a user name and another for a host
    "http://user@example.com/x",
    "http://user:secret@example.com/x",
    "http://example.com@127.0.0.1/x",
    "http://example.com:80@127.0.0.1/x",
    "http://@example.com/x",
    "http://example.com\\@127.0.0.1/x",
    "http:\\\\127.0.0.1/x",
    "http://example.com\t.evil/x",
    "http://example.com\r\nHost: 127.0.0.1/x",
    "http://example.com\x00.evil/x",
    " http://example.com/x",
    # ports
    "http://example.com:22/x",
    "http://example.com:0/x",
    "http://example.com:65536/x",
    "http://example.com:-1/x",
    "http://example.com:6379x/x",
    "http://example.com:８０８/x",
    # schemes
    "ftp://example.com/x",
    "gopher://example.com/x",
    "data://text/plain,x",
    "dict://example.com:80/x",
    "HTTPS+unix://example.com/x",
    "rtmp://example.com/x",
    "://example.com/x",
    # names
    "http:///x",
    "http://./x",
    "http://example..com/x",
    "http://example.com../x",
    "http://-example.com/x",
    "http://exa mple.com/x",
    "http://exa*mple.com/x",
    f"http://{'a' * 64}.com/x",
    f"http://{'a.' * 130}com/x",
    "http://ex\u202eample.com/x",
    "http://xn--\u00e4.com/x",
    # length
    f"http://example.com/{'x' * 2048}",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
async def test_a_forbidden_address_is_refused_without_any_connection(url: str) -> None:
    """Even with every public host allowed, nothing is asked of the network."""
    network = DeadNetwork()
    policy = FetchPolicy(allowed_hosts=("*",), allow_http=True, retries=0)
    async with Fetcher(policy, resolve=Names([PUBLIC]), network=network) as fetcher:
        error = await refusal(fetcher, url)

    assert error.reason == "refused"
    assert network.asked == []


def test_the_table_of_refused_addresses_is_long_enough() -> None:
    """The table keeps at least sixty different cases."""
    assert len(set(REFUSED_URLS)) >= 60


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
        network = DeadNetwork()
        policy = FetchPolicy(allowed_hosts=("*",), retries=0)
        async with Fetcher(policy, resolve=Names(answers), network=network) as fetcher:
            error = await refusal(fetcher, "https://video.example.com/a.ts")
        assert (error.reason, network.asked) == ("refused", [])


@given(st.ip_addresses())
def test_only_addresses_that_the_registry_calls_global_are_ever_allowed(address: Any) -> None:
    """Our own table only ever takes away from what `ipaddress` allows."""
    policy = FetchPolicy(allowed_hosts=("*",))
    assert not policy.allows_address(address) or ip_address(address).is_global


@given(st.text(max_size=60))
def test_no_text_makes_the_check_fail_in_any_other_way(text: str) -> None:
    """Whatever stands in a playlist is either taken apart or refused."""
    policy = FetchPolicy(allowed_hosts=("*",), allow_http=True)
    for url in (text, f"http://{text}", f"https://example.com/{text}", f"http://{text}:80/"):
        with suppress(FetchError):
            target = check_url(url, policy)
            assert target.url.isascii()
            assert target.port in (80, 443)
            assert not any(letter in target.url for letter in " \r\n\t\\")


ALLOWED_URLS = [
    ("https://example.com/a.ts", "example.com", 443, "/a.ts"),
    ("https://EXAMPLE.com./a.ts", "example.com", 443, "/a.ts"),
    ("https://cdn.Example.com:443/a b.ts?x=1&y=é#f", "cdn.example.com", 443, "/a%20b.ts?x=1&y=%C3%A9"),
    ("http://example.com", "example.com", 80, "/"),
    ("https://exämple.example.com/", "xn--exmple-cua.example.com", 443, "/"),
    ("https://a_b.example.com/%41", "a_b.example.com", 443, "/%41"),
    ("https://8.8.8.8/x", "8.8.8.8", 443, "/x"),
    ("https://[2001:4860:4860:0:0::8888]/x", "2001:4860:4860::8888", 443, "/x"),
]


@pytest.mark.parametrize(("url", "host", "port", "path"), ALLOWED_URLS)
def test_an_allowed_address_is_normalised(url: str, host: str, port: int, path: str) -> None:
    """Case, the trailing dot, IDNA, blanks and the fragment are settled before anything is sent."""
    policy = FetchPolicy(allowed_hosts=("example.com", "8.8.8.8", "2001:4860:4860::8888"), allow_http=True)
    target = check_url(url, policy)
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.parametrize(
    ("entry", "host", "allowed"),
    [
        ("example.com", "example.com", True),
        ("example.com", "a.b.example.com", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil.net", False),
        ("*.example.com", "cdn.example.com", True),
        (".Example.com", "cdn.example.com", True),
        ("com", "example.com", True),
        ("", "example.com", False),
        (".", "example.com", False),
        ("*", "example.com", True),
        ("8.8.8.8", "8.8.8.8", True),
        ("8.8.8", "8.8.8.8", False),
        ("8.8", "8.8.8.8", False),
        ("[2001:4860:4860::8888]", "2001:4860:4860::8888", True),
    ],
)
def test_names_are_matched_on_label_borders(entry: str, host: str, allowed: bool) -> None:
    """A name allows itself and what is below it, and a number only itself."""
    assert FetchPolicy(allowed_hosts=(entry,)).allows_host(host) is allowed


def test_nothing_is_allowed_unless_said() -> None:
    """The policy without settings refuses every host, plain http and every file."""
    policy = FetchPolicy()
    for url in ("https://example.com/", "http://example.com/"):
        with pytest.raises(FetchError):
            check_url(url, policy)
    with pytest.raises(FetchError):
        check_url("http://example.com/", FetchPolicy(allowed_hosts=("*",)))


def test_no_setting_opens_the_places_where_clouds_hand_out_credentials() -> None:
    """A network that holds a metadata address does not open that address."""
    policy = FetchPolicy(allowed_networks=("0.0.0.0/0", "::/0"))
    assert policy.allows_address(ip_address("10.0.0.1"))
    for text in ("169.254.169.254", "168.63.129.16", "fd00:ec2::254", "100.100.100.200"):
        assert not policy.allows_address(ip_address(text))


@pytest.mark.parametrize("changes", [{"allowed_networks": ("10.0.0.0/33",)}, {"total_seconds": 0}, {"retries": -1}])
def test_a_policy_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    """A typing error in the settings is said at the start."""
    with pytest.raises(SettingsError):
        FetchPolicy(**changes)


# --- connections ----------------------------------------------------------------------------------------------------


async def test_the_connection_goes_to_the_very_address_that_was_checked() -> None:
    """The network is given the number, not the name."""
    network, names = DeadNetwork(), Names([PUBLIC, "2001:4860:4860::8888"])
    policy = FetchPolicy(allowed_hosts=("example.com",), retries=0)
    async with Fetcher(policy, resolve=names, network=network) as fetcher:
        error = await refusal(fetcher, "https://example.com/a.ts")

    assert error.reason == "unreachable"
    assert network.asked == [(PUBLIC, 443), ("2001:4860:4860::8888", 443)]
    assert names.asked == ["example.com"]


async def test_a_name_that_changes_its_address_is_checked_each_time(server: Server) -> None:
    """DNS rebinding: the name is resolved once per connection, and the second answer is refused."""
    server.answers["/a"] = Answer(b"first", headers={"Connection": "close"})
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with Fetcher(loopback_policy(server), resolve=names) as fetcher:
        first = await fetcher.get(server.url("/a", host="video.test"), max_bytes=LIMIT)
        error = await refusal(fetcher, server.url("/a", host="video.test"))

    assert first.body == b"first"
    assert error.reason == "refused"
    assert (len(names.asked), server.connections) == (2, 1)


async def test_the_server_sees_the_name_and_no_more_than_it_must(server: Server) -> None:
    """Host carries the name; no cookies, no compression, no fragment."""
    server.answers["/a"] = [Answer(b"x", headers={"Set-Cookie": "id=1"}), Answer(b"y")]
    async with Fetcher(loopback_policy(server), resolve=Names(["127.0.0.1"])) as fetcher:
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
        async with Fetcher(policy, resolve=Names(["127.0.0.1"]), tls=trusts) as fetcher:
            got = await fetcher.get(server.url("/a", host="video.test", scheme="https"), max_bytes=LIMIT)
            error = await refusal(fetcher, server.url("/a", host="other.test", scheme="https"))

    assert got.body == b"secret pictures"
    assert server.server_names == ["video.test", "other.test"]
    assert error.reason == "unreachable"
    assert "certificate" in error.detail


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    """A resolver's error is a failure of the network, not of the policy."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with Fetcher(FetchPolicy(allowed_hosts=("*",), retries=0), resolve=resolve) as fetcher:
        assert (await refusal(fetcher, "https://example.com/")).reason == "unreachable"


async def test_a_resolver_that_does_not_answer_is_a_timeout() -> None:
    """The time to connect covers the resolver."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    policy = FetchPolicy(allowed_hosts=("*",), connect_seconds=0.05, retries=0)
    async with Fetcher(policy, resolve=resolve) as fetcher:
        assert (await refusal(fetcher, "https://example.com/")).reason == "timeout"


# --- redirects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
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
async def test_a_redirect_is_checked_like_any_address(server: Server, place: str) -> None:
    """The server may point anywhere; we do not go."""
    server.answers["/a"] = Answer(status=302, headers={"Location": place})
    async with Fetcher(loopback_policy(server, file_roots=(Path("/"),))) as fetcher:
        error = await refusal(fetcher, server.url("/a"))

    assert error.reason == "refused"
    assert server.connections == 1


async def test_a_redirect_is_followed_and_the_last_address_is_told(server: Server) -> None:
    """Relative addresses inside a playlist start from where it was found."""
    server.answers["/a"] = Answer(status=301, headers={"Location": "/b/c?token=1"})
    server.answers["/b/c"] = Answer(b"there", headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "?"})
    async with Fetcher(loopback_policy(server)) as fetcher:
        got = await fetcher.get(server.url("/a"), max_bytes=LIMIT)

    assert (got.body, got.url) == (b"there", server.url("/b/c?token=1"))
    assert got.modified_at == datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    assert got.served_at is None


async def test_a_circle_of_redirects_ends(server: Server) -> None:
    """At most so many redirects as the policy says."""
    server.answers["/a"] = Answer(status=307, headers={"Location": "/a"})
    async with Fetcher(loopback_policy(server, max_redirects=2)) as fetcher:
        assert (await refusal(fetcher, server.url("/a"))).reason == "refused"
    assert server.count("/a") == 3


async def test_a_redirect_from_https_to_http_needs_http_to_be_allowed() -> None:
    """A redirect must not take the encryption away."""
    policy = FetchPolicy(allowed_hosts=("*",))
    with pytest.raises(FetchError, match="scheme 'http'"):
        check_url("http://example.com/", policy)


# --- bombs ----------------------------------------------------------------------------------------------------------


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


async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
    """No answer at all."""
    await asyncio.sleep(60)


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
    (Answer(gzip.compress(b"0" * 5_000_000), headers={"Content-Encoding": "gzip"}), "http_status"),
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
async def test_a_hostile_or_failing_server_gives_a_reason(server: Server, answer: Any, reason: str | None) -> None:
    """Each within its limits, and each with the right word."""
    server.answers["/a"] = answer
    policy = loopback_policy(server, retries=0, connect_seconds=0.1, first_byte_seconds=0.3, rate_window_seconds=0.2)
    async with Fetcher(policy) as fetcher:
        if reason is None:
            assert (await fetcher.get(server.url("/a"), max_bytes=LIMIT)).body == b""
        else:
            assert (await refusal(fetcher, server.url("/a"))).reason == reason


async def test_the_deadline_covers_everything(server: Server) -> None:
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


async def test_a_small_announced_length_is_what_is_read(server: Server) -> None:
    """Bytes after the announced length are never taken."""
    server.answers["/a"] = Answer(b"x" * 1000, headers={"Content-Length": "10"})
    async with Fetcher(loopback_policy(server)) as fetcher:
        assert (await fetcher.get(server.url("/a"), max_bytes=LIMIT)).body == b"x" * 10


# --- retries --------------------------------------------------------------------------------------------------------


async def test_what_may_heal_is_tried_again_with_growing_pauses(server: Server) -> None:
    """503, a broken connection, then the bytes."""
    server.answers["/a"] = [Answer(status=503), broken, Answer(b"at last")]
    clock = Clock()
    async with Fetcher(loopback_policy(server), clock=clock, sleep=clock.sleep) as fetcher:
        got = await fetcher.get(server.url("/a"), max_bytes=LIMIT)

    assert got.body == b"at last"
    assert clock.slept == [0.25, 0.5]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 501])
async def test_what_will_not_heal_is_asked_for_once(server: Server, status: int) -> None:
    """A segment that is not there will not come by asking."""
    server.answers["/a"] = Answer(status=status)
    clock = Clock()
    async with Fetcher(loopback_policy(server), clock=clock, sleep=clock.sleep) as fetcher:
        await refusal(fetcher, server.url("/a"))

    assert (server.count("/a"), clock.slept) == (1, [])


@pytest.mark.parametrize(
    ("header", "slept"), [("1", [1.0]), ("0", [0.0]), ("soon", [0.25]), ("Wed, 21 Oct 2015 07:28:00 GMT", [0.25])]
)
async def test_the_server_may_say_when_to_come_back(server: Server, header: str, slept: list[float]) -> None:
    """Retry-After in seconds is heeded; anything else means our own pause."""
    server.answers["/a"] = [Answer(status=429, headers={"Retry-After": header}), Answer(b"now")]
    clock = Clock()
    async with Fetcher(loopback_policy(server, total_seconds=20), clock=clock, sleep=clock.sleep) as fetcher:
        await fetcher.get(server.url("/a"), max_bytes=LIMIT)
    assert clock.slept == slept


async def test_the_server_cannot_make_us_wait_for_long(server: Server) -> None:
    """A day of Retry-After is cut to five seconds, and to nothing when the deadline is nearer."""
    server.answers["/a"] = Answer(status=503, headers={"Retry-After": "86400"})
    for total, slept in ((20.0, [5.0, 5.0]), (4.0, [])):
        clock = Clock()
        async with Fetcher(loopback_policy(server, total_seconds=total), clock=clock, sleep=clock.sleep) as fetcher:
            assert (await refusal(fetcher, server.url("/a"))).reason == "http_status"
        assert clock.slept == slept


# --- parts of resources ---------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 40


async def ranged(request: Request, writer: asyncio.StreamWriter) -> None:
    """A server that knows ranges."""
    first, last = (int(number) for number in request.headers["range"].removeprefix("bytes=").split("-"))
    part = BODY[first : last + 1]
    writer.write(Answer(part, status=206, headers={"Content-Range": f"bytes {first}-{last}/{len(BODY)}"}).on_the_wire())
    await writer.drain()


@pytest.mark.parametrize("answer", [ranged, Answer(BODY), until_close])
async def test_a_part_is_a_part_whether_or_not_the_server_knows_ranges(server: Server, answer: Any) -> None:
    """A server may answer a range with everything, even without end; we stop where the part stops."""
    server.answers["/a"] = answer
    part = ByteRange(offset_bytes=300, length_bytes=500)
    async with Fetcher(loopback_policy(server)) as fetcher:
        got = await fetcher.get(server.url("/a"), max_bytes=LIMIT, byte_range=part)

    assert got.body == (b"x" * 500 if answer is until_close else BODY[300:800])
    assert server.requests[0].headers["range"] == "bytes=300-799"


async def test_another_range_than_asked_for_is_not_taken(server: Server) -> None:
    """Content-Range must begin where we asked."""
    server.answers["/a"] = Answer(BODY[:10], status=206, headers={"Content-Range": "bytes 0-9/10240"})
    async with Fetcher(loopback_policy(server)) as fetcher:
        with pytest.raises(FetchError, match="another range"):
            await fetcher.get(server.url("/a"), max_bytes=LIMIT, byte_range=ByteRange(offset_bytes=5, length_bytes=10))


async def test_a_part_that_is_too_large_is_not_asked_for(server: Server) -> None:
    """A playlist cannot make us read more than the limit, nor skip more than the limit."""
    server.answers["/a"] = Answer(BODY)
    async with Fetcher(loopback_policy(server)) as fetcher:
        for part in (ByteRange(offset_bytes=0, length_bytes=10**12), ByteRange(offset_bytes=10**12, length_bytes=1)):
            with pytest.raises(FetchError) as caught:
                await fetcher.get(server.url("/a"), max_bytes=LIMIT, byte_range=part)
            assert caught.value.reason == "too_large"


# --- files ----------------------------------------------------------------------------------------------------------


async def test_files_are_read_only_below_the_roots(tmp_path: Path) -> None:
    """Neither dots nor links lead out."""
    root, outside = tmp_path / "root", tmp_path / "outside.ts"
    root.mkdir()
    outside.write_bytes(b"no")
    (root / "a b#?%41.ts").write_bytes(b"yes")
    (root / "link.ts").symlink_to(outside)
    async with Fetcher(FetchPolicy(file_roots=(root,))) as fetcher:
        for address in (str(root / "a b#?%41.ts"), (root / "a b#?%41.ts").as_uri()):
            assert (await fetcher.get(address, max_bytes=LIMIT)).body == b"yes"
        for address in (
            str(outside),
            outside.as_uri(),
            f"{root.as_uri()}/../outside.ts",
            f"{root.as_uri()}/%2e%2e/outside.ts",
            f"{root}/../outside.ts",
            f"{root}/link.ts",
            f"FILE://{outside}",
            "file://host/etc/passwd",
            "/etc/passwd",
        ):
            assert (await refusal(fetcher, address)).reason == "refused", address


async def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
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


async def test_files_have_a_size_limit_and_parts(tmp_path: Path) -> None:
    """A sparse file of a terabyte costs nothing."""
    big = tmp_path / "big.ts"
    with big.open("wb") as file:
        file.write(BODY)
        file.truncate(10**12)
    async with Fetcher(FetchPolicy(file_roots=(tmp_path,))) as fetcher:
        assert (await refusal(fetcher, str(big))).reason == "too_large"
        part = ByteRange(offset_bytes=256, length_bytes=3)
        assert (await fetcher.get(str(big), max_bytes=LIMIT, byte_range=part)).body == b"\x00\x01\x02"


# --- segments -------------------------------------------------------------------------------------------------------

KEY, IV = bytes(range(16)), bytes(range(16, 32))


def encrypted(plain: bytes, *, key: bytes = KEY) -> bytes:
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(key), modes.CBC(IV)).encryptor()
    return cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()


async def test_the_init_section_comes_first_and_is_fetched_once(server: Server) -> None:
    """Until it is old, or a discontinuity says that another one may be there."""
    server.answers = {"/init": [b"one", b"two", b"three"], "/a": Answer(BODY)}
    clock = Clock()
    async with Fetcher(loopback_policy(server), clock=clock) as fetcher:
        part = segment(
            server.url("/a"), init_url=server.url("/init"), byte_range=ByteRange(offset_bytes=1, length_bytes=2)
        )
        assert await fetcher.fetch(part) == b"one\x01\x02"
        assert await fetcher.fetch(part) == b"one\x01\x02"
        assert await fetcher.fetch(replace(part, is_discontinuity=True)) == b"two\x01\x02"
        clock.seconds += CACHE_SECONDS
        assert await fetcher.fetch(part) == b"three\x01\x02"


async def test_a_segment_is_decrypted_with_a_key_that_is_fetched_once(server: Server) -> None:
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
        (Encryption(method="SAMPLE-AES", key_url="/key", iv_hex=IV.hex()), "encrypted"),
        (Encryption(method="cenc"), "encrypted"),
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
async def test_what_cannot_be_decrypted_says_why(server: Server, encryption: Encryption, reason: str) -> None:
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


async def test_bytes_that_are_no_whole_blocks_do_not_fit_the_key(server: Server) -> None:
    """A truncated encrypted segment is told from a damaged picture."""
    server.answers = {"/key": Answer(KEY), "/a": Answer(encrypted(b"pictures")[:-1])}
    encryption = Encryption(method="AES-128", key_url=server.url("/key"), iv_hex=IV.hex())
    async with Fetcher(loopback_policy(server)) as fetcher:
        with pytest.raises(FetchError, match="blocks"):
            await fetcher.fetch(segment(server.url("/a"), encryption=encryption))


def test_how_an_init_section_is_encrypted_survives_in_its_address() -> None:
    """What goes into the fragment comes out again, and a plain address stays as it is."""
    encryption = Encryption(method="AES-128", key_url="https://k.example/key?a=1&b=2#x", iv_hex="00" * 16)
    for method in (None, encryption, Encryption(method="SAMPLE-AES")):
        assert split_encryption_fragment(add_encryption_fragment("https://e.example/i.mp4?t=1", method)) == (
            "https://e.example/i.mp4?t=1",
            method,
        )


def test_memory_is_bounded_in_count_and_age() -> None:
    """The oldest goes first, and nothing is used for longer than said."""
    clock = Clock()
    recent = TtlCache(max_count=2, max_age_seconds=10, clock=clock)
    for name in ("a", "b", "c"):
        recent.put(name, name.encode())
    assert [recent.get(name) for name in ("a", "b", "c")] == [None, b"b", b"c"]
    clock.seconds = 10
    assert recent.get("c") is None


# --- secrets --------------------------------------------------------------------------------------------------------


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
    places = [server.url(f"/{name}?token=s3cr3t#s3cr3t") for name in ("none", "500", "away", "slow")]
    places += ["https://u:s3cr3t@example.com/?s3cr3t", "https://example.com:99/?s3cr3t", "http://[?s3cr3t"]
    places += ["file:///nowhere/a.ts?s3cr3t", f"https://127.0.0.1/{'x' * 3000}?s3cr3t"]
    policy = loopback_policy(server, retries=0, first_byte_seconds=0.1, connect_seconds=0.1)
    caplog.set_level(logging.INFO)
    async with Fetcher(policy) as fetcher:
        errors = [await refusal(fetcher, place) for place in places]
        encryption = Encryption(method="AES-128", key_url=server.url("/none?s3cr3t"), iv_hex=IV.hex())
        with pytest.raises(FetchError) as caught:
            await fetcher.fetch(segment(server.url("/none?s3cr3t"), encryption=encryption))

    errors.append(caught.value)
    assert leaks(f"{error} {error.detail} {error.__cause__}" for error in errors) == []
    assert leaks(record.getMessage() for record in caplog.records) == []


@given(st.text(max_size=40), st.text(max_size=40))
def test_an_address_is_shown_without_its_secrets(user: str, query: str) -> None:
    """Nothing after a question mark or before an at sign is ever shown."""
    assert "s3cr3t" not in redact_url(f"https://{user}:s3cr3t@example.com/a?{query}s3cr3t")
    assert "s3cr3t" not in redact_url(f"https://example.com/a?{query}s3cr3t")
