"""Forms that pages send."""

from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

_MAX_FORM_BYTES = 4096


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form, the last value of each; raises 413 or 415."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip()
    if content_type != "application/x-www-form-urlencoded":
        raise HTTPException(415, "It must be sent as a form.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise HTTPException(413, "The form is too large.")
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
