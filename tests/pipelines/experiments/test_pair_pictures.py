"""Pictures of an experiment's pairs: looked at again, or copied while the history still holds small ones."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import av
import httpx
import pytest
from click.testing import CliRunner, Result

from pipelines.experiments.compare import compare_arms
from pipelines.experiments.pair_pictures import MAX_PICTURES, pair_event_ids
from pipelines.service.wiring import load_experiments
from tests.media.clips import clip, x264
from tests.web import seed
from vqmon.cli.main import main
from vqmon.core.types import QualityEvent, Rendition, Segment
from vqmon.transport.history.history import open_history
from vqmon.transport.reviews import Reviews
from vqmon.transport.segment_media import SegmentMedia
from vqmon.web.app import create_app
from vqmon.web.ports import ExperimentResult

EXPERIMENTS = """
[experiments.sr]
control = "old"
planned_clusters = 2
[experiments.sr.arms.old]
rendition = "old"
[experiments.sr.arms.new]
rendition = "new"
"""
SMALL = (0.0, b"\xff\xd8\xffsmall")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments.toml").write_text(EXPERIMENTS)
    (tmp_path / "vqmon.toml").write_text('[experiments]\npath = "experiments.toml"\n[fetch]\nfile_roots = ["media"]\n')
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")
    yield
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


def an_event(media: Path, stream_id: str, name: str, value: float) -> QualityEvent:
    segment = Segment(
        rendition=Rendition(stream_id=stream_id, name=name),
        sequence=1,
        url=media.as_uri(),
        starts_at=datetime(2026, 11, 20, tzinfo=UTC),
        duration_seconds=2.0,
    )
    return seed.quality_event(segment, value)


def filled(folder: Path) -> Path:
    """Two contents in two arms; the media of one segment are gone, but its small picture is kept."""
    media = folder / "media"
    media.mkdir()
    (media / "good.ts").write_bytes(clip(*x264(), size="192x108", seconds=2))
    events = [
        an_event(media / ("good.ts" if (stream, name) != ("b", "new") else "gone.ts"), stream, name, value)
        for stream in "ab"
        for name, value in (("old", 60.0), ("new", 70.0))
    ]
    with open_history(folder / "vqmon.db", "write") as history:
        history.publish(events, thumbnails={events[-1].id: [SMALL]})
    return folder / "vqmon.db"


def one_line(run: Result) -> str:
    return " ".join(run.output.split())


def test_pictures_of_pairs_are_kept(tmp_path: Path) -> None:
    """The command looks again where it can, copies where it cannot, and does nothing twice."""
    path = filled(tmp_path)
    first = CliRunner().invoke(main, ["pictures", "sr"], env={"VQMON_EXPERIMENTS__CLIP_BYTES": "100"})
    assert first.exit_code == 0, first.output
    assert "3 decoded, 1 copied from the history, 0 already stored, 0 without pictures" in first.output
    assert first.output.count("no clip: the clips would take more than experiments.clip_bytes") == 3
    second_run = CliRunner().invoke(main, ["pictures", "sr"])
    assert "0 decoded, 0 copied from the history, 4 already stored" in second_run.output
    with open_history(path, "read") as history:
        comparison = compare_arms(history, load_experiments(tmp_path / "experiments.toml")[0])
    pictures = [Reviews(tmp_path / "vqmon.db.reviews").pictures(id) for id in pair_event_ids(comparison)]
    assert sorted(len(picture) for picture in pictures) == [1, 2, 2, 2]
    assert all(1 <= len(picture) <= MAX_PICTURES and picture[0][1].startswith(b"\xff\xd8\xff") for picture in pictures)
    assert [SMALL] in pictures


def test_clips_are_made_of_what_the_daemon_has_stored(tmp_path: Path) -> None:
    """Media that have left their origin are still there in motion; clips begin with the segment and are bounded."""
    path = filled(tmp_path)
    with open_history(path, "read") as history:
        comparison = compare_arms(history, load_experiments(tmp_path / "experiments.toml")[0])
    gone = next(pair for pair in comparison.answers[0].pairs_with_role("review") if pair.cluster == "b").arm_event_id
    SegmentMedia(tmp_path / "vqmon.db.media", max_bytes=10**7).store(
        gone, (tmp_path / "media" / "good.ts").read_bytes()
    )
    first = CliRunner().invoke(main, ["pictures", "sr"], env={"VQMON_EXPERIMENTS__CLIP_BYTES": "0"})
    assert "4 decoded, 0 copied from the history, 0 already stored, 0 without pictures, 0 clips" in one_line(first)
    second = CliRunner().invoke(main, ["pictures", "sr"])
    assert "1 decoded, 0 copied from the history, 3 already stored, 0 without pictures, 1 clip;" in one_line(second)
    reviews = Reviews(tmp_path / "vqmon.db.reviews")
    assert reviews.event_ids_with_clips() == {gone}
    mp4 = reviews.clip(gone)
    assert mp4
    with av.open(BytesIO(mp4)) as container:
        frames = list(container.decode(video=0))
        assert not container.streams.audio
    assert (len(frames), frames[0].pts, frames[0].width, frames[0].format.name) == (50, 0, 1280, "yuv420p")


async def test_the_page_of_a_real_answer(tmp_path: Path) -> None:
    """What `compare` says of a real history is shown, also while it is too early to say much."""
    path = filled(tmp_path)
    experiments = load_experiments(tmp_path / "experiments.toml")
    with open_history(path, "read") as history:
        comparison = compare_arms(history, experiments[0])

        class FixedResults:
            problem = ""

            def experiments(self):  # type: ignore[no-untyped-def]
                return experiments

            def result(self, name: str) -> ExperimentResult:
                return ExperimentResult(comparison=comparison, made_at=seed.NOW)

        app = create_app(
            history.queries, now=lambda: seed.NOW + timedelta(seconds=2), experiment_results=FixedResults()
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            page = (await client.get("/experiments/sr")).text
            item = (await client.get("/api/v1/experiments/sr")).json()
    assert comparison.answers[0].verdict.sentence.split("'")[0] in page.replace("&#39;", "'")
    assert item["comparison"]["answers"][0]["verdict"]["kind"] == comparison.answers[0].verdict.kind
