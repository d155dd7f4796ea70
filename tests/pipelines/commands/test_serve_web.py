"""The pages as a process: the names they answer by, and a port that is taken."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.commands.serve_web import _host_names, exposure_problem, reviews_path, serve_web
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.settings.sections import WebAuth, WebSettings
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
def test_requests_are_accepted_for_the_configured_names_and_the_host(
    host: str, allowed: Sequence[str], names: list[str]
) -> None:
    """All names when the host stands for every address and none is configured."""
    assert list(_host_names(host, allowed)) == names


def test_pages_that_anybody_may_read_are_said() -> None:
    """On an address of this machine alone, or with sign-in, nothing is wrong."""
    sign_in = WebSettings(auth=WebAuth(user_header="X-User"), trusted_proxies=("127.0.0.1",))
    assert exposure_problem(WebSettings(), "127.0.0.1") == ""
    assert exposure_problem(sign_in, "0.0.0.0") == ""
    assert "may read the pages and vote: set web.auth" in exposure_problem(WebSettings(allow_votes=True), "0.0.0.0")


@pytest.mark.parametrize("name", ["a*.lan", "http://tv.lan", "tv.lan:8080", ""])
def test_an_allowed_host_that_is_not_a_host_name_is_refused(name: str) -> None:
    """Neither a URL, nor a port, nor a star in the middle."""
    with pytest.raises(ValueError, match="allowed_hosts"):
        WebSettings(allowed_hosts=(name,))
    assert WebSettings(allowed_hosts=("*", "*.lan", "tv.lan", "[::1]")).allowed_hosts


def test_a_port_in_use_is_refused_with_the_setting(tmp_path: Path) -> None:
    """One line, as for any wrong setting."""
    path = tmp_path / "history.db"
    with open_history(path, "write"), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127.0.0.1:{port}: Address already in use; set web.port"):
            serve_web(Settings(), path, host="127.0.0.1", port=port)


def test_a_missing_history_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """The message says how to create one."""
    with pytest.raises(SettingsError, match="no history yet; run `vqmon run`"):
        serve_web(Settings(), tmp_path / "none.db", host="127.0.0.1", port=0)


def test_votes_are_stored_beside_the_history(tmp_path: Path) -> None:
    """Unless the settings name a file."""
    assert reviews_path(None, tmp_path / "vqmon.db") == tmp_path / "vqmon.db.reviews"
    assert reviews_path(Path("/x/votes.db"), tmp_path / "vqmon.db") == Path("/x/votes.db")
