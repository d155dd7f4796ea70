"""The fetch policy: which URLs, hosts, IP addresses and files may be fetched (protection against SSRF)."""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

import idna

from vqmon.errors import FetchError, SettingsError
from vqmon.media.fetch.credentials import HostCredential


def decode_url_path(url_path: str) -> str:
    """The file system path of the path in a file: URL, percent-decoded byte for byte."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(url_path)))


def printable(name: str) -> str:
    r"""A file name as text that can be encoded: bytes that are not UTF-8 become \xNN.

    >>> printable("caf\udce9.mp4")
    'caf\\xe9.mp4'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


IpAddress = IPv4Address | IPv6Address
_IpNetwork = IPv4Network | IPv6Network

_MAX_URL_BYTES = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")

# IANA special-purpose registries, and networks that tunnel IPv4 inside IPv6. A table of our own because
# `ipaddress.is_global` was wrong before Python 3.12.4 (CVE-2024-4032) and differs between versions.
_SPECIAL_NETWORKS = tuple(
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
        "::ffff:0:0:0/96",
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

# Metadata services of clouds, which hand out credentials; no setting allows them. The last one is a global address.
_METADATA_SERVICES = frozenset(
    ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """Limits on what may be fetched, how long it may take and how large it may be."""

    # a name allows itself and its subdomains; "*" allows every host with a public address
    allowed_hosts: tuple[str, ...] = ()
    # networks that are allowed though they are not public, e.g. "10.0.0.0/8"
    allowed_networks: tuple[str, ...] = ()
    allow_http: bool = False
    allowed_ports: tuple[int, ...] = (443, 80)
    # local files are read only below these folders
    file_roots: tuple[Path, ...] = ()
    max_redirects: int = 3
    connect_seconds: float = 3.0
    # longest time without data: until the response begins, and within it
    first_byte_seconds: float = 5.0
    # deadline of one resource, with all its retries and redirects
    total_seconds: float = 20.0
    # bytes per second in every period of `rate_window_seconds`
    min_rate_bytes: int = 100_000
    rate_window_seconds: float = 5.0
    max_bytes: int = 64_000_000
    retries: int = 2
    # at most one per host
    credentials: tuple[HostCredential, ...] = ()
    # the section of the settings that messages name
    section: str = "fetch"

    def __post_init__(self) -> None:
        limits = (self.connect_seconds, self.first_byte_seconds, self.total_seconds, self.rate_window_seconds)
        if min(*limits, self.max_bytes) <= 0 or min(self.max_redirects, self.retries, self.min_rate_bytes) < 0:
            raise SettingsError("fetch: a time or size limit must be positive")
        _parse_networks(self.allowed_networks)

    def credential_of(self, host: str) -> HostCredential | None:
        """What this host wants to see; `host` is normalised as in `CheckedUrl`."""
        return next((credential for credential in self.credentials if credential.host == host), None)

    def allows_host(self, host: str) -> bool:
        """Whether the policy allows this host name; `host` is normalised as in `CheckedUrl`."""
        address = parse_ip_address(host)
        if address is not None and any(address in network for network in _parse_networks(self.allowed_networks)):
            return True
        return any(_entry_allows(entry, host, address) for entry in self.allowed_hosts)

    def allows_address(self, address: IpAddress) -> bool:
        """Whether the policy allows connections to this IP address."""
        if address in _METADATA_SERVICES:
            return False
        if any(address in network for network in _parse_networks(self.allowed_networks)):
            return True
        return address.is_global and not any(address in network for network in _SPECIAL_NETWORKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedUrl:
    """The parts of an http or https URL that the policy allows; `host` is lower-case ASCII without a trailing dot."""

    scheme: str
    host: str
    port: int
    # path and query, percent-encoded as sent
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """The normalised URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


def check_url(url: str, policy: FetchPolicy) -> CheckedUrl:
    """Parse and normalise an http or https URL; raises FetchError("refused") when the policy does not allow it."""
    parts = _split_url(url)
    schemes = ("http", "https") if policy.allow_http else ("https",)
    if parts.scheme == "http" and "http" not in schemes:
        raise _refusal(url, f"plain http is not allowed; set {policy.section}.allow_http = true, or use https")
    if parts.scheme not in schemes:
        raise _refusal(url, f"scheme {parts.scheme or 'none'!r} cannot be fetched; use https")
    if "@" in parts.netloc:
        raise _refusal(url, "user names and passwords in addresses are not allowed")
    try:
        port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    except ValueError:
        raise _refusal(url, "the port is not a number") from None
    if port == 0 or port not in policy.allowed_ports:
        raise _refusal(url, f"port {port} is not in {policy.section}.allowed_ports")
    host = _normalise_host(url, parts.hostname or "")
    if not policy.allows_host(host):
        raise _refusal(url, f"host {host} is not in {policy.section}.allowed_hosts")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=-._~?')}" if parts.query else ""
    return CheckedUrl(scheme=parts.scheme, host=host, port=port, path=path + query)


def check_addresses(host: str, answers: list[str], policy: FetchPolicy) -> list[IpAddress]:
    """Parse the addresses that a name resolved to.

    Raises FetchError("refused") when the policy forbids any of them, FetchError("unreachable") when there are none.
    """
    try:
        addresses = [ip_address(answer) for answer in dict.fromkeys(answers)]
    except ValueError:
        raise FetchError("refused", f"{host} resolves to something that is not an IP address") from None
    for address in addresses:
        if not policy.allows_address(address):
            remedy = f"if it is yours, add its network to {policy.section}.allowed_networks"
            raise FetchError("refused", f"{host} resolves to {address}, which is not a public address; {remedy}")
    if not addresses:
        raise FetchError("unreachable", f"{host} resolves to no address")
    return addresses


def check_file(address: str, policy: FetchPolicy) -> Path:
    """The resolved path of a plain path or file: URL; raises FetchError unless it is below one of `file_roots`."""
    name = redact_url(address)
    path = address
    if _SCHEME.match(address):
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise FetchError("refused", f"{name}: a file address must not name a host")
        path = decode_url_path(parts.path)
        # as people write it
        name = printable(path)[:200]
    try:
        real = Path(path).resolve(strict=True)
        roots = [root.resolve() for root in policy.file_roots]
    except (OSError, ValueError, RuntimeError) as error:
        raise FetchError("file", f"{name}: {getattr(error, 'strerror', None) or 'not a path'}") from None
    if not any(real.is_relative_to(root) for root in roots):
        raise FetchError("refused", f"{name} is not below any of {policy.section}.file_roots")
    return real


def is_local_address(address: str) -> bool:
    """Whether an address is a plain path or a file: URL."""
    scheme = _SCHEME.match(address)
    return scheme[0].lower() == "file:" if scheme else "://" not in address


def redact_url(url: str) -> str:
    """A URL for messages and logs: without credentials, query and fragment, even when it is malformed."""
    if url[:5].lower() == "data:":
        # the URL is the content itself, which may be a key
        return "data:\N{HORIZONTAL ELLIPSIS}"
    public, *secret = re.split(r"[?#]", url, maxsplit=1)
    scheme, slashes, rest = public.partition("://")
    if not slashes:
        return public[:200]
    if "@" in "".join(secret):
        # Either a URL in the query, or an unescaped question mark in a password.
        return f"{scheme}://\N{HORIZONTAL ELLIPSIS}"
    if "@" in rest:
        rest = "\N{HORIZONTAL ELLIPSIS}" + rest.rpartition("@")[2]
    return f"{scheme}://{rest}"[:200]


def parse_ip_address(host: str) -> IpAddress | None:
    """The IP address that a host is written as; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _split_url(url: str) -> SplitResult:
    if len(url.encode("utf-8", "replace")) > _MAX_URL_BYTES:
        raise _refusal(url, f"longer than {_MAX_URL_BYTES} bytes")
    if _UNSAFE.search(url) or url != url.strip():
        raise _refusal(url, "it contains control characters or backslashes, or is surrounded by blanks")
    try:
        return urlsplit(url)
    except ValueError:
        raise _refusal(url, "not a URL") from None


def _normalise_host(url: str, host: str) -> str:
    """Normalise to lower-case ASCII without the trailing dot; refuses hosts that parsers interpret differently."""
    if ":" in host:
        address = parse_ip_address(host)
        if not isinstance(address, IPv6Address) or "%" in host:
            raise _refusal(url, "not an IPv6 address")
        return str(address)
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise _refusal(url, "not a host name") from None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refusal(url, "not a host name")
    if _NUMERIC_LABEL.fullmatch(labels[-1]) and parse_ip_address(name) is None:
        raise _refusal(url, "an IPv4 address must be written as four decimal numbers")
    return name


def _entry_allows(entry: str, host: str, address: IpAddress | None) -> bool:
    if entry == "*":
        return True
    name = entry.lower().removeprefix("*").strip(".[]")
    if address is not None:
        return parse_ip_address(name) == address
    return bool(name) and (host == name or host.endswith(f".{name}"))


@lru_cache(maxsize=64)
def _parse_networks(texts: tuple[str, ...]) -> tuple[_IpNetwork, ...]:
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise SettingsError(f"fetch.allowed_networks: {error}; write a network like 10.0.0.0/8") from None


def _refusal(url: str, reason: str) -> FetchError:
    return FetchError("refused", f"{redact_url(url)}: {reason}")
