"""The live A/B of compose.yaml: both arms encode the same frames, and each message names its arm."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.demo.arms import ARMS, STREAM_ID, announced, arms_command
from pipelines.demo.stream import CLIP_SECONDS
from vqmon.core.types import Rendition, Segment

BEGAN_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_one_encoder_reads_the_clip_once_and_writes_a_playlist_per_arm() -> None:
    """So that segments of both arms start at the same moments; numbers go on after a restart."""
    command = arms_command(Path("clip.mp4"))
    assert command.count("-i") == 1
    assert [word for word in command if word.endswith(".m3u8")] == [f"720p-{arm}.m3u8" for arm in ARMS]
    rates = [command[index + 1] for index, word in enumerate(command) if word == "-b:v"]
    assert rates == [f"{kbps}k" for kbps in ARMS.values()]
    assert command[command.index("-hls_start_number_source") + 1] == "epoch"


def test_a_message_names_stream_arm_title_and_an_address_that_workers_reach() -> None:
    """The title is the turn of the clip, which is the same in both arms."""
    rendition = Rendition(stream_id="720p-v1.m3u8", name="video")
    segments = [
        Segment(
            rendition=rendition,
            sequence=number,
            url=f"http://127.0.0.1:8000/720p-v1-{number}.ts",
            starts_at=BEGAN_AT + timedelta(seconds=seconds),
        )
        for number, seconds in ((7, 0), (8, CLIP_SECONDS - 2), (9, CLIP_SECONDS))
    ]
    messages = [
        announced(segment, "v1", BEGAN_AT, local="http://127.0.0.1:8000", address="http://packager:8000")
        for segment in segments
    ]
    assert [message.url for message in messages] == [
        f"http://packager:8000/720p-v1-{number}.ts" for number in (7, 8, 9)
    ]
    assert {(message.rendition.stream_id, message.rendition.name) for message in messages} == {(STREAM_ID, "720p-v1")}
    assert [message.labels["title"] for message in messages] == ["turn-00000", "turn-00000", "turn-00001"]
    assert {message.labels["arm"] for message in messages} == {"v1"}
