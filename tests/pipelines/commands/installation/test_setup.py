"""`vqmon init` and `vqmon files`: settings that load, with no more permissions than needed, and the shipped files."""

import resource
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands.installation.setup import settings_text, write_settings, write_shipped_files
from vqmon.errors import SettingsError
from vqmon.settings.load import load_settings


@pytest.mark.parametrize(
    ("address", "fetch"),
    [
        ("https://cdn.example.org/live/a.m3u8", {"allowed_hosts": ["cdn.example.org"]}),
        (
            "http://10.1.2.3:8080/a.mpd?token=x",
            {
                "allowed_hosts": ["10.1.2.3"],
                "allowed_networks": ["10.1.2.3/32"],
                "allow_http": True,
                "allowed_ports": [443, 80, 8080],
            },
        ),
    ],
)
def test_settings_for_a_playlist_allow_its_host_and_nothing_else(
    address: str, fetch: dict[str, Any], tmp_path: Path
) -> None:
    """And they load."""
    file = tmp_path / "vqmon.toml"
    write_settings(settings_text(address, stream_id="news"), file)
    assert tomllib.loads(file.read_text())["fetch"] == fetch
    [stream] = load_settings(file).source.streams
    assert (stream.id, stream.url) == ("news", address)
    # a signed address is for its owner alone
    assert file.stat().st_mode & 0o777 == (0o600 if "?" in address else 0o644)


def test_settings_for_a_folder_name_it_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path would mean another folder from the settings file's place."""
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "etc.toml"
    write_settings(settings_text("in", stream_id=""), file)
    assert load_settings(file).source.folder == (tmp_path / "in").resolve()
    with pytest.raises(SettingsError, match="exists already"):
        write_settings("", file)
    with pytest.raises(SettingsError, match="no such playlist or folder"):
        settings_text("nothing.m3u8", stream_id="")


def test_settings_for_a_playlist_on_this_machine_allow_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for `vqmon watch`: by its whole path, and nothing from any host."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "live.m3u8").write_text("#EXTM3U\n")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "etc.toml"
    write_settings(settings_text("in/live.m3u8", stream_id=""), file)
    folder = (tmp_path / "in").resolve()
    assert tomllib.loads(file.read_text())["fetch"] == {"file_roots": [str(folder)]}
    [stream] = load_settings(file).source.streams
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    with pytest.raises(SettingsError, match=r"clip\.mp4: not an HLS or DASH playlist"):
        settings_text("clip.mp4", stream_id="")
    assert (stream.id, stream.url) == ("live", (folder / "live.m3u8").as_uri())


def test_the_rules_lead_to_the_runbooks_that_are_served(tmp_path: Path) -> None:
    """Each alert to its own place on that page; the example is gone from the rules."""
    write_shipped_files(tmp_path / "out", runbooks="https://docs.example.net/vqmon/runbooks.html")
    rules = (tmp_path / "out" / "config" / "prometheus" / "vqmon.rules.yml").read_text(encoding="utf-8")
    urls = [line.split(": ", 1)[1] for line in rules.splitlines() if line.strip().startswith("runbook_url:")]
    assert len(urls) > 20
    assert all(url.startswith("https://docs.example.net/vqmon/runbooks.html#vqmon") for url in urls)


def test_the_shipped_files_are_written_whole(tmp_path: Path) -> None:
    """Units, dashboards, rules, SQL and schemas; into a new folder only."""
    names = {str(path.relative_to(tmp_path / "out")) for path in write_shipped_files(tmp_path / "out")}
    assert {
        "config/vqmon.toml",
        "config/clickhouse/quality.sql",
        "config/grafana/dashboards/vqmon-quality.json",
        "config/prometheus/vqmon.rules.yml",
        "config/schemas/org.vqmon.quality.v1.json",
        "systemd/vqmon.service",
    } <= names
    with pytest.raises(SettingsError, match="not empty"):
        write_shipped_files(tmp_path / "out")


def test_settings_that_are_cut_short_are_not_left_behind(tmp_path: Path) -> None:
    """The next try would be refused as one that is there already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(SettingsError, match=r"vqmon\.toml: cannot be written: File too large; name another file"):
            write_settings("# settings\n" * 100, tmp_path / "vqmon.toml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_copied_are_counted_and_one_is_named(tmp_path: Path) -> None:
    """A full disk fails for many files: one line says how many, which, and why; nothing is left of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(
            SettingsError, match=r"out: \d+ files cannot be written, such as /\S+: File too large; noth"
        ):
            write_shipped_files(tmp_path / "out")
        (tmp_path / "empty").mkdir()
        with pytest.raises(SettingsError, match="name another folder"):
            write_shipped_files(tmp_path / "empty")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
