"""`vqmon compare a/ b/`: pairs by name, and the verdict of an experiment."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.commands.compare_folders import pair_folders
from tests.media.clips import clip, x264
from tests.scoring.tiny_onnx import write_bundle
from vqmon.cli.main import main
from vqmon.errors import SettingsError


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")
    monkeypatch.setenv("VQMON_SCORING__FOLDERS", json.dumps([str(tmp_path / "bundles")]))
    yield
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


def _touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"media")
    return folder


def test_files_are_paired_by_name_whatever_their_suffix(tmp_path: Path) -> None:
    """Whole names first; ambiguous stems, hidden files and folders are left out."""
    a = _touch(tmp_path / "a", "film.mp4", "news.mp4", "tv.mp4", "tv.ts", "only.mp4", ".hidden.mp4")
    b = _touch(tmp_path / "b", "film.mp4", "news.mkv", "tv.webm")
    (a / "folder").mkdir()
    folders = pair_folders(a, b)
    assert list(folders.pairs) == [
        ("film.mp4", a / "film.mp4", b / "film.mp4"),
        ("news", a / "news.mp4", b / "news.mkv"),
    ]
    assert [path.name for path in folders.unpaired] == ["only.mp4", "tv.mp4", "tv.ts", "tv.webm"]
    assert folders.remark().startswith("without a partner of the same name, left out: ")


def test_folders_without_pairs_are_refused_with_a_remedy(tmp_path: Path) -> None:
    """One pair is too few; a folder that does not exist is named."""
    a, b = _touch(tmp_path / "a", "x.mp4", "y.mp4"), _touch(tmp_path / "b", "x.mp4", "z.mp4")
    with pytest.raises(
        SettingsError, match=r"1 pair of files .*needs at least 2, a verdict 6: .*a/film\.mp4 and b/film\.mkv"
    ):
        pair_folders(a, b)
    with pytest.raises(SettingsError, match="missing: cannot be read as a folder"):
        pair_folders(a, tmp_path / "missing")


def test_one_folder_is_not_compared_with_itself(tmp_path: Path) -> None:
    """Whatever it is called."""
    a = _touch(tmp_path / "a", "x.mp4", "y.mp4")
    (tmp_path / "link").symlink_to(a)
    for other in (a, tmp_path / "link"):
        with pytest.raises(SettingsError, match="are one folder"):
            pair_folders(a, other)


def test_one_folder_or_a_file_alone_asks_for_the_second_folder(tmp_path: Path) -> None:
    """With and without the slash; before any settings or history are read."""
    _touch(tmp_path / "a", "film.mp4")
    for name in ("a", "a/"):
        run = CliRunner().invoke(main, ["compare", name])
        assert run.exit_code == 2
        assert "a/ is one folder; name a second one to compare it with: a/ OTHER/" in run.stderr
    run = CliRunner().invoke(main, ["compare", "a/film.mp4"])
    assert "a/film.mp4 is a file; name two folders of encodes, or an experiment" in run.stderr


def test_the_brighter_folder_wins_with_the_verdict_of_an_experiment(tmp_path: Path) -> None:
    """Eight sources, each 10 points brighter in b: by JSON, HTML and terminal; without a settings file."""
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles")
    for arm, offset in (("a", 0), ("b", 26)):
        (tmp_path / arm).mkdir()
        for number in range(8):
            level = 40 + 20 * number + offset + (number % 3)
            grey = f"color=c=0x{level:02x}{level:02x}{level:02x}:size={{size}}:rate={{rate}}:duration={{seconds}}"
            media = clip(*x264(), size="64x48", rate="5", seconds=1, source=grey)
            (tmp_path / arm / f"source-{number}.ts").write_bytes(media)
    command = ["compare", "a", "b", "--scorer", "tiny", "--json", "--html", "report.html"]
    run = CliRunner().invoke(main, command)
    assert run.exit_code == 0, run.output
    comparison = json.loads(run.stdout)
    (answer,) = comparison["answers"]
    assert (answer["arm"], answer["control"], answer["verdict"]["kind"]) == ("b", "a", "better")
    # more light costs nothing: files of the same bitrate, from their sizes and durations
    sizes = {arm: sum(file.stat().st_size for file in (tmp_path / arm).iterdir()) for arm in "ab"}
    rates = {arm["arm"]: arm["bitrate_kbps"] for arm in comparison["arms"]}
    assert rates == pytest.approx({arm: size * 8e-3 / 8 for arm, size in sizes.items()}, rel=0.01)
    (effect,) = answer["effects"]
    assert effect["clusters"] == 8
    assert effect["final"]["mean"] == pytest.approx(10.2, abs=1.0)
    report = Path("report.html").read_text()
    assert "b is better than a" in report
    assert "media timeline" not in report
    # the worst moment of all eight pairs
    assert report.count("data:image/jpeg;base64,") == 16
    assert ">Begins<" not in report


def test_a_measure_without_a_reference_decides_with_its_own_margin(tmp_path: Path) -> None:
    """Six noisy sources, smoothed in b: less detail by SI, and that is worse."""
    (tmp_path / "bundles").mkdir()
    for arm, filters in (("a", "null"), ("b", "gblur=sigma=2")):
        (tmp_path / arm).mkdir()
        for number in range(6):
            source = f"mandelbrot=size=128x96:rate=5:start_scale={2 + number / 4},trim=duration=0.4,{filters}"
            (tmp_path / arm / f"source-{number}.ts").write_bytes(clip(*x264(), source=source))
    run = CliRunner().invoke(main, ["compare", "a", "b", "--measure", "si", "--margin", "1", "--json"])
    assert run.exit_code == 0, run.output
    (answer,) = json.loads(run.stdout)["answers"]
    assert (answer["arm"], answer["verdict"]["kind"]) == ("b", "worse")
    (effect,) = answer["effects"]
    assert (effect["scorer"], effect["clusters"], effect["final"]["mean"] < -1) == ("reference:si", 6, True)
    for options, message in (
        (["--measure", "si"], "--measure and --margin go together"),
        (["--measure", "si", "--margin", "1", "--scorer", "lite"], "exclude each other"),
        (["--measure", "psnr", "--margin", "1"], "psnr: not among those without a reference"),
    ):
        wrong = CliRunner().invoke(main, ["compare", "a", "b", *options])
        assert (wrong.exit_code, message in wrong.stderr) == (2, True)


def test_an_undecided_verdict_on_few_sources_says_that_they_are_too_few(tmp_path: Path) -> None:
    """Three sources that become brighter, darker, and neither."""
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles")
    for arm, levels in (("a", (60, 90, 120)), ("b", (80, 70, 120))):
        (tmp_path / arm).mkdir()
        for number, level in enumerate(levels):
            grey = f"color=c=0x{level:02x}{level:02x}{level:02x}:size={{size}}:rate={{rate}}:duration={{seconds}}"
            media = clip(*x264(), size="64x48", rate="5", seconds=1, source=grey)
            (tmp_path / arm / f"source-{number}.ts").write_bytes(media)
    run = CliRunner().invoke(main, ["compare", "a", "b", "--scorer", "tiny"])

    assert run.exit_code == 0, run.output
    text = " ".join(run.stdout.split())
    assert (
        "3 contents of the at least 6 that a verdict needs: by chance alone, all 3 differ in one direction in 25%"
        in text
    )
    assert "Add encodes of 3 other sources or more to both folders." in text
    assert text.count("← read") <= 1
