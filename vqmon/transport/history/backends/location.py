"""The location of a history: a file on this host, or a PostgreSQL database."""

from dataclasses import dataclass
from pathlib import Path

from vqmon.errors import SettingsError

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """A PostgreSQL database; the password is never part of the URL."""

    url: str
    # a name in $CREDENTIALS_DIRECTORY, without that a path; None: libpq finds it (~/.pgpass, peer, certificate)
    password_file: Path | None = None

    def __str__(self) -> str:
        return self.url


HistoryLocation = Path | PostgresAddress


def parse_location(text: str | Path, *, password_file: Path | None = None) -> HistoryLocation:
    """Read the location of a history: `postgresql://...`, else a file. Raises SettingsError for other URLs.

    >>> parse_location("vqmon.db")
    PosixPath('vqmon.db')
    """
    if isinstance(text, str) and text.startswith(POSTGRES_SCHEMES):
        return PostgresAddress(url=text, password_file=password_file)
    if "://" in str(text):
        scheme = str(text).split(":")[0]
        raise SettingsError(f"history: {scheme!r} is not a kind of history; use postgresql:// or a file")
    return Path(text)
