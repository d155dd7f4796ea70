"""Which addresses may be fetched: decided from the URL, and again from what its name resolves to."""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

import idna

from vqmon.errors import FetchError, SettingsError


def path_of(url_path: str) -> str:
    """The path that the path of a file: address stands for, byte for byte."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(url_path)))


def printable(name: str) -> str:
    r"""A name as text that can be encoded: bytes that are not UTF-8 become \xNN.

    >>> printable("caf\udce9.mp4")
    'caf\\xe9.mp4'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_BYTES = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")

# IANA special-purpose registries, and what tunnels IPv4 inside IPv6. Kept as a table of its own because
# `ipaddress.is_global` was wrong before Python 3.12.4 (CVE-2024-4032) and differs between versions.
_FORBIDDEN = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)

# Where clouds hand out credentials; no setting opens these. The last one is public by its number.
_METADATA = frozenset(
    ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What may be fetched, how long it may take and how large it may be."""

    # a name allows itself and all below it; "*" allows every public host
    allowed_hosts: tuple[str, ...] = ()
    # networks that are not public and still allowed, e.g. "10.0.0.0/8"
    allowed_networks: tuple[str, ...] = ()
    allow_http: bool = False
    allowed_ports: tuple[int, ...] = (443, 80)
    # local files are read only under these
    file_roots: tuple[Path, ...] = ()
    max_redirects: int = 3
    connect_seconds: float = 3.0
    # longest silence: until the answer begins, and within it
    first_byte_seconds: float = 5.0
    # one resource, with all its retries and redirects
    total_seconds: float = 20.0
    # bytes per second, over every `rate_window_seconds`
    min_rate_bytes: int = 100_000
    rate_window_seconds: float = 5.0
    max_bytes: int = 64_000_000
    retries: int = 2

    def __post_init__(self) -> None:
        limits = (self.connect_seconds, self.first_byte_seconds, self.total_seconds, self.rate_window_seconds)
        if min(*limits, self.max_bytes) <= 0 or min(self.max_redirects, self.retries, self.min_rate_bytes) < 0:
            raise SettingsError("fetch: a time or size limit must be positive")
        _networks(self.allowed_networks)

    def allows_host(self, host: str) -> bool:
        """Whether the names allow this host; `host` is as in `Target`."""
        literal = literal_of(host)
        if literal is not None and any(literal in network for network in _networks(self.allowed_networks)):
            return True
        return any(_covers(entry, host, literal) for entry in self.allowed_hosts)

    def allows_address(self, address: Address) -> bool:
        """Whether a connection to this address is allowed."""
        if address in _METADATA:
            return False
        if any(address in network for network in _networks(self.allowed_networks)):
            return True
        return address.is_global and not any(address in network for network in _FORBIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL that passed the first check, taken apart; `host` is lower-case ASCII without a trailing dot."""

    scheme: str
    host: str
    port: int
    # path and query as they go on the wire
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def check_url(url: str, policy: FetchPolicy) -> Target:
    """Take a http or https URL apart, or raise FetchError("refused")."""
    parts = _split(url)
    schemes = ("http", "https") if policy.allow_http else ("https",)
    if parts.scheme not in schemes:
        raise _refused(url, f"scheme {parts.scheme or 'none'!r} is not allowed")
    if "@" in parts.netloc:
        raise _refused(url, "user names and passwords in addresses are not allowed")
    try:
        port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    except ValueError:
        raise _refused(url, "the port is no number") from None
    if port == 0 or port not in policy.allowed_ports:
        raise _refused(url, f"port {port} is not allowed")
    host = _host(url, parts.hostname or "")
    if not policy.allows_host(host):
        raise _refused(url, f"host {host} is not in allowed_hosts")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=-._~?')}" if parts.query else ""
    return Target(scheme=parts.scheme, host=host, port=port, path=path + query)


def check_addresses(host: str, answers: list[str], policy: FetchPolicy) -> list[Address]:
    """The addresses that a name resolved to, or FetchError("refused") if even one of them is forbidden."""
    try:
        addresses = [ip_address(answer) for answer in dict.fromkeys(answers)]
    except ValueError:
        raise FetchError("refused", f"{host} resolves to something that is no address") from None
    for address in addresses:
        if not policy.allows_address(address):
            raise FetchError("refused", f"{host} resolves to {address}, which is not a public address")
    if not addresses:
        raise FetchError("unreachable", f"{host} resolves to nothing")
    return addresses


def check_file(address: str, policy: FetchPolicy) -> Path:
    """The real path of a plain path or file: URL, or FetchError: it must be under one of `file_roots`."""
    name = shown(address)
    path = address
    if _SCHEME.match(address):
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise FetchError("refused", f"{name}: a file address must not name a host")
        path = path_of(parts.path)
    try:
        real = Path(path).resolve(strict=True)
        roots = [root.resolve() for root in policy.file_roots]
    except (OSError, ValueError, RuntimeError) as error:
        raise FetchError("file", f"{name}: {getattr(error, 'strerror', None) or 'not a path'}") from None
    if not any(real.is_relative_to(root) for root in roots):
        raise FetchError("refused", f"{name} is not under any of file_roots")
    return real


def is_local(address: str) -> bool:
    """Whether this is a plain path or a file: URL."""
    scheme = _SCHEME.match(address)
    return scheme[0].lower() == "file:" if scheme else "://" not in address


def shown(url: str) -> str:
    """An address as people may see it: without credentials, query and fragment, even when it is written wrongly."""
    plain, *secret = re.split(r"[?#]", url, maxsplit=1)
    scheme, slashes, rest = plain.partition("://")
    if not slashes:
        return plain[:200]
    if "@" in "".join(secret):
        # Either an address in the query, or a question mark in a password that should have been escaped.
        return f"{scheme}://\N{HORIZONTAL ELLIPSIS}"
    if "@" in rest:
        rest = "\N{HORIZONTAL ELLIPSIS}" + rest.rpartition("@")[2]
    return f"{scheme}://{rest}"[:200]


def literal_of(host: str) -> Address | None:
    """The address when the host is written as one."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _split(url: str) -> SplitResult:
    if len(url.encode("utf-8", "replace")) > MAX_URL_BYTES:
        raise _refused(url, f"longer than {MAX_URL_BYTES} bytes")
    if _UNSAFE.search(url) or url != url.strip():
        raise _refused(url, "control characters, backslashes or blanks around it")
    try:
        return urlsplit(url)
    except ValueError:
        raise _refused(url, "not an address") from None


def _host(url: str, host: str) -> str:
    """Lower-case ASCII without the trailing dot; anything that two readers could read as two hosts is refused."""
    if ":" in host:
        address = literal_of(host)
        if not isinstance(address, IPv6Address) or "%" in host:
            raise _refused(url, "not an IPv6 address")
        return str(address)
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise _refused(url, "not a host name") from None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(url, "not a host name")
    if _NUMERIC_LABEL.fullmatch(labels[-1]) and literal_of(name) is None:
        raise _refused(url, "an IPv4 address must be written as four decimal numbers")
    return name


def _covers(entry: str, host: str, literal: Address | None) -> bool:
    if entry == "*":
        return True
    name = entry.lower().removeprefix("*").strip(".[]")
    if literal is not None:
        return literal_of(name) == literal
    return bool(name) and (host == name or host.endswith(f".{name}"))


@lru_cache(maxsize=64)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise SettingsError(f"fetch.allowed_networks: {error}; write a network like 10.0.0.0/8") from None


def _refused(url: str, why: str) -> FetchError:
    return FetchError("refused", f"{shown(url)}: {why}")
