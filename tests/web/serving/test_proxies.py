"""What reverse proxies say about a request, and from whom it is believed."""

import pytest
from starlette.types import Receive, Scope, Send

from vqmon.web.serving.proxies import ProxyHeaders, TrustedProxies


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::1", True),
        ("11.0.0.1", False),
        ("2001:db8::2", False),
        ("", False),
        ("testclient", False),
    ],
)
def test_proxies_are_addresses_and_networks(address: str, is_trusted: bool) -> None:
    """Also as IPv4 addresses written in IPv6."""
    assert (address in TrustedProxies(["10.0.0.0/8", "2001:db8::1"])) == is_trusted


def test_what_is_no_network_is_refused() -> None:
    """Host bits must be zero."""
    with pytest.raises(ValueError, match="host bits"):
        TrustedProxies(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("10.0.0.1", "192.0.2.7", ("192.0.2.7", "https")),
        ("10.0.0.1", "forged, 192.0.2.7, 10.0.0.2", ("192.0.2.7", "https")),
        ("10.0.0.1", "", ("", "https")),
        ("192.0.2.99", "127.0.0.1", ("192.0.2.99", "http")),
    ],
)
async def test_client_and_scheme_are_believed_of_a_proxy_alone(peer: str, chain: str, client: tuple[str, str]) -> None:
    """The client is the last address of the chain that is no proxy: what stands before it anybody may have written."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    headers = [(b"x-forwarded-for", chain.encode()), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "client": (peer, 4000), "scheme": "http", "headers": headers}
    await ProxyHeaders(app, proxies=TrustedProxies(["10.0.0.0/8"]))(scope, None, None)  # type: ignore[arg-type]
    assert (seen[0]["client"][0], seen[0]["scheme"]) == client
