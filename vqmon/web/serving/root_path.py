"""The pages below a path such as `/vqmon`: requests lose it, links and redirects get it."""

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_URL_ATTRIBUTE = re.compile(r'((?:href|src|action|formaction|poster|hx-[a-z]+|data-url)=")(?=/)')
"""An attribute with a URL of this site. Text is escaped, so that quotes are there in the markup of templates only."""


def with_root_path(html: str, root_path: str) -> str:
    """The markup of a page with all its links below a path.

    >>> with_root_path('<a href="/alerts?q=1" title="/x">', "/vqmon")
    '<a href="/vqmon/alerts?q=1" title="/x">'
    """
    return _URL_ATTRIBUTE.sub(lambda match: match[1] + root_path, html) if root_path else html


class RootPath:
    """ASGI middleware: takes `root_path` off the path of a request, and puts it before that of a redirect.

    A path without it is served too: some proxies take it off, and probes do not have it.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._root_path:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == self._root_path:
            await RedirectResponse(f"{self._root_path}/")(scope, receive, send)
            return
        if path.startswith(f"{self._root_path}/"):
            scope["path"] = path.removeprefix(self._root_path)
        host = Headers(scope=scope).get("host", "")

        async def send_below_root(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                target = urlsplit(headers.get("location", ""))
                if target.path.startswith("/") and target.netloc in ("", host):
                    headers["location"] = target._replace(path=self._root_path + target.path).geturl()
            await send(message)

        await self._app(scope, receive, send_below_root)
