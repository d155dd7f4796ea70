"""The fetch policy: which URLs, names, IP addresses and files it allows."""

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.fetch.rig import LIMIT, PUBLIC, Fetcher, ScriptedResolver, UnreachableNetwork, refusal
from vqmon.errors import FetchError, SettingsError
from vqmon.media.fetch.fetcher import FetchPolicy
from vqmon.media.fetch.ssrf_policy import check_url, redact_url

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
    "http://[::ffff:0:169.254.1.1]/x",
    "http://[::ffff:0:8.8.8.8]/x",
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
    network = UnreachableNetwork()
    policy = FetchPolicy(allowed_hosts=("*",), allow_http=True, retries=0)
    async with Fetcher(policy, resolve=ScriptedResolver([PUBLIC]), network=network) as fetcher:
        error = await refusal(fetcher, url)

    assert error.reason == "refused"
    assert network.asked == []


def test_the_table_of_refused_addresses_is_long_enough() -> None:
    """The table keeps at least sixty different cases."""
    assert len(set(REFUSED_URLS)) >= 60


@given(st.ip_addresses())
def test_only_addresses_that_the_registry_calls_global_are_ever_allowed(address: Any) -> None:
    """Our own table only ever takes away from what `ipaddress` allows."""
    policy = FetchPolicy(allowed_hosts=("*",))
    assert not policy.allows_address(address) or ip_address(address).is_global


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
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


def test_the_default_policy_allows_nothing() -> None:
    """The policy without settings refuses every host, plain http and every file."""
    policy = FetchPolicy()
    for url in ("https://example.com/", "http://example.com/"):
        with pytest.raises(FetchError):
            check_url(url, policy)
    with pytest.raises(FetchError):
        check_url("http://example.com/", FetchPolicy(allowed_hosts=("*",)))


def test_no_setting_allows_cloud_metadata_services() -> None:
    """A network that holds a metadata address does not open that address."""
    policy = FetchPolicy(allowed_networks=("0.0.0.0/0", "::/0"))
    assert policy.allows_address(ip_address("10.0.0.1"))
    for text in ("169.254.169.254", "168.63.129.16", "fd00:ec2::254", "100.100.100.200"):
        assert not policy.allows_address(ip_address(text))


@pytest.mark.parametrize("changes", [{"allowed_networks": ("10.0.0.0/33",)}, {"total_seconds": 0}, {"retries": -1}])
def test_an_invalid_policy_is_refused(changes: dict[str, Any]) -> None:
    """A typing error in the settings is said at the start."""
    with pytest.raises(SettingsError):
        FetchPolicy(**changes)


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


@given(st.text(max_size=40), st.text(max_size=40))
def test_urls_are_redacted(user: str, query: str) -> None:
    """Nothing after a question mark or before an at sign is ever shown."""
    assert "s3cr3t" not in redact_url(f"https://{user}:s3cr3t@example.com/a?{query}s3cr3t")
    assert "s3cr3t" not in redact_url(f"https://example.com/a?{query}s3cr3t")
