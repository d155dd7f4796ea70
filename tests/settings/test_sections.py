"""The settings file that comes with vqmon shows every setting with its true default."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from vqmon.errors import SettingsError
from vqmon.settings.load import Settings, load_settings, setting_keys
from vqmon.settings.scoring import ScoringSettings

CONFIG = Path(__file__).parents[2] / "config" / "vqmon.toml"


def shown_keys() -> set[str]:
    """Dotted keys in the file, those that are commented out included."""
    section, keys = "", set()
    for line in CONFIG.read_text(encoding="utf-8").splitlines():
        if header := re.match(r"\[([\w.]+)\]", line):
            section = header[1]
        elif pair := re.match(r"#? ?(\w+) = ", line):
            keys.add(f"{section}.{pair[1]}")
    return keys


def test_every_setting_stands_in_the_file_and_the_other_way_round() -> None:
    """No setting is undocumented and none is invented."""
    assert shown_keys() == set(setting_keys())


def test_the_file_holds_the_defaults() -> None:
    """Loading the file changes nothing, but for paths, which become relative to it."""
    default, loaded = Settings().model_dump(), load_settings(CONFIG).model_dump()
    default["history"]["path"] = loaded["history"]["path"]
    default["notify"]["path"] = loaded["notify"]["path"]

    assert loaded == default
    assert tomllib.loads(CONFIG.read_text(encoding="utf-8"))["history"]["path"] == "vqmon.db"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[decode]\nworkrs = 3\n", "unknown setting 'decode.workrs'; did you mean 'decode.workers'"),
        ("[decod]\nworkers = 3\n", "unknown setting 'decod'; did you mean 'decode'"),
        ("[decode]\nfps = 0\n", "decode.fps: must be above 0 and at most 240, got 0"),
        ("[decode]\nsampling = 'all'\n", "decode.sampling: must be 'exact' or 'keyframes', got 'all'"),
        ('[[source.streams]]\nid = "a"\nurk = "x"\n', "unknown setting 'source.streams.0.urk'; did you mean 'url'"),
        ('source.streams = [{id = "a", url = "htp://x/a.m3u8"}]', "the scheme 'htp' is misspelt: write http://"),
        ('source.streams = [{id = "a", url = "x"}, {id = "a", url = "y"}]', "source.streams: two share the id 'a'"),
        (
            '[scoring]\nreferences = ["psnr", "vmaf", "cambi"]\n',
            "toml: scoring.references: for vmaf, cambi set scoring.ffmpeg, the path",
        ),
        (
            '[scoring]\nmeasures = ["psnr"]\n',
            "toml: scoring.measures: psnr: not among those without a reference, niqe, ",
        ),
        ('[scoring]\nmeasures = ["psnr"]\n', "; references are named in scoring.references"),
        ('[scoring]\nmeasures = ["brisque"]\n', "; scorers are named in scoring.scorers"),
        (
            '[scoring]\nmeasures = ["niqe"]\nreferences = ["psnr", "niqe"]\n',
            "references: niqe is in scoring.measures too: name it in one of them",
        ),
        ("[web.auth]\nuser_header = 'X-User'\n", "web.trusted_proxies: name the address of the proxy"),
        ("[web.auth]\nvoters = ['*']\n", "user_header: set it too"),
        (
            "[web.auth]\nuser_header = 'X-User'\nvoters = ['qa']\n",
            "groups_header: set it too, as 'qa' is a group",
        ),
        ("[web]\ntrusted_proxies = ['10.0.0.1/8']\n", "web.trusted_proxies: 10.0.0.1/8 has host bits set"),
        ("[decode\n", "Expected ']'"),
    ],
)
def test_a_wrong_setting_is_named_with_file_key_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    """The error starts with the file and names the key and the nearest valid one."""
    file = tmp_path / "vqmon.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(SettingsError) as caught:
        load_settings(file)

    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)


def test_the_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VQMON_SECTION__KEY wins over the file and leaves its neighbours alone; a misspelt one is refused."""
    file = tmp_path / "vqmon.toml"
    file.write_text("[decode]\nfps = 3\nworkers = 1\n", encoding="utf-8")
    monkeypatch.setenv("VQMON_DECODE__FPS", "2")

    assert (load_settings(file).decode.fps, load_settings(file).decode.workers) == (2.0, 1)

    monkeypatch.setenv("VQMON_DECODE__FSP", "2")
    with pytest.raises(SettingsError, match="did you mean 'VQMON_DECODE__FPS'"):
        load_settings(file)


def test_a_missing_file_is_an_error_and_none_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named file must exist; without one the defaults hold."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VQMON_CONFIG", raising=False)

    with pytest.raises(SettingsError, match="no such settings file"):
        load_settings(tmp_path / "none.toml")
    assert load_settings() == Settings()


@pytest.mark.parametrize(("stated", "lines"), [(1080, 1080), ("720", 720), ("native", 0), (4320, 4320)])
def test_a_display_has_lines_or_is_native(stated: object, lines: int) -> None:
    assert ScoringSettings.model_validate({"display_lines": stated}).display_lines == lines


@pytest.mark.parametrize("stated", [-1, 143, 4321, "big", 720.5, True, False])
def test_a_display_that_cannot_be_is_refused_in_one_line(stated: object) -> None:
    with pytest.raises(ValidationError) as refused:
        ScoringSettings.model_validate({"display_lines": stated})
    (problem,) = refused.value.errors()
    assert problem["loc"] == ("display_lines",)
    assert 'from 144 to 4320, or "native"' in problem["msg"]
