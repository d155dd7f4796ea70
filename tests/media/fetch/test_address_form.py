"""Addresses as people write them: which are refused, and what the message says to write."""

from pathlib import Path

import pytest

from vqmon.errors import FetchError, SettingsError
from vqmon.media.fetch.address_form import check_address_form
from vqmon.media.fetch.ssrf_policy import FetchPolicy, check_file


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("htp://cdn.example/a.m3u8", "the scheme 'htp' is misspelt: write http://"),
        ("httsp://cdn.example/a.m3u8", "the scheme 'httsp' is misspelt: write https://"),
        ("rtmp://cdn.example/live", "rtmp:// is not read; HLS and DASH playlists"),
        ("cdn.example/a.m3u8", "for a server write the scheme, https://cdn.example/a.m3u8"),
        ("localhost:8080/a.mpd", "for a server write the scheme, http://localhost:8080/a.mpd"),
        ("192.168.0.7/a.mpd", "for a server write the scheme, http://192.168.0.7/a.mpd"),
        ("https:/cdn.example/a.m3u8", "a URL begins with https://; write https://cdn.example/a.m3u8"),
        ("http:cdn.example/a.m3u8", "a URL begins with http://; write http://cdn.example/a.m3u8"),
        ("https:///a.m3u8", "not a host name"),
        ("https://a b.example/a.m3u8", "not a host name"),
        ("https://me:secret@cdn.example/a.m3u8", "user names and passwords in addresses are not allowed"),
        ("https://cdn.example:99999/a.m3u8", "is no address: write a path, or https://"),
        ("https://[::1/a.m3u8", "is no address"),
        ("", "is no address"),
        ("file:///%00", "is no address"),
    ],
)
def test_an_address_that_can_never_work_is_refused_with_what_to_write(address: str, message: str) -> None:
    """Whatever servers answer; passwords are not repeated."""
    with pytest.raises(SettingsError) as caught:
        check_address_form(address)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://cdn.example/a.m3u8?token=1",
        "HTTP://127.0.0.1:8080/a.mpd",
        "https://bücher.example/a.m3u8",
        "http://[::1]:8080/a.m3u8",
        "file:///srv/live/a.m3u8",
        "/srv/live/a.m3u8",
        "live/a.m3u8",
        "../cdn.example/a.m3u8",
        "a.m3u8",
        "news:1.mp4",
    ],
)
def test_other_addresses_and_paths_pass(address: str) -> None:
    """A file need not be there yet, and no server is asked."""
    check_address_form(address)


def test_a_file_that_is_not_there_is_named_by_its_path(tmp_path: Path) -> None:
    """As people write it, also when it was made a URL."""
    for address in (f"{tmp_path}/caf\u00e9 1.mp4", (tmp_path / "caf\u00e9 1.mp4").as_uri()):
        with pytest.raises(FetchError) as caught:
            check_file(address, FetchPolicy(file_roots=(tmp_path,)))
        assert caught.value.detail == f"{tmp_path}/caf\u00e9 1.mp4: No such file or directory"


def test_a_folder_that_is_named_like_a_host_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cdn.example").mkdir()
    check_address_form("cdn.example/a.m3u8")
