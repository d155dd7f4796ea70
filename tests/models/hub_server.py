"""A model hub on loopback: as much of Hugging Face's protocol as fetching a file takes, and it can break off."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit


class HubServer(ThreadingHTTPServer):
    """Serves `files` of one commit; `breaks` transfers stop half way."""

    def __init__(self, files: Mapping[str, bytes], *, commit: str, breaks: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.commit, self.breaks = files, commit, breaks
        # (method, file name, Range header)
        self.seen: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/models/"):
            self._tell()
        else:
            self._send(path.rsplit("/", 1)[-1], with_body=True)

    def do_HEAD(self) -> None:
        self._send(urlsplit(self.path).path.rsplit("/", 1)[-1], with_body=False)

    def _tell(self) -> None:
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1},
            }
            for name, content in self.server.files.items()
        ]
        self._answer(200, json.dumps({"id": "owner/name", "sha": self.server.commit, "siblings": siblings}).encode())

    def _send(self, name: str, *, with_body: bool) -> None:
        content, wanted = self.server.files.get(name), self.headers.get("Range")
        self.server.seen.append((self.command, name, wanted))
        if content is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        facts = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": self.server.commit,
            "Accept-Ranges": "bytes",
        }
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if start:
            facts["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, content[start:], facts, with_body=with_body)

    def _answer(
        self, status: int, body: bytes, facts: Mapping[str, str] | None = None, *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in {**(facts or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if facts and "X-Repo-Commit" in facts and self.server.breaks:
            self.server.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve(files: Mapping[str, bytes], *, commit: str, breaks: int = 0) -> Iterator[HubServer]:
    """A running server."""
    server = HubServer(files, commit=commit, breaks=breaks)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
