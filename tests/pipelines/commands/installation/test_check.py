"""The checks before the daemon starts: what each finds, and the remedy that a failed one names."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pipelines.commands.installation import check
from pipelines.commands.installation.check import CheckResult, run_checks
from pipelines.service.wiring import open_spool
from tests import factories
from tests.core.alerts.regression.faulty_streams import DROP, noise, series
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.judge import Judge
from vqmon.errors import StoreError
from vqmon.settings.load import Settings
from vqmon.settings.rules_file import parse_rules
from vqmon.settings.sections import HistorySettings
from vqmon.transport.history.history import open_history
from vqmon.transport.recovery.spool import HistoryWrite


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")


def results(config: Path, text: str, *, up_to: str = "", offline: bool = True) -> dict[str, CheckResult]:
    """The results by subject, for a settings file with this text; of all checks, or up to one."""
    config.write_text(text, encoding="utf-8")
    by_subject = {}
    for result in run_checks(config, offline=offline):
        by_subject[result.subject] = result
        if result.subject == up_to:
            break
    return by_subject


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Make these packages the only ones that look installed; underscores stand for dashes."""
    installed = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(package: str) -> str:
        if package not in installed:
            raise PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(check, "version", version)


def test_of_wrong_settings_only_the_files_are_read_that_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is wrong is named at once; nothing is opened."""
    (tmp_path / "rules.toml").write_text('[rules.a]\nkind = "flor"\nbelow = "x"\n')
    text = (
        '[decode]\nfps = 1000\n[[source.streams]]\nid = "a"\nurl = "x"\nlabels = 3\n'
        '[alerts]\nrules = "rules.toml"\n[experiments]\npath = "none.toml"\n'
    )
    checks = results(tmp_path / "vqmon.toml", text)

    assert [(result.subject, result.passed) for result in checks.values()] == [
        ("settings", False),
        ("rules", False),
        ("experiment", False),
    ]
    assert "decode.fps" in checks["settings"].text
    assert "source.streams.0.labels" in checks["settings"].text
    assert "'x' is not a number" in checks["rules"].text

    monkeypatch.setenv("VQMON_WEB__PORT", "many")
    monkeypatch.setenv("VQMON_WEB__PRT", "1")
    checks = results(tmp_path / "vqmon.toml", text)
    assert list(checks) == ["settings", "rules", "experiment"]
    lines = checks["settings"].text.splitlines()
    for key in ("VQMON_WEB__PORT: ", "'VQMON_WEB__PRT'", "decode.fps", "source.streams.0.labels"):
        assert sum(key in line for line in lines) == 1
    assert len(lines) == 4
    monkeypatch.delenv("VQMON_WEB__PORT")
    monkeypatch.delenv("VQMON_WEB__PRT")

    (tmp_path / "rules.toml").unlink()
    # the shipped rules are right
    assert list(results(tmp_path / "vqmon.toml", "[decode]\nfps = 1000\n")) == ["settings"]


def test_hooks_and_ports_that_do_not_fit_what_runs(tmp_path: Path) -> None:
    """A hook names a scorer, with or without a version, that runs; one port for two programs may be meant."""
    hooks = {"a": "lite", "b": "lite@2", "c": "lite@1", "d": "none"}
    text = "[daemon]\nhealth_port = 8080\n" + "".join(
        f'[inputs.hooks.{name}]\nurl = "http://127.0.0.1:9/"\ndry_run = true\nscorer = "{scorer}"\n'
        for name, scorer in hooks.items()
    )
    checks = results(tmp_path / "vqmon.toml", text)

    assert checks["inputs"].text.splitlines() == [
        "inputs.hooks.c.scorer: 'lite@1' does not run; what runs: lite@2",
        "inputs.hooks.d.scorer: 'none' does not run; what runs: lite@2",
    ]
    assert (checks["inputs"].passed, checks["ports"].passed) == (False, True)
    assert checks["ports"].text.startswith("web.port and daemon.health_port are both 8080: ")


def test_a_folder_source_passes_with_the_builtin_scorer(tmp_path: Path) -> None:
    """Scorers are opened and self-tested; a history that does not exist yet is no problem."""
    (tmp_path / "media").mkdir()
    text = '[source]\nkind = "folder"\nfolder = "media"\n[web]\nhost = "0.0.0.0"\n'
    checks = results(tmp_path / "vqmon.toml", text)

    assert {subject: result.passed for subject, result in checks.items()} == dict.fromkeys(checks, True)
    assert list(checks) == ["settings", "runtime", "decoders", "scorers", "rules", "history", "source", "web"]
    assert checks["web"].text.startswith("whoever reaches 0.0.0.0:8080 may read the pages: set web.auth")
    assert checks["decoders"].text.startswith("decode.isolation best: limits, no new privileges, ")
    assert "lite@2 on cpu" in checks["scorers"].text
    assert "self-test passed" in checks["scorers"].text
    assert "; drops: regression from 1.8 points, paired-regression from 2.6 points" in checks["rules"].text
    assert "the first run creates it" in checks["history"].text


def test_an_unknown_scorer_a_missing_folder_and_a_missing_history_folder_fail_with_remedies(tmp_path: Path) -> None:
    """One failed check does not stop the others."""
    text = (
        '[scoring]\nscorers = ["light"]\n[source]\nkind = "folder"\nfolder = "none"\n[history]\npath = "no/vqmon.db"\n'
    )
    checks = results(tmp_path / "vqmon.toml", text)

    assert "did you mean 'lite'" in checks["scorers"].text
    assert "create it or set source.folder" in checks["source"].text
    assert "create the folder or set history.path" in checks["history"].text
    assert [subject for subject, result in checks.items() if not result.passed] == ["scorers", "history", "source"]


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ('folders = ["none"]', "none: no such folder; create it, or correct the setting"),
        ('shadows = ["light"]', "scoring.shadows: unknown scorer 'light'"),
        ('heavy = ["light"]', "scoring.heavy: unknown scorer 'light'"),
        ('heavy = ["lite@2"]', "scoring.heavy: lite@2 is in scoring.scorers already"),
        ('shadows = ["lite@2"]', "scoring.shadows: lite@2 is in scoring.scorers already"),
    ],
)
def test_the_one_setting_of_the_scorers_that_is_wrong_is_named(tmp_path: Path, scoring: str, message: str) -> None:
    """In the check of the scorers, and no other check fails for it."""
    checks = results(tmp_path / "vqmon.toml", f"[scoring]\n{scoring}\n", up_to="rules")

    assert [subject for subject, result in checks.items() if not result.passed] == ["scorers"]
    assert checks["scorers"].text.startswith("scoring.")
    assert message in checks["scorers"].text


def test_what_settings_name_and_nothing_opens_is_named_with_its_setting(tmp_path: Path) -> None:
    """Secrets, folders, windows of time, and a socket behind which no decoder is."""
    text = (
        '[decode]\nsocket = "/nowhere/decoder"\n[daemon]\nstate_folder = "none"\n[source]\nkind = "folder"\n'
        '[fetch.credentials."cdn.example"]\nfile = "/nowhere/token"\n[experiments]\npath = "none.toml"\n'
        "[notify.windows.night]\nfrom = 2026-12-01T02:00:00Z\nuntil = 2026-12-01T01:00:00Z\n"
    )
    failed = [result for result in results(tmp_path / "vqmon.toml", text).values() if not result.passed]
    assert [result.text.partition(": ")[0] for result in failed] == [
        "decode.socket",
        "experiments.path",
        "daemon.state_folder",
        "fetch.credentials.cdn.example.file",
        "source.folder",
        "notify.windows.night",
    ]


def test_an_installation_without_streams_passes_and_says_who_needs_them(tmp_path: Path) -> None:
    """`vqmon score` and `vqmon watch URL` work without; of stored series it says what drops they see."""
    judge = Judge(parse_rules(DROP.replace("rules.drop", "rules.regression")))
    for outcome in series(70 + noise(1, 150)):
        judge.judge(outcome)
    with open_history(tmp_path / "vqmon.db", "write") as history:
        history.publish([], states=judge.states())
    checks = results(tmp_path / "vqmon.toml", '[history]\npath = "vqmon.db"\n')

    assert checks["series"].text.startswith("regression: 1 series see drops from ")
    assert checks["source"].passed
    assert "`vqmon run` needs source.streams" in checks["source"].text


@pytest.mark.parametrize(
    ("versions", "passed", "text"),
    [
        ({"onnxruntime": "1.24"}, True, "onnxruntime 1.24"),
        ({"onnxruntime_gpu": "1.24"}, True, "onnxruntime-gpu 1.24"),
        ({}, False, "ONNX Runtime is not installed; install onnxruntime-gpu on a host with a GPU"),
        ({"onnxruntime": "1.24", "onnxruntime_gpu": "1.24"}, False, "are both installed; uninstall both, then install"),
    ],
)
def test_exactly_one_build_of_onnx_runtime_must_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], passed: bool, text: str
) -> None:
    """Both builds install into the same folder, where one overwrites the other."""
    install(monkeypatch, **versions)
    runtime = results(tmp_path / "vqmon.toml", "", up_to="runtime")["runtime"]

    assert runtime.passed == passed
    assert text in runtime.text


def test_gpus_are_described_where_they_are_asked_for(tmp_path: Path) -> None:
    """With the precision and the place of TensorRT's engines; whether the GPU is there, the scorers' check tells."""
    config = tmp_path / "vqmon.toml"
    assert "gpu" not in results(config, "", up_to="decoders")
    scoring = '[scoring]\ndevice = "tensorrt"\ndevices = ["0", "1"]\ntensorrt_precision = "float16"\n'
    gpu = results(config, scoring, up_to="gpu")["gpu"]
    assert gpu.passed
    assert gpu.text.startswith("tensorrt on 0, 1; TensorRT computes in float16, its engines are built at every")
    gpu = results(config, f'{scoring}engine_cache = "/var/cache/vqmon"\n', up_to="gpu")["gpu"]
    assert "its engines are stored in /var/cache/vqmon" in gpu.text
    gpu = results(config, '[scoring]\ndevices = ["MIG-1", "MIG-2"]\n', up_to="gpu")["gpu"]
    assert not gpu.passed
    assert "run one worker for each slice" in gpu.text


def test_a_rule_that_names_an_unknown_scorer_fails(tmp_path: Path) -> None:
    """As `run` would refuse it."""
    rule = '[rules.odd]\nkind = "floor"\nscorer = "lit"\nbelow = 40\nfor_seconds = 1\n'
    (tmp_path / "rules.toml").write_text(rule + "recover_above = 45\nrecover_seconds = 1\n", encoding="utf-8")
    rules = results(tmp_path / "vqmon.toml", '[alerts]\nrules = "rules.toml"\n')["rules"]

    assert not rules.passed
    assert "did you mean 'lite'" in rules.text


def test_an_ffmpeg_program_that_is_not_there_is_a_failed_check_of_its_own(tmp_path: Path) -> None:
    """The message names the setting, and the scorers pass without it."""
    scoring = '[scoring]\nreferences = ["psnr", "vmaf"]\nffmpeg = "/nowhere/ffmpeg"\n'
    text = f'{scoring}[source]\nkind = "folder"\nfolder = "."\n'
    checks = results(tmp_path / "vqmon.toml", text)

    assert [subject for subject, result in checks.items() if not result.passed] == ["ffmpeg"]
    assert "scoring.ffmpeg: /nowhere/ffmpeg is not there" in checks["ffmpeg"].text


def test_the_check_of_a_history_says_what_it_has_not_taken_and_that_vqmon_cannot_keep_up(tmp_path: Path) -> None:
    """And refuses a spool that is damaged."""
    settings = Settings(history=HistorySettings(path=tmp_path / "vqmon.db"))
    overloaded = replace(ALERT, rule="overloaded", stream_id="vqmon", summary="vqmon cannot keep up, decode is short")
    with open_history(tmp_path / "vqmon.db", mode="write") as history:
        history.publish([factories.event()], alerts=[overloaded])
    spool = tmp_path / "vqmon.db.spool"
    open_spool(settings).append(HistoryWrite(outcomes=[factories.event(sequence=1), factories.event(sequence=2)]))
    text = check._check_history(settings)
    assert f"; 2 outcomes in {spool} that it has not taken yet; since " in text
    assert text.endswith("UTC vqmon cannot keep up, decode is short")
    spool.write_bytes(b"something else")
    with pytest.raises(StoreError, match="is no spool of vqmon"):
        check._check_history(settings)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("clip.mp4", "\0\0\0\x18ftypisom", "a: a media file, not an HLS or DASH playlist"),
        ("live.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=64x64\nlow.m3u8\n", "low.m3u8: No such file"),
    ],
)
def test_a_stream_that_nothing_can_be_listed_of_fails(tmp_path: Path, name: str, text: str, problem: str) -> None:
    """A media file is no stream, and each rendition must have its playlist."""
    (tmp_path / name).write_text(text)
    settings = f'[[source.streams]]\nid = "a"\nurl = "{name}"\n[fetch]\nfile_roots = ["{tmp_path}"]\n'
    source = results(tmp_path / "vqmon.toml", settings, up_to="source", offline=False)["source"]
    assert not source.passed
    assert problem in source.text
