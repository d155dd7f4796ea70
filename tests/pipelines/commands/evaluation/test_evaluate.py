"""`vqmon evaluate` on clips of known brightness, whose mean is what the tiny scorer measures."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.media.clips import clip, x264
from tests.media.stills import colour_picture, png
from tests.scoring.tiny_onnx import write_bundle
from vqmon.cli.main import main
from vqmon.core.calibration import Calibration
from vqmon.media.measures.measure import Picture
from vqmon.media.measures.registry import MEASURES

LEVELS = tuple(range(30, 250, 18))


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VQMON_SCORING__FOLDERS", json.dumps([str(tmp_path / "bundles")]))
    yield
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Grey clips whose human score is their brightness, except for one that people like and one that is damaged."""
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles")
    lines = ["path,score,group"]
    for level in LEVELS:
        grey = f"color=c=0x{level:02x}{level:02x}{level:02x}:size={{size}}:rate={{rate}}:duration={{seconds}}"
        (tmp_path / f"{level}.ts").write_bytes(clip(*x264(), size="64x48", rate="5", seconds=1, source=grey))
        lines.append(
            f"{level}.ts,{level / 2.55 if level != LEVELS[2] else 95:.3f},{'dark' if level < 128 else 'light'}"
        )
    (tmp_path / "broken.ts").write_bytes(b"no media")
    (tmp_path / "scores.csv").write_text("\n".join([*lines, "broken.ts,50,dark"]) + "\n")
    return tmp_path / "scores.csv"


def _evaluate(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["evaluate", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_scorers_and_signals_are_evaluated_from_media_to_report(data: Path, tmp_path: Path) -> None:
    """JSON with every item, an HTML file with pictures, and a table."""
    report = tmp_path / "report.html"
    arguments = ("tiny", "signal:black", "--data", str(data), "--draws", "100")
    document = json.loads(_evaluate(*arguments, "--json", "--html", str(report)).stdout)
    assert [scorer["scorer"] for scorer in document["evaluation"]["scorers"]] == ["tiny@1", "signal:black"]
    assert len(document["items"]) == len(LEVELS)
    for item, level in zip(document["items"], LEVELS, strict=True):
        assert item["predictions"]["tiny@1"] == pytest.approx(level / 2.55, abs=2)
    tiny = document["evaluation"]["scorers"][0]
    assert tiny["outliers"][0]["item"] == f"{LEVELS[2]}.ts"
    assert [group["group"] for group in tiny["by_group"]] == ["dark", "light"]
    assert tiny["by_group"][1]["statistics"]["srcc"]["value"] == pytest.approx(1.0)
    (unscored,) = document["unscored"]
    assert unscored["path"].endswith("broken.ts")
    assert unscored["reason"].startswith("not_media")
    text = report.read_text()
    assert "1 file could not be scored (not_media)" in text
    assert text.count("data:image/jpeg;base64,") >= 12
    table = _evaluate(*arguments).stdout
    assert "tiny@1 by group" in table
    assert f"{LEVELS[2]}.ts" in table


def test_scores_are_kept_between_runs_until_a_file_changes(data: Path, tmp_path: Path) -> None:
    """A second run decodes nothing that is in the cache; a line that was cut off is ignored."""
    cache = tmp_path / "kept" / "scores.jsonl"
    arguments = ("tiny", "--data", str(data), "--draws", "100", "--cache", str(cache), "--json")
    first = json.loads(_evaluate(*arguments).stdout)["items"]
    lines = cache.read_text().splitlines()
    assert len(lines) == len(LEVELS)
    changed = json.loads(lines[0])
    changed["scores"]["tiny@1"]["value"] = 77.0
    cache.write_text("\n".join([json.dumps(changed), *lines[1:], lines[1][:40]]) + "\n")
    second = json.loads(_evaluate(*arguments).stdout)["items"]
    assert second[0]["predictions"]["tiny@1"] == 77.0
    assert second[1:] == first[1:]
    (tmp_path / f"{LEVELS[0]}.ts").touch()
    assert json.loads(_evaluate(*arguments).stdout)["items"] == first


def test_reference_measures_are_evaluated_like_scorers(tmp_path: Path) -> None:
    """The value is that of the pixels, negated where lower is better; a file without a number is listed with why."""
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles")
    source, rng = colour_picture(), np.random.default_rng(1)
    (tmp_path / "source.png").write_bytes(png(source))
    lines, expected = ["path,score,reference"], []
    for level in range(2, 14):
        noisy = np.clip(source + rng.normal(0, level, source.shape), 0, 255).astype(np.uint8)
        (tmp_path / f"{level}.png").write_bytes(png(noisy))
        lines.append(f"{level}.png,{100 - level},source.png")
        expected.append(-MEASURES["gmsd"].compute(Picture(source), Picture(noisy)))
    (tmp_path / "mirror.png").write_bytes(png(source[:, ::-1]))
    (tmp_path / "scores.csv").write_text("\n".join([*lines, "mirror.png,99,source.png", "2.png,98,"]) + "\n")

    arguments = ("tiny", "gmsd", "reference:ssim", "--data", "scores.csv", "--draws", "100", "--json")
    document = json.loads(_evaluate(*arguments).stdout)
    assert [each["scorer"] for each in document["evaluation"]["scorers"]] == ["tiny@1", "gmsd", "ssim"]
    assert [item["predictions"]["gmsd"] for item in document["items"]] == pytest.approx(expected, abs=1e-5)
    assert document["evaluation"]["scorers"][2]["statistics"]["srcc"]["value"] == pytest.approx(1.0)
    reasons = {Path(each["path"]).name: each["reason"].split(":")[0] for each in document["unscored"]}
    assert reasons == {"mirror.png": "misaligned", "2.png": "no reference"}

    (tmp_path / "5.png").write_bytes((tmp_path / "source.png").read_bytes())
    again = json.loads(_evaluate("gmsd", *arguments[3:]).stdout)["items"]
    assert [item["predictions"]["gmsd"] for item in again] == pytest.approx(
        [*expected[:3], 0.0, *expected[4:]], abs=1e-5
    )
    assert set(again[0]["predictions"]) == {"gmsd"}


def test_measures_without_a_reference_need_none_in_the_data(tmp_path: Path) -> None:
    """Banding of flat slopes by their number of levels, beside a measure of detail; a small picture has no value."""
    (tmp_path / "bundles").mkdir()
    lines, expected = ["path,score"], []
    for level in range(2, 14):
        slope = np.tile(np.arange(240) // 8 * level // 4 + 90, (216, 1)).astype(np.uint8)
        picture = slope[..., None].repeat(3, axis=2)
        (tmp_path / f"{level}.png").write_bytes(png(picture))
        lines.append(f"{level}.png,{100 - level}")
        expected.append(-MEASURES["cambi"].compute(None, Picture(picture)))
    (tmp_path / "small.png").write_bytes(png(colour_picture()))
    (tmp_path / "scores.csv").write_text("\n".join([*lines, "small.png,50"]) + "\n")

    document = json.loads(_evaluate("cambi", "reference:si", "--data", "scores.csv", "--draws", "100", "--json").stdout)
    assert [each["scorer"] for each in document["evaluation"]["scorers"]] == ["cambi", "si"]
    assert [item["predictions"]["cambi"] for item in document["items"]] == pytest.approx(expected, abs=0.05)
    (small,) = document["unscored"]
    assert (Path(small["path"]).name, small["reason"].split(":")[0]) == ("small.png", "no cambi")


def test_a_scorer_that_loses_correlation_fails_the_gate(data: Path) -> None:
    """Against the first scorer named, by more than is allowed; a scorer never fails against a worse one."""
    write_bundle(
        data.parent / "bundles", name="opposite", higher_is_better=False,
        calibration=Calibration(version=1, points=((1, 100), (101, 0))),
    )  # fmt: skip
    run = ("evaluate", "--data", str(data), "--draws", "100", "--max-loss", "0.005")
    worse = CliRunner().invoke(main, [*run, "tiny", "opposite"])
    assert (worse.exit_code, "opposite@1: SRCC lost to tiny@1 +" in worse.stderr) == (1, True)
    better = CliRunner().invoke(main, [*run, "opposite", "tiny", "--json"])
    assert (better.exit_code, "tiny@1: SRCC lost to opposite@1 -" in better.stderr) == (0, True)
    assert json.loads(better.stdout)["evaluation"]["scorers"]
    constant = CliRunner().invoke(main, [*run, "tiny", "signal:black"])
    assert (constant.exit_code, "not determined" in constant.stderr) == (1, True)
    alone = CliRunner().invoke(main, [*run, "tiny"])
    assert (alone.exit_code, "name two or more" in alone.output) == (2, True)


def test_what_cannot_be_evaluated_is_said_in_one_line(data: Path) -> None:
    """Unknown signals, measures without references, too few items."""
    without = CliRunner().invoke(main, ["evaluate", "ssim", "--data", str(data)])
    assert (without.exit_code, "the data name none; add a column `reference`" in without.output) == (2, True)
    wrong = CliRunner().invoke(main, ["evaluate", "signal:sharpness", "--data", str(data)])
    assert (wrong.exit_code, "unknown signal 'signal:sharpness'; known: signal:black" in wrong.output) == (2, True)
    data.write_text("\n".join(data.read_text().splitlines()[:6]) + "\n")
    few = CliRunner().invoke(main, ["evaluate", "tiny", "--data", str(data)])
    assert (few.exit_code, "5 items; an evaluation needs at least 10" in few.output) == (2, True)
