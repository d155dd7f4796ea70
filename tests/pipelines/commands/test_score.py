"""`vqmon score`: file names, folders, addresses and prompts."""

import csv
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.media import stills
from tests.media.clips import clip, x264
from tests.scoring.scorers.test_composites import write_composite
from vqmon.cli.main import main
from vqmon.core.types import Alert, AlertEvidence
from vqmon.errors import FetchError
from vqmon.media.fetch.fetcher import Fetcher, FetchPolicy
from vqmon.transport.history.history import open_history

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")
    yield
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


def vqmon(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def an_alert() -> Alert:
    return Alert(
        id="a",
        rule="too-dark",
        series="tv/1080p/black",
        stream_id="tv",
        rendition="1080p",
        severity="ticket",
        state="open",
        began_at=NOW,
        opened_at=NOW,
        resolved_at=None,
        summary="black 1.00",
        evidence=AlertEvidence(event_id="e", reading="black 1.00", value=1.0, threshold=0.95),
    )


def test_a_file_name_that_is_not_utf8_is_scored(tmp_path: Path) -> None:
    """It is shown with escapes, and the other files of the folder are scored too."""
    small = clip(*x264(), size="192x108", seconds=1)
    (tmp_path / "plain.ts").write_bytes(small)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.ts")).write_bytes(small)
    result = vqmon("score", "--json", str(tmp_path))

    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    names = [event["data"]["segment"]["rendition"]["stream_id"] for event in events]
    assert sorted(names) == ["caf\\xe9.ts", "plain.ts"]


def test_addresses_that_differ_in_their_query_alone_are_segments_of_their_own(tmp_path: Path) -> None:
    """Their keys hold no query; the same address twice is the same segment."""
    (tmp_path / "a.ts").write_bytes(clip(*x264(), size="192x108", seconds=1))
    url = (tmp_path / "a.ts").as_uri()
    result = vqmon("score", "--json", f"{url}?id=1", f"{url}?id=2", f"{url}?id=1", "--history", "h.db")
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    first, second, third = (event["id"] for event in events)
    assert first == third != second
    assert "id=" not in result.stdout
    gone = (tmp_path / "gone.m3u8").as_uri()
    failures = vqmon("score", "--json", f"{gone}?id=1", f"{gone}?id=2").stdout.splitlines()
    assert len({json.loads(line)["id"] for line in failures if line.startswith("{")}) == 2
    with open_history(tmp_path / "h.db", mode="read") as history:
        assert {outcome.id for outcome in history.documents.outcomes_in_write_order()} == {first, second}


def test_a_folder_without_files_is_unscored(tmp_path: Path) -> None:
    """The exit code says so, and the message says that sub-folders are not searched."""
    (tmp_path / "empty" / "below").mkdir(parents=True)
    result = vqmon("score", "empty")

    assert result.exit_code == 3, result.output
    assert "unscored: file" in result.stdout
    assert "sub-folders are not" in result.stdout


def test_sub_folders_beside_files_are_named_as_left_out(tmp_path: Path) -> None:
    """With what to do; hidden folders are of no interest."""
    for folder in ("clips/below", "plain/.cache"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder).parent.joinpath("a.txt").write_text("no media")
    # the command replaces the handlers of the root logger, caplog's among them
    handler = BufferingHandler(1000)
    logging.getLogger("vqmon.score").addHandler(handler)
    try:
        vqmon("score", "clips", "plain")
    finally:
        logging.getLogger("vqmon.score").removeHandler(handler)
    warnings = [record.getMessage() for record in handler.buffer if "sub-folders" in record.getMessage()]
    assert warnings == ["clips: its sub-folders are not searched; name them too, such as clips/*/"]


@pytest.mark.parametrize("address", ["", "https://[::1/x.mp4", "https://example.com:99999/x", "file:///%00"])
def test_an_argument_that_is_not_an_address_is_wrong_usage(address: str) -> None:
    """One line and exit code 2, no traceback."""
    result = vqmon("score", address)

    assert result.exit_code == 2, result.output
    assert "is no address" in result.stderr


def test_a_malformed_address_among_others_is_unscored_and_the_others_are_scored(tmp_path: Path) -> None:
    """It is named with the remedy, without its secrets; exit code 3, as for anything that could not be scored."""
    (tmp_path / "a.ts").write_bytes(clip(*x264(), size="192x108", seconds=1))
    result = vqmon("score", "--json", "htps://user:pass@example.com/x.mp4?token=t", "a.ts", "ftp://example.com/y.mp4")
    assert result.exit_code == 3, result.output
    first, second, third = (json.loads(line)["data"] for line in result.stdout.splitlines() if line.startswith("{"))
    assert "misspelt: write https://" in first["detail"]
    assert "pass" not in result.output
    assert "token" not in result.output
    assert second["scores"]
    assert (third["reason"], third["segment"]["rendition"]["stream_id"]) == ("refused", "ftp://example.com/y.mp4")
    assert vqmon("score", "htps://example.com/x", "ftp://example.com/y").exit_code == 2


async def test_too_large_names_the_setting(tmp_path: Path) -> None:
    """The detail says what allows more, and only where the setting is the limit."""
    file = tmp_path / "a.ts"
    file.write_bytes(bytes(100))
    async with Fetcher(FetchPolicy(file_roots=(tmp_path,), max_bytes=10)) as fetcher:
        with pytest.raises(FetchError, match=r"fetch\.max_bytes \(--max-bytes\)"):
            await fetcher.get(str(file), max_bytes=50)
        with pytest.raises(FetchError) as caught:
            await fetcher.get(str(file), max_bytes=5)

    assert "fetch.max_bytes" not in caught.value.detail


def test_a_prompt_is_in_the_event(tmp_path: Path) -> None:
    """Also when no scorer takes a prompt."""
    (tmp_path / "small.ts").write_bytes(clip(*x264(), size="192x108", seconds=1))
    run = vqmon("score", "--json", "--prompt", "A fox in the snow", "small.ts")
    assert (run.exit_code, json.loads(run.stdout)["data"]["segment"]["prompt"]) == (0, "A fox in the snow")


def test_a_folder_may_mix_pictures_and_videos(tmp_path: Path) -> None:
    """Each file has its own outcome by its content; what is no picture says why."""
    contents = {
        "a.jpg": stills.with_jpeg_exif(stills.jpeg("yuvj420p"), stills.exif(6)),
        "b.png": stills.png(),
        "c.webp": stills.webp(is_lossless=False),
        "d.avif": stills.avif(),
        "e.ts": clip(*x264(), size="192x108", seconds=1),
        "f.jpg": b"<html>404</html>",
        "g.png": stills.png()[:-30],
        "h.png": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    result = vqmon("score", "--json", str(tmp_path))

    assert result.exit_code == 3, result.output
    events = [json.loads(line)["data"] for line in result.stdout.splitlines() if line.startswith("{")]
    assert [event.get("reason") or event["media"]["container"] for event in events] == [
        "jpeg", "png", "webp", "avif", "mpegts", "not_media", "corrupt", "empty",
    ]  # fmt: skip
    assert all(0 <= event["scores"][0]["value"] <= 100 for event in events[:5])
    assert (events[0]["media"]["width"], events[0]["media"]["height"]) == (stills.HEIGHT, stills.WIDTH)
    assert [event["segment"]["duration_seconds"] for event in events[:4]] == [0.0] * 4


def test_pictures_of_a_playlist_are_segments_as_long_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "slide.jpg").write_bytes(stills.jpeg())
    (tmp_path / "slides.m3u8").write_text(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\nslide.jpg\n#EXT-X-ENDLIST\n"
    )
    result = vqmon("score", "--json", str(tmp_path / "slides.m3u8"))

    assert result.exit_code == 0, result.output
    (event,) = [json.loads(line)["data"] for line in result.stdout.splitlines() if line.startswith("{")]
    assert event["segment"]["duration_seconds"] == 8.0
    assert event["media"]["container"] == "jpeg"


def test_files_are_compared_with_the_file_of_their_name_in_a_folder_of_references(tmp_path: Path) -> None:
    """A file without one is reported so, and by the exit code; it is not paired with another file of the folder."""
    (tmp_path / "sources").mkdir()
    for number, name in enumerate(("first", "second")):
        pattern = f"testsrc2=size={{size}}:rate={{rate}}:duration={{seconds}},rotate={number}"
        (tmp_path / "sources" / f"{name}.ts").write_bytes(clip(*x264(), size="192x108", seconds=2, source=pattern))
    for name in ("first", "other"):
        (tmp_path / f"{name}.ts").write_bytes((tmp_path / "sources" / "first.ts").read_bytes())
    run = CliRunner().invoke(main, ["score", "--json", "first.ts", "other.ts", "--reference", "sources"])
    assert run.exit_code == 3, run.output
    first, other = (json.loads(line)["data"] for line in run.stdout.splitlines())
    assert {"psnr", "ssim"} <= {score["measure"] for score in first["references"]}
    assert other["unscored_reference"] == "missing"


def test_measures_of_the_segment_alone_are_asked_for_like_reference_measures(tmp_path: Path) -> None:
    """They are of the segment's own picture: a blurred one has other values beside the same reference."""
    (tmp_path / "vqmon.toml").write_text(
        '[scoring]\nreferences = ["il_niqe", "psnr", "niqe"]\nreference_canvas = "reference"\n'
    )
    film = "mandelbrot=size=384x216:rate=25:end_scale=0.02:end_pts=250,trim=duration=2"
    (tmp_path / "source.ts").write_bytes(clip(*x264("-crf", "10"), source=film))
    (tmp_path / "blurred.ts").write_bytes(clip(*x264("-crf", "10"), source=f"{film},gblur=sigma=3"))
    run = vqmon("--config", "vqmon.toml", "score", "--json", "source.ts", "blurred.ts", "--reference", "source.ts")
    assert run.exit_code == 0, run.output
    source, blurred = (json.loads(line)["data"]["references"] for line in run.stdout.splitlines())
    assert [score["measure"] for score in source] == ["il_niqe", "psnr", "niqe"]
    for index in (0, 2):
        assert not blurred[index]["higher_is_better"]
        assert min(blurred[index]["value"], source[index]["value"]) > 0
        assert abs(blurred[index]["value"] - source[index]["value"]) > 0.5
        assert len(blurred[index]["frame_values"]) == 2


def test_measures_without_a_reference_are_in_every_output(tmp_path: Path) -> None:
    """Also beside a reference that cannot be paired: table, JSON, CSV, report, and the views of the history."""
    (tmp_path / "film.ts").write_bytes(clip(*x264(), size="256x224", seconds=1))
    (tmp_path / "other.ts").write_bytes(clip(*x264(), size="224x256", seconds=1))
    chosen = ("--measure", "si", "--measure", "cambi", "--measure", "niqe", "--measure", "il_niqe")
    run = vqmon("score", "film.ts", *chosen, "--csv", "a.csv", "--html", "a.html", "--history", "h.db")
    assert run.exit_code == 0, run.output
    (event,) = (json.loads(line)["data"] for line in vqmon("score", "--json", "film.ts", *chosen).stdout.splitlines())
    si, cambi, niqe, il_niqe = event["references"]
    assert (si["measure"], si["higher_is_better"], si["is_compared"]) == ("si", None, False)
    assert (cambi["measure"], cambi["higher_is_better"], event["reference_pairing"]) == ("cambi", False, None)
    values = {score["measure"]: score["value"] for score in (si, cambi, niqe, il_niqe)}
    assert list(values) == ["si", "cambi", "niqe", "il_niqe"]
    table = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    assert "".join(table.split()) in "".join(run.stdout.split())
    with (tmp_path / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert json.loads(row["references"]) == values
    assert float(row["reference_cambi"]) == cambi["value"]
    assert f"si {si['value']:.4g}" in (tmp_path / "a.html").read_text()
    with sqlite3.connect(tmp_path / "h.db") as connection:
        rows = connection.execute("SELECT measure, value FROM v_references").fetchall()
    assert dict(rows) == values

    unpaired = vqmon("score", "--json", "film.ts", "--measure", "si", "--reference", "other.ts")
    assert unpaired.exit_code == 3, unpaired.output
    event = json.loads(unpaired.stdout.splitlines()[0])["data"]
    assert event["unscored_reference"] == "misaligned"
    assert [(score["measure"], score["value"]) for score in event["references"]] == [("si", si["value"])]
    wrong = vqmon("score", "film.ts", "--measure", "psnr")
    assert (wrong.exit_code, "psnr: not among those without a reference, niqe, " in wrong.stderr) == (2, True)


def test_a_scorer_that_always_fails_costs_the_other_nothing(tmp_path: Path) -> None:
    """Its graph takes only three frames, as many as its golden clip has; it is named beside the other's score."""
    write_composite(tmp_path, whole=True, rows=3)
    (tmp_path / "a.ts").write_bytes(clip(*x264(), size="192x108", seconds=2))
    (tmp_path / "vqmon.toml").write_text(f'[scoring]\nfolders = ["{tmp_path}"]\n')
    csv = tmp_path / "scores.csv"
    result = vqmon("--config", "vqmon.toml", "score", "--json", "--scorer", "lite_fast", "--scorer", "joined",
                   "--csv", str(csv), "a.ts")  # fmt: skip

    assert result.exit_code == 3, result.output
    event = json.loads(next(line for line in result.stdout.splitlines() if line.startswith("{")))["data"]
    assert [score["scorer"] for score in event["scores"]] == ["lite_fast@2"]
    (failure,) = event["scorer_failures"]
    assert (failure["scorer"], failure["tier"], failure["reason"]) == ("joined@1", "first", "scorer_failed")
    assert failure["detail"].startswith("joined@1: step head: joined@1.head.onnx on cpu: ")
    assert '{""joined@1"":""scorer_failed""}' in csv.read_text()
