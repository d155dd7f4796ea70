"""Settings from a file and the environment: what is refused, and with which message."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.settings.refused import refused_keys
from vqmon.core.types import Reference
from vqmon.errors import SettingsError
from vqmon.settings.load import load_settings
from vqmon.settings.sections import WatchedStream
from vqmon.testing import make_segment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scoring]\nscorers = []\n", "scoring.scorers: "),
        ("[decode]\nfps = 1000\n", "decode.fps: "),
        ("[decode]\nworkers = 1000\n", "decode.workers: "),
        ("[fetch]\nmax_bytes = 9000000000000\n", "fetch.max_bytes: "),
        ("decode = 3\n", "decode: must be a table"),
    ],
)
def test_settings_out_of_range_are_refused_by_key(tmp_path: Path, text: str, message: str) -> None:
    """Numbers beyond any machine, an empty list of scorers, and a section that is not a table."""
    file = tmp_path / "vqmon.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(SettingsError, match=message):
        load_settings(file)


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    """Unknown ones and wrong values, so that nobody mends them one start at a time."""
    file = tmp_path / "vqmon.toml"
    file.write_text("[source]\nkinds = 1\n[decode]\nfps = -3\nworkerz = 2\n", encoding="utf-8")

    with pytest.raises(SettingsError) as error:
        load_settings(file)

    lines = str(error.value).splitlines()
    assert [line.split(": ", 1)[1].split(";")[0].split(":")[0] for line in lines] == [
        "unknown setting 'source.kinds'",
        "unknown setting 'decode.workerz'",
        "decode.fps",
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[web]\nallow_votes = "true"', "web.allow_votes"),
        ("[fetch]\nallow_http = 1", "fetch.allow_http"),
        ('[inputs.hooks.matrix]\nurl = "https://h/"\ndry_run = "yes"', "inputs.hooks.matrix.dry_run"),
    ],
)
def test_a_boolean_in_the_file_is_true_or_false(tmp_path: Path, text: str, key: str) -> None:
    """In a section and in a table by name; nothing that only resembles one is guessed."""
    file = tmp_path / "vqmon.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=rf"{re.escape(str(file))}: {key}: must be true or false, got "):
        load_settings(file)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        # what a check of the whole section says of the default that stands in for the wrong key
        ('[inputs.hooks.matrix]\nurl = "https://h/"\ndry_run = "yes"', ["inputs.hooks.matrix.dry_run"]),
        ('[inputs.hooks.matrix]\nurl = "https://h/"\nsecret_filez = ["k"]', ["inputs.hooks.matrix.secret_filez"]),
        ('[web.auth]\nuser_hedaer = "X-User"\nvoters = ["a"]', ["web.auth.user_hedaer"]),
        ('[web]\ntrusted_proxis = ["::1"]\n[web.auth]\nuser_header = "X-User"', ["web.trusted_proxis"]),
        ('[scoring]\nreferences = ["vmaf"]\nffmpegg = "ffmpeg"', ["scoring.ffmpegg"]),
        ("[alerts]\nkeep_ended_hours = 200\nkeep_silent_hour = 400", ["alerts.keep_silent_hour"]),
        # an unknown key in the place of one that must be there
        ('[[source.streams]]\nid = "a"\nulr = "https://h/a.m3u8"', ["source.streams.0.ulr"]),
        # a section with another name is one mistake
        ('[kafak]\nbootstrap = ["h:9092"]\ngroup = "g"', ["kafak"]),
        ('[inputs.hook.matrix]\nurl = "https://h/"', ["inputs.hook"]),
        ('[web]\nauth = "x"', ["web.auth"]),
        # two mistakes, of which one hides the check of the section
        ('[alerts]\nkeep_ended_hours = 200\nrulez = "x"', ["alerts.rulez", "alerts.keep_ended_hours"]),
        ("[alerts]\nkeep_ended_hours = 200\nrules = 3", ["alerts.rules", "alerts.keep_ended_hours"]),
        (
            '[inputs.hooks.matrix]\nurl = "https://h/"\ndry_run = true\nabove = 30\nbakup = "b"',
            ["inputs.hooks.matrix.bakup", "inputs.hooks.matrix.above"],
        ),
    ],
)
def test_one_wrong_key_is_one_line(tmp_path: Path, text: str, keys: list[str]) -> None:
    """And no line for what follows from it."""
    assert refused_keys(tmp_path, text) == keys


def test_a_boolean_in_the_environment_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable cannot hold anything else."""
    monkeypatch.setenv("VQMON_WEB__ALLOW_VOTES", "true")
    assert load_settings().web.allow_votes


@pytest.mark.parametrize("name", ["VQMON_FETCH__ALLOWED_HOSTS", "VQMON_WEB__AUTH__VOTERS"])
def test_a_list_in_the_environment_must_be_json(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The message says how to write it, whatever other programs have in their variables."""
    monkeypatch.setenv("log", "foo")
    monkeypatch.setenv(name, "foo")

    with pytest.raises(SettingsError, match=f"{name}='foo': lists are JSON"):
        load_settings()


def test_a_wrong_variable_of_a_section_within_a_section_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the file."""
    monkeypatch.setenv("VQMON_WEB__LIMITS__CONNECTIONS", "0")

    with pytest.raises(SettingsError, match=r"^environment: VQMON_WEB__LIMITS__CONNECTIONS: "):
        load_settings()


def test_a_stream_names_the_reference_of_each_segment() -> None:
    """By the name, number and rendition of the segment; other fields are refused."""
    address = "https://origin.example/mezzanine/{rendition}/{sequence}-{name}"
    stream = WatchedStream(id="news", url="https://cdn.example/x.m3u8", reference=address, reference_init="init.mp4")
    reference = stream.reference_of(make_segment(7))

    assert reference == Reference(url="https://origin.example/mezzanine/720p/7-7.ts", init_url="init.mp4")
    assert WatchedStream(id="news", url="x").reference_of(make_segment(7)) is None
    with pytest.raises(ValueError, match=r"only \{name\}, \{sequence\} and \{rendition\}"):
        WatchedStream(id="news", url="x", reference="{secret}")


def test_the_content_of_a_data_address_is_no_name_of_a_reference() -> None:
    """A template's {name} is its digest."""
    stream = WatchedStream(id="a", url="https://h/a.m3u8", reference="https://h/{name}")
    reference = stream.reference_of(replace(make_segment(1), url="data:text/plain,s3cr3t"))
    assert reference is not None
    assert "s3cr3t" not in reference.url


def test_a_message_about_a_setting_shows_no_secret_of_an_address(tmp_path: Path) -> None:
    """The value that is wrong is shown without query and user part."""
    file = tmp_path / "vqmon.toml"
    file.write_text(
        '[source]\nstreams = "https://u:s3cr3t@h/a?s3cr3t"\n[notify.webhooks.a]\nurl = "ftp://u:s3cr3t@h/?s3cr3t"'
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert "https://h/a" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_the_reference_of_a_stream_may_be_a_playlist() -> None:
    def stream(**keys: str) -> WatchedStream:
        return WatchedStream.model_validate({"id": "news", "url": "https://cdn.example/x.mpd", **keys})

    assert stream(reference="https://origin.example/Ref.M3U8?key=1").reference_playlist.endswith("/Ref.M3U8?key=1")
    assert stream(reference_rendition="1080p").reference_playlist == "https://cdn.example/x.mpd"
    assert stream(reference="https://origin.example/ref.m3u8").reference_of(make_segment(7)) is None
    for template in ("https://origin.example/{name}", "https://origin.example/film.mp4", ""):
        assert stream(reference=template).reference_playlist == ""
    with pytest.raises(ValueError, match="`reference` is no playlist"):
        stream(reference="https://origin.example/{name}", reference_rendition="1080p")
    with pytest.raises(ValueError, match="reference_init"):
        stream(reference="https://origin.example/ref.m3u8", reference_init="init.mp4")


def test_relative_secrets_are_beside_the_file_unless_systemd_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All settings that name one; with a folder of credentials their names stay."""
    file = tmp_path / "vqmon.toml"
    file.write_text(
        '[history]\nurl = "postgresql://h/d"\npassword_file = "a"\n[kafka]\nmechanism = "SCRAM-SHA-512"\n'
        'username = "u"\npassword_file = "b"\nencrypted = true\n[notify]\ntoken_file = "c"\n'
        '[notify.webhooks.w]\nurl = "https://h"\nsecret_files = ["d", "/e"]\n'
        '[inputs.hooks.h]\nurl = "https://h"\nsecret_files = ["f"]\n[fetch.credentials."h"]\nfile = "g"\n'
    )

    def secrets() -> list[Path | None]:
        settings = load_settings(file)
        lists = settings.notify.webhooks["w"].secret_files, settings.inputs.hooks["h"].secret_files
        files = settings.history.password_file, settings.kafka.password_file, settings.notify.token_file
        return [*files, *(path for paths in lists for path in paths), settings.fetch.credentials["h"].file]

    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert secrets() == [tmp_path / name for name in ("a", "b", "c", "d", "/e", "f", "g")]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    assert secrets() == [Path(name) for name in ("a", "b", "c", "d", "/e", "f", "g")]
