"""A real PostgreSQL server for tests: on a free port of loopback, in a temporary folder, as a user who is not root."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.ports import free_port

PASSWORD = "not-a-secret-of-anybody"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
}


def programs() -> Path | None:
    """The folder of the newest server's programs."""
    paths = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("postgres")
    return paths[-1].parent if paths else Path(on_path).parent if on_path else None


@dataclass
class PostgresServer:
    """One server process; `stop` and `start` as often as a test likes."""

    bin: Path
    folder: Path
    port: int
    settings: Mapping[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _free: list[str] = field(default_factory=list)

    @property
    def password_file(self) -> Path:
        return self.folder / "password"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://vqmon@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The address of a database that holds nothing; the next one may get the same."""
        if self._free:
            name = self._free.pop()
            self.run_sql("DROP SCHEMA IF EXISTS vqmon CASCADE", name)
        else:
            name = f"history_{next(self._numbers)}"
            self.run_sql(f"CREATE DATABASE {name}")
        yield self.url(name)
        self._free.append(name)

    def run_sql(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the owner of the server."""
        import psycopg

        with psycopg.connect(self.url(database), password=PASSWORD, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start and wait until it answers."""
        options = [f"--{name}={value}" for name, value in {**self.settings, "port": str(self.port)}.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.bin / "postgres"), "-D", str(self.folder / "data"), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                **_who(),  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.05)

    def stop(self, *, number: int = signal.SIGINT) -> None:
        """End it and every connection: SIGINT is PostgreSQL's fast way."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(timeout=30)

    def _answers(self) -> bool:
        import psycopg

        try:
            self.run_sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running(bin: Path, changes: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A server that is gone afterwards, its folder too."""
    with tempfile.TemporaryDirectory(prefix="vqmon-postgres-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        who = _who()
        if who:
            for path in (folder, folder / "password"):
                os.chown(path, int(who["user"]), int(who["group"]))
        subprocess.run(
            [
                *(str(bin / "initdb"), "-D", str(folder / "data"), "-U", "vqmon", "-A", "scram-sha-256", "-E", "UTF8"),
                *("--pwfile", str(folder / "password"), "--no-sync", "--locale=C.UTF-8"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=60,
            **_who(),
        )
        server = PostgresServer(bin, folder, free_port(), {**SETTINGS, **(changes or {})})
        server.start()
        try:
            yield server
        finally:
            server.stop(number=signal.SIGQUIT)


def _who() -> dict[str, object]:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    users = {user.pw_name: user for user in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
