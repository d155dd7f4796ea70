"""Queries and user parts of addresses show up nowhere: the whole product over an origin that signs everything."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.media.clips import clip, x264
from tests.ports import free_port
from tests.receivers import posted_body, served, wait_until
from vqmon.cli.main import main
from vqmon.transport.history.history import open_history
from vqmon.web.app import create_app

SECRET = b"s3cr3t"
NAMES = ("0.ts", "gone.ts", "moved.ts", "away.ts", "broken.ts")
ODD = ("ftp://u:s3cr3t@h/x.ts", "http://u:s3cr3t@127.0.0.1/x.ts", "http://[s3cr3t/x.ts", "http://u:s3cr3t@h\u2100/x.ts")
SETTINGS = """
[source]
stale_after_seconds = 0.5
streams = [
  {{ id = "tv", url = "{origin}/main.m3u8?s3cr3t", reference = "{origin}/gone/{{name}}?s3cr3t" }},
  {{ id = "none", url = "{origin}/gone.m3u8?s3cr3t" }},
]
[fetch]
allowed_hosts = ["127.0.0.1"]
allowed_networks = ["127.0.0.0/8"]
allowed_ports = [{port}]
allow_http = true
retries = 0
{credentials}
[alerts]
rules = "rules.toml"
[notify.webhooks.hook]
url = "{origin}/hook?s3cr3t"
[scoring]
scorers = ["lite_fast"]
[decode]
workers = 1
[daemon]
health_port = {health_port}
[log]
form = "json"
level = "debug"
"""
RULES = """
[rules.lost]
kind = "no_score"
severity = "page"
for_seconds = 1
[rules.low]
kind = "floor"
severity = "page"
scorer = "lite_fast"
below = 99
recover_above = 100
for_seconds = 1
"""


class _Origin(ThreadingHTTPServer):
    """Serves what is asked for with the secret in the query, and keeps what is posted."""

    def __init__(self, media: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.media = media
        self.posted: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def playlist(self) -> bytes:
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-PLAYLIST-TYPE:VOD"]
        for url in (*(f"{name}?s3cr3t" for name in NAMES), *ODD, "data:text/plain,s3cr3t"):
            lines += ["#EXT-X-DISCONTINUITY", "#EXTINF:2,", url]
        for key in ("gone.key?s3cr3t", "ftp://u:s3cr3t@h/k"):
            lines += [f'#EXT-X-KEY:METHOD=AES-128,URI="{key}"', "#EXTINF:2,", "0.ts?s3cr3t"]
        lines += ["#EXT-X-KEY:METHOD=NONE", '#EXT-X-MAP:URI="gone.mp4?s3cr3t"', "#EXTINF:2,", "gone.m4s?s3cr3t"]
        return "\n".join([*lines, "#EXT-X-ENDLIST"]).encode()


class _Handler(BaseHTTPRequestHandler):
    server: _Origin

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        away = {"/moved.ts": "/0.ts?s3cr3t", "/away.ts": "http://u:s3cr3t@10.0.0.1/?s3cr3t"}
        body = {"/main.m3u8": self.server.playlist(), "/0.ts": self.server.media, "/broken.ts": SECRET * 100}.get(path)
        status = 302 if path in away else 200 if body else 404
        self.send_response(status if query == "s3cr3t" else 403)
        if path in away:
            self.send_header("Location", away[path])
        shown = body or b"s3cr3t"
        self.send_header("Content-Length", str(len(shown)))
        self.end_headers()
        self.wfile.write(shown)

    def do_POST(self) -> None:
        self.server.posted.append(posted_body(self))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def origin() -> Iterator[_Origin]:
    with _Origin(clip(*x264(), size="192x108", seconds=1)) as server, served(server):
        yield server


def write_settings(folder: Path, server: _Origin, *, health_port: int = 0, credentials: str = "") -> None:
    (folder / "rules.toml").write_text(RULES)
    facts = {"origin": server.url, "port": server.server_port, "health_port": health_port, "credentials": credentials}
    (folder / "vqmon.toml").write_text(SETTINGS.format(**facts))


def vqmon(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def probe(port: int, name: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()


def run_daemon(folder: Path, server: _Origin, port: int) -> dict[str, bytes]:
    """What the daemon wrote, answered and sent, until every segment has its outcome and the alerts are out."""
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}
    command = [sys.executable, "-m", "vqmon", "run"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, env=environment, stderr=log) as run:
        wait_until(lambda: b'"none/playlist/no_score"' in (folder / "log").read_bytes(), seconds=60)
        wait_until(lambda: b'"rule": "lost", "series": "tv/main' in (folder / "log").read_bytes(), seconds=60)
        wait_until(lambda: any(b"org.vqmon.alert" in body for body in server.posted), seconds=30)
        answers = {name: probe(port, name) for name in ("metrics", "readyz")}
        run.terminate()
        run.wait(timeout=60)
    return {**answers, "log": (folder / "log").read_bytes(), "posted": b"\n".join(server.posted)}


async def pages(folder: Path, ids: list[str]) -> Mapping[str, bytes]:
    """Every page and document about the stored outcomes and alerts."""
    paths = ["/", "/streams/tv", "/alerts", "/api/streams", "/api/v1/outcomes?stream=tv", "/api/v1/alerts"]
    for id in ids:
        paths += [f"/segments/{id}", f"/api/segments/{id}", f"/api/v1/outcomes/{id}", f"/api/segments/{id}.csv"]
    with open_history(folder / "vqmon.db", mode="read") as history:
        transport = httpx.ASGITransport(create_app(history.queries, now=lambda: datetime.now(UTC)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            alerts = (await client.get("/api/v1/alerts")).json()["items"]
            paths += [f"/alerts/{alert['id']}" for alert in alerts]
            return {path: (await client.get(path)).raise_for_status().content for path in paths}


def test_no_secret_of_an_address_is_shown_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Event, history, exports, pages, API, logs, traces, metrics, notifications, errors, reports and file names."""
    monkeypatch.chdir(tmp_path)
    with origin() as server:
        port = free_port()
        write_settings(tmp_path, server, health_port=port)
        shown = run_daemon(tmp_path, server, port)
        signed, refused = f"{server.url}/0.ts?s3cr3t", server.url.replace("//", "//u:s3cr3t@") + "/0.ts?s3cr3t"
        refusal = vqmon("score", refused)
        assert refusal.exit_code == 2
        shown["refusal"] = refusal.output.encode()
        score = ("score", "--json", "--html", "out.html", "--csv", "out.csv", signed)
        for arguments in (score, ("export", "out.ndjson"), ("replay", "--again")):
            run = vqmon(*arguments)
            shown[arguments[0]] = run.output.encode()
        assert run.exit_code == 3
        assert "2 of 127.0.0.1 cannot be fetched: the history keeps neither query" in run.output
        outcomes = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
        # with the signature they are fetched again, and come out the same
        (tmp_path / "token").write_text("s3cr3t")
        with_token = f'[fetch.credentials."127.0.0.1"]\nfile = "{tmp_path}/token"\n'
        write_settings(tmp_path, server, credentials=with_token)
        again = vqmon("replay", "--again")

    assert {outcome["data"]["segment"]["sequence"] for outcome in outcomes} >= set(range(13))
    assert again.exit_code == 0, again.output
    assert again.output.count(": the same") == 2
    shown["again"] = again.output.encode()
    shown |= asyncio.run(pages(tmp_path, [outcome["id"] for outcome in outcomes]))
    assert (tmp_path / "out.html").is_file()
    files = [file for file in tmp_path.iterdir() if file.name not in ("vqmon.toml", "token")]
    shown |= {file.name: file.read_bytes() for file in files}
    assert b"exception.stacktrace" in shown["posted"]
    assert len(shown["log"]) > 1000
    assert [name for name, text in shown.items() if SECRET in text or "s3cr3t" in name] == []
