"""`vqmon ladder` on a small clip: from media to verdict, JSON, HTML and PNG; resumed; and its errors."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.media.clips import clip, x264
from tests.scoring.tiny_onnx import write_bundle
from vqmon.cli.main import main

ARGUMENTS = (
    *("--codec", "h264", "--codec", "vp9", "--rates", "2", "--sizes", "180,90"),
    "--seconds=1",
    "--scorer=tiny",
)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "2")
    monkeypatch.setenv("VQMON_SCORING__FOLDERS", json.dumps([str(tmp_path / "bundles")]))
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles")
    (tmp_path / "film.ts").write_bytes(clip(*x264(), seconds=2))
    yield
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


def run_ladder(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["ladder", *arguments])
    assert result.exit_code == code, result.output
    return result


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_ladder_from_clip_to_verdict_and_reports(tmp_path: Path) -> None:
    """The tiny scorer measures brightness: it sees no rate, and no measure agrees with it."""
    document = parsed(run_ladder("film.ts", *ARGUMENTS, "--measure", "psnr", "--measure", "gmsd", "--json"))
    assert [subject["name"] for subject in document["subjects"]] == ["tiny@1", "psnr", "gmsd"]
    assert len(document["encodes"]) == 8
    assert len(document["altered_forms"]) == 8
    by_name = {encode["name"]: encode for encode in document["encodes"]}
    best, worst = by_name["h264 180p at CRF 20"], by_name["h264 180p at CRF 41"]
    assert best["rate_kbps"] > 2 * worst["rate_kbps"]
    assert best["values"]["psnr"] > worst["values"]["psnr"] + 3
    assert best["values"]["gmsd"] < worst["values"]["gmsd"]
    (verdict,) = document["verdicts"]
    assert verdict["answer"] == "no"
    assert verdict["sentences"][0].startswith("Do not use tiny@1 to compare rates on this clip: it tells only 0 of")
    psnr = [curve for curve in document["curves"] if curve["subject"] == "psnr"]
    assert all(curve["rank_correlation"] == pytest.approx(1.0) and curve["inversion"] is None for curve in psnr)
    assert {rate["lines"] for rate in document["bd_rates"]} == {None, 180, 90}
    text = (tmp_path / "film.ladder" / "report.html").read_text()
    assert verdict["sentences"][0] in text
    assert "http" not in text.replace("http-equiv", "")
    assert (tmp_path / "film.ladder" / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = run_ladder("film.ts", *ARGUMENTS, "--measure", "psnr", "--measure", "gmsd").stdout
    assert verdict["sentences"][0] in table
    assert "vp9 90p at CRF 57" in table
    assert "BD-rate" in table


def test_a_run_continues_where_another_one_stopped(tmp_path: Path) -> None:
    """What is stored is used, what is missing is made, and nothing else is made again."""
    arguments = ("film.ts", *ARGUMENTS, "--encodes-only", "--json", "--work", "work")
    first = parsed(run_ladder(*arguments))
    folder = tmp_path / "work"
    changed = next(folder.glob("h264-180p-crf20-*.event.json"))
    event = json.loads(changed.read_text())
    psnr = next(each for each in event["data"]["references"] if each["measure"] == "psnr")
    psnr["value"] = 99.5
    changed.write_text(json.dumps(event))
    lost = next(folder.glob("h264-90p-crf41-*.mp4"))
    lost.unlink()
    times = {file: file.stat().st_mtime_ns for file in folder.glob("*.mp4")}
    second = parsed(run_ladder(*arguments))
    assert lost.exists()
    assert {file: file.stat().st_mtime_ns for file in times} == times
    changes = {
        encode["name"]: encode["values"]["psnr"]
        for encode, earlier in zip(second["encodes"], first["encodes"], strict=True)
        if encode["values"] != earlier["values"]
    }
    assert changes == {"h264 180p at CRF 20": 99.5}
    assert second["altered_forms"] == []


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no media")
    assert "text.mp4: no ladder can be made of it: not_media" in run_ladder("text.mp4", code=2).output
    assert "no reference measure is named vmaf9; psnr, " in run_ladder("film.ts", "--measure", "vmaf9", code=2).output
    assert "1080 lines cannot be made of a clip of 180" in run_ladder("film.ts", "--sizes", "1080", code=2).output
    assert "is no list of numbers" in run_ladder("film.ts", "--sizes", "720p", code=2).output
    assert "there is no codec 'xvid'" in run_ladder("film.ts", "--quality", "xvid=3", code=2).output
