"""The pages as a process: the names they answer by, and a port that is taken."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.commands.serve_web import _host_names, reviews_path, serve_web
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.settings.sections import WebSettings
from vqmon.transport.history.history import open_history


@pytest.mark.parametrize(
    ("host", "allowed", "names"),
    [
        ("127.0.0.1", (), ["127.0.0.1"]),
        ("fe80::7", ("tv.lan",), ["tv.lan", "[fe80::7]"]),
        ("0.0.0.0", (), ["*"]),
        ("::", (), ["*"]),
        ("0.0.0.0", ("tv.lan",), ["tv.lan"]),
    ],
)
def test_names_are_those_of_the_settings_and_the_host(host: str, allowed: Sequence[str], names: list[str]) -> None:
    """Every address without names means any name."""
    assert list(_host_names(host, allowed)) == names


@pytest.mark.parametrize("name", ["a*.lan", "http://tv.lan", "tv.lan:8080", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """Neither an address with a port nor a star in the middle."""
    with pytest.raises(ValueError, match="allowed_hosts"):
        WebSettings(allowed_hosts=(name,))
    assert WebSettings(allowed_hosts=("*", "*.lan", "tv.lan", "[::1]")).allowed_hosts


def test_a_port_that_is_taken_names_the_setting(tmp_path: Path) -> None:
    """One line, as for any wrong setting."""
    path = tmp_path / "history.db"
    with open_history(path, "write"), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127.0.0.1:{port}: Address already in use; set web.port"):
            serve_web(Settings(), path, host="127.0.0.1", port=port)


def test_a_missing_history_comes_first(tmp_path: Path) -> None:
    """The words say how to get one."""
    with pytest.raises(SettingsError, match="no history yet; run `vqmon run`"):
        serve_web(Settings(), tmp_path / "none.db", host="127.0.0.1", port=0)


def test_votes_are_kept_beside_the_history(tmp_path: Path) -> None:
    """As set, else by the name of the history's file."""
    assert reviews_path(None, tmp_path / "vqmon.db") == tmp_path / "vqmon.db.reviews"
    assert reviews_path(Path("/x/votes.db"), tmp_path / "vqmon.db") == Path("/x/votes.db")
