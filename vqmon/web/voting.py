"""Who votes, and how a vote is told from one that another site had a browser send."""

import hmac
import re
import secrets
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

COOKIE = "vqmon_voter"
MAX_FORM_BYTES = 4096
YEAR_SECONDS = 31_536_000

_VOTER = re.compile(r"[0-9a-f]{32}")


def voter_of(request: Request) -> str | None:
    """The random name that this browser got; None when it has none yet."""
    name = request.cookies.get(COOKIE, "")
    return name if _VOTER.fullmatch(name) else None


def new_voter() -> str:
    return secrets.token_hex(16)


def remember(response: Response, request: Request, voter: str) -> Response:
    """Give the browser its name: unseen by scripts, and never sent along from other sites."""
    response.set_cookie(
        COOKIE,
        voter,
        max_age=YEAR_SECONDS,
        path="/experiments",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


def token_of(secret: bytes, *parts: str) -> str:
    """What a form carries to show that it came from a page of ours, for this voter and pair."""
    return hmac.new(secret, "\n".join(parts).encode(errors="replace"), sha256).hexdigest()


def is_token(secret: bytes, given: str, *parts: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token_of(secret, *parts).encode())


def check_same_origin(request: Request) -> None:
    """Raise 403 when the browser says that another site made it ask."""
    told = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if told not in (None, "same-origin") or (origin is not None and urlsplit(origin).netloc != host):
        raise HTTPException(403, "A vote counts only when it is given on the page of the blind look itself.")


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a small form; raises 413 or 415."""
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A vote is sent as a form.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, "A vote is not that long.")
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
