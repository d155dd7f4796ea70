"""The pages on a port of this machine, and reverse proxies in front of them with the files of config/proxy."""

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipelines.commands.serve_web import open_web_server
from vqmon.settings.load import Settings
from vqmon.settings.sections import WebSettings

PROXY_FILES = Path(__file__).parents[3] / "config" / "proxy"


@contextmanager
def running_pages(history: Path, web: WebSettings) -> Iterator[int]:
    """Serve the pages with these settings; gives their port."""
    with open_web_server(Settings(web=web), history, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server.port
        finally:
            server.stop()
            thread.join(timeout=20)


class _SignIn(BaseHTTPRequestHandler):
    """What oauth2-proxy answers: who the cookie `session=NAME:GROUP,...` is from, or a page to sign in."""

    def do_GET(self) -> None:
        session = re.search(r"session=([^:]*):([^;]*)", self.headers.get("Cookie", ""))
        is_question = self.path.split("?")[0] == "/oauth2/auth"
        self.send_response((202 if session else 401) if is_question else 403)
        if is_question and session:
            self.send_header("X-Auth-Request-Email", session[1])
            self.send_header("X-Auth-Request-Groups", session[2])
        self.end_headers()
        if not is_question:
            self.wfile.write(f"sign in for {self.headers.get('X-Auth-Request-Redirect')}".encode())

    def log_message(self, format: str, *arguments: object) -> None:
        return


@contextmanager
def running_sign_in() -> Iterator[int]:
    """Serve what oauth2-proxy would; gives the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _SignIn) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def nginx_command(folder: Path, *, port: int, pages: int, sign_in: int, root_path: str = "") -> list[str]:
    """nginx with the file of config/proxy, without TLS and with these ports."""
    text = (PROXY_FILES / "nginx.conf").read_text(encoding="utf-8")
    text = re.sub(r" *ssl_certificate.*\n", "", text.replace("listen 443 ssl", f"listen 127.0.0.1:{port}"))
    text = _with_ports(text, pages=pages, sign_in=sign_in)
    text = text.replace("location / {", f"location {root_path}/ {{")
    folders = "".join(
        f"{kind}_temp_path temp_{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
    (folder / "nginx.conf").write_text(f"{head}{folders}{text}}}\n", encoding="utf-8")
    return [str(shutil.which("nginx") or "/usr/sbin/nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy_command(folder: Path, *, port: int, pages: int, sign_in: int, root_path: str = "") -> list[str]:
    """Caddy with the file of config/proxy, without TLS and with these ports."""
    text = (PROXY_FILES / "Caddyfile").read_text(encoding="utf-8")
    text = _with_ports(text, pages=pages, sign_in=sign_in)
    text = text.replace("vqmon.example.com {", f"http://127.0.0.1:{port} {{")
    text = text.replace("\thandle {\n", f"\thandle {root_path}/* {{\n")
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{text}", encoding="utf-8")
    # where it keeps its last settings
    environment = ["env", f"XDG_CONFIG_HOME={folder}", f"XDG_DATA_HOME={folder}"]
    return [*environment, "caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _with_ports(text: str, *, pages: int, sign_in: int) -> str:
    """A proxy's file with the ports of this test, in one pass: a port may begin with the digits of another."""
    ports = {"8080": pages, "4180": sign_in}
    return re.sub(r"127\.0\.0\.1:(8080|4180)\b", lambda found: f"127.0.0.1:{ports[found[1]]}", text)


@contextmanager
def running_proxy(command: list[str], port: int) -> Iterator[str]:
    """Run a proxy until the end of the context; gives its URL once it listens."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        process.kill()
                        raise AssertionError(f"{command} does not listen on port {port}") from None
                    time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
