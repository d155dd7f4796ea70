"""Reverse proxies in front of the pages: which are trusted, and what they say about a request."""

import ipaddress
from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    """The addresses of the reverse proxies whose headers are believed."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """`networks` are addresses such as 192.0.2.7 or networks such as 10.0.0.0/8; raises ValueError."""
        self._networks: Sequence[_Network] = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(ip, "ipv4_mapped", None) or ip
        return any(mapped in network for network in self._networks)

    def client_of_chain(self, chain: str) -> str:
        """The client in an `X-Forwarded-For` header: the last address that is no trusted proxy; "" if there is none.

        >>> TrustedProxies(["10.0.0.0/8"]).client_of_chain("203.0.113.9, 192.0.2.7, 10.0.0.1")
        '192.0.2.7'
        """
        for address in reversed(chain.split(",")):
            if address.strip() and address.strip() not in self:
                return address.strip()[:64]
        return ""


class ProxyHeaders:
    """ASGI middleware: a request from a trusted proxy has the client and scheme that the proxy states.

    Adds `is_from_proxy` to the scope. From any other peer `X-Forwarded-For` and `X-Forwarded-Proto` are ignored. The
    address of a client that its proxy does not state is "".
    """

    def __init__(self, app: ASGIApp, *, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            peer = scope["client"]
            is_from_proxy = peer is not None and peer[0] in self._proxies
            scope["is_from_proxy"] = is_from_proxy
            if is_from_proxy:
                headers = Headers(scope=scope)
                chain = ",".join(headers.getlist("x-forwarded-for"))
                scope["client"] = (self._proxies.client_of_chain(chain), 0)
                stated_scheme = headers.get("x-forwarded-proto", "")
                scope["scheme"] = stated_scheme if stated_scheme in ("http", "https") else scope["scheme"]
        await self._app(scope, receive, send)
