"""Where a history is: a file of this host, or a PostgreSQL server."""

from dataclasses import dataclass
from pathlib import Path

from vqmon.errors import SettingsError

SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A database of a PostgreSQL server; the password is never part of the address."""

    url: str
    # an absolute path, or a name in $CREDENTIALS_DIRECTORY; none = as libpq finds it (~/.pgpass, peer, certificate)
    password_file: Path | None = None

    def __str__(self) -> str:
        return self.url


Place = Path | Server


def place_of(text: str | Path, *, password_file: Path | None = None) -> Place:
    """What a person wrote as the place of a history: `postgresql://...`, else a file.

    >>> place_of("vqmon.db")
    PosixPath('vqmon.db')
    """
    if isinstance(text, str) and text.startswith(SCHEMES):
        return Server(url=text, password_file=password_file)
    if "://" in str(text):
        raise SettingsError(f"history: {str(text).split(':')[0]!r} is no kind of history; use postgresql:// or a file")
    return Path(text)
