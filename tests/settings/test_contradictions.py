"""Settings that are valid by themselves and cannot be right together."""

from pathlib import Path

import pytest

from tests.settings.refused import refused_keys
from vqmon.errors import SettingsError
from vqmon.settings.load import load_settings

_HOOK = 'url = "https://h/"\ndry_run = true\n'
_SWITCHING_HOOK = 'url = "https://h/"\nsecret_variables = ["KEY"]\n'
_STREAM = '[[source.streams]]\nid = "{}"\nurl = "https://h/{}.m3u8"\n'


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('[scoring]\nscorers = ["lite", "brisque", "lite"]', ["scoring.scorers"]),
        ('[scoring]\nshadows = ["lite"]\nheavy = ["lite"]', ["scoring.shadows", "scoring.heavy"]),
        ('[scoring]\ndevice = "cpu"\ndevices = ["0"]\ncuda_graphs = true', ["scoring.devices", "scoring.cuda_graphs"]),
        ("[scoring]\nheavy_below = 40", ["scoring.heavy_below"]),
        ('[history]\npath = "vqmon.db"\nurl = "postgresql://h/d"', ["history.path"]),
        ('[history]\npassword_file = "/p"', ["history.password_file"]),
        (
            '[history]\npath = "vqmon.db"\n[notify]\npath = "vqmon.db"\n[web]\nreviews = "./x/../vqmon.db"',
            ["notify.path", "web.reviews"],
        ),
        ('[source]\nfolder = "incoming"', ["source.folder"]),
        ('[kafka]\nca_file = "ca.pem"', ["kafka.ca_file"]),
        ('[kafka]\nencrypted = true\nkey_file = "k.pem"', ["kafka.key_file"]),
        ('[kafka]\nusername = "vqmon"\npassword_file = "/p"', ["kafka.username", "kafka.password_file"]),
        ('[notify]\nalertmanagers = ["http://a", "http://b", "http://a"]', ["notify.alertmanagers"]),
        ('[notify.webhooks]\na.url = "https://h"\nb.url = "https://h"', ["notify.webhooks.b.url"]),
        (f"[inputs.hooks.a]\n{_SWITCHING_HOOK}[inputs.hooks.b]\n{_SWITCHING_HOOK}", ["inputs.hooks.b"]),
        (f'[inputs.hooks.a]\n{_HOOK}streams = ["news"]\nbackup = "news"', ["inputs.hooks.a.streams"]),
        (f'[inputs.hooks.a]\n{_HOOK}streams = ["news-b"]\nbackup = "{{stream}}-b"', ["inputs.hooks.a.streams"]),
        ("[daemon]\nslo_floor = 60\nslo_drop = 5", ["daemon.slo_drop"]),
        (
            '[web]\ntrusted_proxies = ["::1"]\n[web.auth]\nuser_header = "X-User"\ngroups_header = "x-user"',
            ["web.auth.groups_header"],
        ),
        # not a contradiction as well, which the default would be in
        ('[source]\nkind = "foldr"\nfolder = "incoming"', ["source.kind"]),
        # all at once, and with what is wrong by itself
        (
            f'[inputs.hooks.a]\n{_HOOK}streams = ["a"]\nbackup = "a"\n[daemon]\nslo_floor = 6\nslo_drop = 5',
            ["inputs.hooks.a.streams", "daemon.slo_drop"],
        ),
        (
            "[alerts]\nkeep_ended_hours = 200\n[decode]\nfps = -1\n[scoring]\nheavy_below = 40",
            ["decode.fps", "alerts.keep_ended_hours", "scoring.heavy_below"],
        ),
        # what stands in for a section that is wrong contradicts nothing
        (
            '[web]\nreviews = "r.db"\nauth.voters = ["a"]\n[notify]\npath = "r.db"',
            ["web.auth.user_header", "web.reviews"],
        ),
        ('[web]\nreviews = "r.db"\nauth.user_header = "X"\n[notify]\npath = "r.db"', ["web.trusted_proxies"]),
        (
            '[decode]\nfps = -1\n[scoring]\nscorers = ["lite", "lite"]\nheavy_below = 4\n[daemon]\nslo_flor = 3',
            ["daemon.slo_flor", "decode.fps", "scoring.scorers", "scoring.heavy_below"],
        ),
        # an entry of a list that is wrong hides nothing
        (
            '[[source.streams]]\nid = "a"\nurl = "x"\nlabels = 3\n[scoring]\nheavy_below = 4',
            ["source.streams.0.labels", "scoring.heavy_below"],
        ),
    ],
)
def test_a_contradiction_is_one_line(tmp_path: Path, text: str, keys: list[str]) -> None:
    """It names the file and the setting."""
    assert refused_keys(tmp_path, text) == keys


@pytest.mark.parametrize(
    "text",
    [
        # the pages and the daemon may run in containers of their own
        '[daemon]\nhealth_port = 8080\nhealth_host = "0.0.0.0"',
        # a certificate and its key in one file
        '[kafka]\nencrypted = true\ncert_file = "c.pem"',
        # arms of an experiment without a difference, and one playlist with other references
        _STREAM.format("a", "x") + 'labels = { arm = "1" }\n' + _STREAM.format("a", "x") + 'labels = { arm = "2" }',
        _STREAM.format("a", "x") + _STREAM.format("b", "x"),
        # one backup for many inputs, whose name the pattern matches too
        f'[inputs.hooks.a]\n{_HOOK}streams = ["news-*"]\nbackup = "news-backup"',
        f'[inputs.hooks.a]\n{_HOOK}streams = ["a"]\n[inputs.hooks.b]\n{_HOOK}streams = ["b"]',
        # another threshold on trial beside the one that switches
        f"[inputs.hooks.a]\n{_SWITCHING_HOOK}[inputs.hooks.b]\n{_HOOK}",
        '[scoring]\nscorers = ["lite@1", "lite@2"]',
        '[history]\nurl = "postgresql://h/d"\npassword_file = "/p"',
        "[daemon]\nslo_floor = 60",
    ],
)
def test_what_may_be_meant_is_accepted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "vqmon.toml"
    file.write_text(text, encoding="utf-8")
    load_settings(file)


def test_a_variable_that_contradicts_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vqmon.toml"
    file.write_text('[history]\npath = "vqmon.db"', encoding="utf-8")
    monkeypatch.setenv("VQMON_HISTORY__URL", "postgresql://h/d")
    with pytest.raises(SettingsError, match=r"^environment: VQMON_HISTORY__URL: history\.path: holds no history"):
        load_settings(file)
