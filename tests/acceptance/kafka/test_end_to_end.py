"""The commands themselves, on a real broker and real media: topics, publish, run, and what a reader finds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.kafka.broker import Cluster
from tests.acceptance.kafka.fleet import ROOT, read_all, until
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.types import QualityEvent, SegmentFailure
from vqmon.transport.kafka import TopicNames
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import parse_control_message

pytestmark = [pytest.mark.kafka, pytest.mark.fixtures, pytest.mark.slow]


def command(folder: Path, *arguments: str) -> list[str]:
    """A vqmon command with the settings of the folder."""
    return [sys.executable, "-m", "vqmon", "--config", str(folder / "vqmon.toml"), *arguments]


def run_vqmon(folder: Path, *arguments: str) -> str:
    """What a command says; it must succeed."""
    done = subprocess.run(
        command(folder, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def started(folder: Path) -> subprocess.Popen[bytes]:
    """The daemon; it logs to a file."""
    with (folder / "daemon.log").open("wb") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command(folder, "run"), cwd=ROOT, stdout=log, stderr=log, env=environment)


async def test_files_are_published_scored_and_found(cluster: Cluster, shared: Path, tmp_path: Path) -> None:
    """Two clips, a file that is no media, the end: two quality events, one failure, and the end, in order."""
    media = tmp_path / "media"
    media.mkdir()
    clips = sorted(path for path in (shared / "clips").glob("*.mp4") if path.stat().st_size < 3_000_000)[:2]
    for number, clip in enumerate(clips):
        (media / f"{number}.mp4").symlink_to(clip)
    (media / "9.mp4").write_bytes(b"no media at all")
    (tmp_path / "vqmon.toml").write_text(
        f"""[source]
kind = "kafka"
[kafka]
bootstrap = ["{cluster.bootstrap}"]
prefix = "whole"
group = "whole"
copies = 1
partitions = 2
session_seconds = 6
rebalance_seconds = 12
[fetch]
file_roots = ["{media}", "{shared / "clips"}"]
[scoring]
allow_noncommercial = true
""",
        encoding="utf-8",
    )
    assert "whole.quality.v1" in run_vqmon(tmp_path, "topics", "create")
    assert "nothing to create" in run_vqmon(tmp_path, "topics", "create")
    assert "all topics match the settings" in run_vqmon(tmp_path, "topics", "check")
    published = run_vqmon(tmp_path, "publish", str(media), "--stream", "film", "--rendition", "1080p", "--arm", "new")
    assert "3 segment messages published" in published
    assert "the end of film was written to all 2 partitions" in run_vqmon(tmp_path, "end", "film")
    names = TopicNames.from_prefix("whole", "whole")
    daemon = started(tmp_path)
    try:

        async def all_there() -> bool:
            return len(await read_all(cluster.bootstrap, names.control)) >= 1

        await until(all_there, seconds=120, every=1.0)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=40) == 0, (tmp_path / "daemon.log").read_text()
    finally:
        daemon.kill()
    records = await read_all(cluster.bootstrap, names.quality)
    (ended,) = await read_all(cluster.bootstrap, names.control)
    lines = run_vqmon(tmp_path, "tail", "--from-beginning", "--json", "--stream", "film", "--for", "1").splitlines()
    alerts = await read_all(cluster.bootstrap, names.alerts)
    assert sorted(lines) == sorted(record.value.decode() for record in [*records, *alerts])
    outcomes = [cloudevents.parse_outcome(record.value) for record in records]
    end = parse_control_message(ended.value)
    assert isinstance(end, StreamEnd)
    assert (end.stream_id, end.rendition, end.at) == ("film", "*", max(outcome.segment.ends_at for outcome in outcomes))
    assert [type(outcome) for outcome in outcomes] == [QualityEvent, QualityEvent, SegmentFailure]
    assert [outcome.segment.sequence for outcome in outcomes] == [0, 1, 2]
    assert [record.key for record in [*records, ended]] == [b"film"] * 3 + [b"org.vqmon.ended.v1/film"]
    assert [record.partition for record in records] == [ended.partition] * 3
    assert {outcome.segment.rendition.labels["arm"] for outcome in outcomes} == {"new"}
    assert all(
        0 <= score.value <= 100 for outcome in outcomes if isinstance(outcome, QualityEvent) for score in outcome.scores
    )
