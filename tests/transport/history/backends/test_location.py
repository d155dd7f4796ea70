"""Locations of a history, as people write them."""

from pathlib import Path

import pytest

from vqmon.errors import SettingsError
from vqmon.transport.history.backends.location import PostgresAddress, parse_location


@pytest.mark.parametrize("url", ["postgresql://db/vqmon", "postgres://db/vqmon"])
def test_a_postgresql_url_is_a_database(url: str) -> None:
    """With the password file that belongs to it; messages show the URL alone."""
    location = parse_location(url, password_file=Path("pg"))
    assert location == PostgresAddress(url=url, password_file=Path("pg"))
    assert str(location) == url


@pytest.mark.parametrize("text", ["vqmon.db", Path("/var/lib/vqmon/history.db"), "postgresql:vqmon"])
def test_anything_without_a_scheme_is_a_file(text: str | Path) -> None:
    """Relative or absolute."""
    assert parse_location(text) == Path(text)


def test_another_scheme_is_refused_without_showing_the_rest() -> None:
    """The rest of the URL may hold a password."""
    with pytest.raises(SettingsError, match="'mysql' is not a kind of history") as caught:
        parse_location("mysql://me:secret@db/x")
    assert "secret" not in str(caught.value)
