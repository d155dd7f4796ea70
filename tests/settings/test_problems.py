"""What is said of values of a wrong type, out of range or not among the choices: plain sentences, what is allowed."""

from pathlib import Path

import pytest

from vqmon.errors import SettingsError
from vqmon.settings.load import load_settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[decode]\nfps = 0", "decode.fps: must be above 0 and at most 240, got 0"),
        ('[decode]\nfps = "fast"', "decode.fps: must be a number, above 0 and at most 240, got 'fast'"),
        ("[decode]\nworkers = 1.5", "decode.workers: must be a whole number, from 0 to 256, got 1.5"),
        ("[decode]\nworkers = 999", "decode.workers: must be from 0 to 256, got 999"),
        ('[decode]\nheat_maps = "maybe"', "decode.heat_maps: must be true or false, got 'maybe'"),
        (
            '[decode]\nsampling = "exactly"',
            "decode.sampling: must be 'exact' or 'keyframes', got 'exactly'; did you mean 'exact'?",
        ),
        ('[decode]\ncontainers = "mp4"', "decode.containers: must be a list, in brackets, got 'mp4'"),
        ("[decode]\ncontainers = []", "decode.containers: must not be empty"),
        ("[kafka]\nbootstrap = []", "kafka.bootstrap: must not be empty"),
        ("[fetch]\nallowed_hosts = [3]", "fetch.allowed_hosts.0: must be a text, in quotes, got 3"),
        ("[history]\npath = 3", "history.path: must be a path, in quotes, got 3"),
        ('[kafka]\ngroup = "a b"', "kafka.group: must be 1 to 100 letters, digits, dots, underscores or hyphens, got"),
        ('[notify]\nalertmanagers = ["x"]', "notify.alertmanagers.0: must be an address that begins with https:// or"),
        ('[notify.windows.a]\ndaily_from = "x"', "daily_from: must be a time of day (UTC), like \"02:30\", got 'x'"),
        (
            "[notify.windows.a]\nfrom = 2026-12-01T02:00:00",
            "from: must be a moment with its zone, like 2026-11-20T20:00:00Z, got 2026-12-01T02:00:00",
        ),
        ('[[source.streams]]\nid = "a"', "source.streams.0.url: is missing"),
        ('[fetch]\nallowed_networks = ["10.0.0.300/8"]', "fetch.allowed_networks.0: '10.0.0.300/8' is no network"),
        ('[notify]\nallowed_networks = ["x"]', "notify.allowed_networks.0: 'x' is no network of IP addresses"),
        # what checks of a whole section blame
        ("[alerts]\nkeep_ended_hours = 500", "toml: alerts.keep_ended_hours: must not be above keep_silent_hours"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_explained_in_plain_words(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "vqmon.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    for word in ("Input", "String", "valid integer", "pydantic"):
        assert word not in str(caught.value)


def test_an_address_is_not_repeated(tmp_path: Path) -> None:
    """It may hold a token, or a password."""
    file = tmp_path / "vqmon.toml"
    file.write_text(
        '[[source.streams]]\nid = "a"\nurl = "https://me:secret@cdn.example/?token=hush"\n', encoding="utf-8"
    )
    with pytest.raises(SettingsError, match="user names and passwords in addresses are not allowed") as caught:
        load_settings(file)
    assert "secret" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VQMON_DECODE__FPS", "fast", "environment: VQMON_DECODE__FPS: must be a number, above 0 and at most 240"),
        ("VQMON_FETCH__ALLOWED_HOSTS", "foo", "environment: VQMON_FETCH__ALLOWED_HOSTS='foo': lists are JSON, e.g."),
        ("VQMON_FETCH", "foo", "environment: VQMON_FETCH='foo': lists are JSON"),
    ],
)
def test_a_wrong_variable_is_named_instead_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    """Although the file sets the same key, rightly."""
    file = tmp_path / "vqmon.toml"
    file.write_text("[decode]\nfps = 2\n", encoding="utf-8")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert message in str(caught.value)
    assert str(file) not in str(caught.value)
