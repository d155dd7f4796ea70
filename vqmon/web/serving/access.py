"""Who may do what: sign-in by headers of a reverse proxy, roles, and writes from the pages of this site only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

Role = Literal["viewer", "voter", "operator"]
"""What a user may do, each also what those before may: read; vote in blind reviews; announce deployments."""

PUBLIC_PATHS = ("/healthz", "/readyz", "/metrics")
"""What probes and Prometheus ask for, answered without sign-in."""

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_MAX_NAME_LENGTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody whom the proxy has signed in."""

    name: str
    role: Role

    def has_role(self, role: Role) -> bool:
        """Whether this user may do what `role` may.

        >>> User(name="ada", role="voter").has_role("viewer"), User(name="ada", role="voter").has_role("operator")
        (True, False)
        """
        order = get_args(Role)
        return order.index(self.role) >= order.index(role)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The headers in which the proxy names the user and their groups, and which groups have which role.

    A role is given to groups, to "user:NAME", and by "*" to everyone who is signed in; groups that are named "user:..."
    are ignored.
    """

    user_header: str
    # groups separated by commas; "" = the proxy names none
    groups_header: str = ""
    viewers: Sequence[str] = ("*",)
    voters: Sequence[str] = ()
    operators: Sequence[str] = ()

    def identify(self, headers: Headers) -> User:
        """The user of a request, with the highest role of their groups; raises HTTPException, 401 or 403."""
        names = headers.getlist(self.user_header)
        if len(names) != 1 or not names[0].strip() or len(names[0]) > _MAX_NAME_LENGTH:
            raise HTTPException(401, f"The proxy named no user in the header {self.user_header}; sign in first.")
        name = names[0].strip()
        listed = ",".join(headers.getlist(self.groups_header)) if self.groups_header else ""
        groups = [group.strip() for group in listed.split(",")]
        members = {"*", f"user:{name}", *(group for group in groups if group and not group.startswith("user:"))}
        roles: tuple[tuple[Role, Sequence[str]], ...] = (
            ("operator", self.operators),
            ("voter", self.voters),
            ("viewer", self.viewers),
        )
        role = next((role for role, groups in roles if members.intersection(groups)), None)
        if role is None:
            raise HTTPException(403, f"{name} may not read these pages: none of their groups is in web.auth.viewers.")
        return User(name=name, role=role)


def user_of_request(request: Request) -> User | None:
    """Who is signed in; None where the pages have no sign-in."""
    user = request.scope.get("vqmon_user")
    assert user is None or isinstance(user, User)
    return user


class Access:
    """ASGI middleware: refuses requests of nobody, of users without a role, and writes that other sites make.

    Without `sign_in` anybody may read, and headers that name a user are ignored. With it, a request counts only from a
    trusted proxy (`ProxyHeaders` must be outside), and sets the user of the request.
    """

    def __init__(self, app: ASGIApp, *, sign_in: SignIn | None) -> None:
        self._app = app
        self._sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            if self._sign_in is not None and scope["path"] not in PUBLIC_PATHS:
                scope["vqmon_user"] = _user(self._sign_in, scope, headers)
            if scope["method"] not in _SAFE_METHODS:
                _require_own_page(headers, needs_proof="vqmon_user" in scope)
        except HTTPException as refusal:
            await _refusal_response(scope["path"], refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _user(sign_in: SignIn, scope: Scope, headers: Headers) -> User:
    if not scope["is_from_proxy"]:
        address = scope["client"][0] if scope["client"] else "a socket without address"
        text = f"Sign-in is on: only requests from web.trusted_proxies count, and this one is from {address}."
        raise HTTPException(403, text)
    return sign_in.identify(headers)


def _require_own_page(headers: Headers, *, needs_proof: bool) -> None:
    """Raise 403 when the browser states that a request comes from another site, or states nothing and must."""
    fetch_site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_stated = fetch_site is not None or origin is not None
    is_same_origin = origin is None or origin.partition("://")[2] == headers.get("host")
    if (needs_proof and not is_stated) or fetch_site not in (None, "same-origin") or not is_same_origin:
        raise HTTPException(403, "Changes are accepted only from the pages of this site.")


def _refusal_response(path: str, refusal: HTTPException) -> Response:
    if path.startswith(("/api/", "/live")):
        body = {"error": refusal.detail, "remedy": "docs/login.md describes sign-in by a reverse proxy."}
        return JSONResponse(body, refusal.status_code)
    return PlainTextResponse(f"{refusal.detail}\n", refusal.status_code)
