"""What is published of playlists and files: their segments in order, the ends of renditions, labels and batches."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.observe.playlists.sound import announced_sound
from pipelines.topics import publisher
from pipelines.topics.publisher import encode_records, ended_renditions, publish_end, publish_marker, publish_segments
from tests import factories
from tests.factories import RENDITION, START
from vqmon.core.alerts.annotations import DeployMarker, StreamEnd, stream_end
from vqmon.core.types import Segment
from vqmon.errors import SettingsError
from vqmon.media.sources.playlist import DiscoveredSegments
from vqmon.settings.load import Settings
from vqmon.transport.kafka.records import Headers
from vqmon.transport.wire.control_messages import is_control_message, parse_control_message
from vqmon.transport.wire.segment_messages import parse_segment

SETTINGS = Settings(kafka={"prefix": "v"})  # type: ignore[arg-type]
MODIFIED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class RecordingProducer:
    """Records the batches that were published. Stands in for IdempotentProducer."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[tuple[bytes, bytes, Headers]]]] = []

    def __call__(self, config: object) -> "RecordingProducer":
        return self

    async def __aenter__(self) -> "RecordingProducer":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def publish(self, topic: str, records: Iterable[tuple[bytes, bytes, Headers]]) -> int:
        self.batches.append((topic, list(records)))
        return len(self.batches[-1][1])

    async def publish_to_all_partitions(self, topic: str, value: bytes, headers: Headers, *, key: bytes = b"") -> int:
        self.batches.append((topic, [(key, value, headers)] * 3))
        return 3

    @property
    def segments(self) -> list[Segment]:
        return [
            parse_segment(key, value, dict(headers))
            for _, batch in self.batches
            for key, value, headers in batch
            if not is_control_message(dict(headers))
        ]


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> RecordingProducer:
    recording = RecordingProducer()
    monkeypatch.setattr(publisher, "IdempotentProducer", recording)
    return recording


def discovered(*names: str, ended: bool = True) -> DiscoveredSegments:
    """Two segments of each rendition, whose playlists are complete or still growing."""
    items = [
        factories.segment(sequence=sequence, rendition=replace(RENDITION, name=name))
        for name in names
        for sequence in range(2)
    ]
    return DiscoveredSegments(items=items, ended_renditions=frozenset(names if ended else ()))


def media_folder(path: Path, *names: str) -> Path:
    """A folder of files that were all modified at the same moment."""
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"media")
        os.utime(path / name, (MODIFIED_AT.timestamp(),) * 2)
    return path


@pytest.mark.parametrize(
    ("listings", "expected"),
    [
        ([discovered("1080p", "720p")], ["0", "1", "1080p ends", "0", "1", "720p ends"]),
        # more may follow
        ([discovered("1080p", ended=False)], ["0", "1"]),
        # the same rendition continues at another address, or ends there
        ([discovered("1080p"), discovered("1080p", ended=False)], ["0", "1", "0", "1"]),
        ([discovered("1080p"), discovered("1080p")], ["0", "1", "0", "1", "1080p ends"]),
    ],
)
def test_the_end_of_a_rendition_follows_its_last_segment(
    listings: Sequence[DiscoveredSegments], expected: Sequence[str]
) -> None:
    """Every record has the stream as its key."""
    segments = [item for listing in listings for item in listing.items if isinstance(item, Segment)]
    records = list(encode_records(segments, ended=ended_renditions(listings)))
    assert {key for key, _, _ in records} == {b"news-1"}
    published = [
        f"{message.rendition} ends"
        if is_control_message(dict(headers)) and isinstance(message := parse_control_message(value), StreamEnd)
        else str(parse_segment(key, value, dict(headers)).sequence)
        for key, value, headers in records
    ]
    assert published == expected


def test_an_end_is_dated_by_the_last_segment_of_its_rendition() -> None:
    """Not by the last one that is published."""
    first, second, third = (
        factories.segment(sequence=sequence, rendition=replace(RENDITION, name=name))
        for sequence, name in enumerate(["1080p", "1080p", "720p"])
    )
    _, _, (key, value, _), _ = encode_records([first, second, third], ended={"1080p"})
    end = parse_control_message(value)
    assert isinstance(end, StreamEnd)
    assert (key, end.stream_id, end.rendition, end.at) == (b"news-1", "news-1", "1080p", second.ends_at)


def test_a_rendition_with_an_unreadable_entry_in_a_growing_playlist_has_not_ended() -> None:
    """An entry that could not become a segment counts like one that could."""
    complete = discovered("1080p")
    growing = DiscoveredSegments(items=[factories.failure(reason="playlist")])
    assert ended_renditions([complete]) == {"1080p"}
    assert ended_renditions([complete, growing]) == set()
    assert ended_renditions([]) == set()


async def test_files_of_a_folder_are_numbered_by_name_and_dated_by_their_modification(
    tmp_path: Path, producer: RecordingProducer
) -> None:
    """Hidden files and subfolders are left out; files never end a rendition."""
    folder = media_folder(tmp_path / "archive", "b.ts", "a.ts", ".hidden")
    (folder / "nested").mkdir()
    assert await publish_segments(SETTINGS, [str(folder)], stream_id="archive-1") == (2, 0)
    assert [(segment.sequence, segment.url.rpartition("/")[2]) for segment in producer.segments] == [
        (0, "a.ts"),
        (1, "b.ts"),
    ]
    assert {segment.starts_at for segment in producer.segments} == {MODIFIED_AT}
    assert {segment.rendition.key for segment in producer.segments} == {"archive-1/file"}
    assert [topic for topic, _ in producer.batches] == ["v.segments.v1"]
    assert len(producer.batches[0][1]) == 2


async def test_numbers_continue_over_several_addresses(tmp_path: Path, producer: RecordingProducer) -> None:
    """The addresses follow each other in the order in which they are given."""
    late, early = media_folder(tmp_path / "z", "1.ts", "2.ts"), media_folder(tmp_path / "a", "3.ts")
    await publish_segments(SETTINGS, [str(late), str(early / "3.ts")], stream_id="s")
    assert [(segment.sequence, segment.url[-6:]) for segment in producer.segments] == [
        (0, "z/1.ts"),
        (1, "z/2.ts"),
        (2, "a/3.ts"),
    ]


async def test_rendition_arm_and_prompt_are_those_that_were_named(tmp_path: Path, producer: RecordingProducer) -> None:
    """Without an arm there is no label of that name."""
    folder = media_folder(tmp_path / "archive", "a.ts")
    await publish_segments(SETTINGS, [str(folder)], stream_id="s", rendition="hd", arm="v2", prompt="a fox")
    await publish_segments(SETTINGS, [str(folder)], stream_id="s")
    labelled, plain = producer.segments
    assert (labelled.rendition.name, labelled.rendition.labels, labelled.prompt) == ("hd", {"arm": "v2"}, "a fox")
    assert (plain.rendition.name, plain.rendition.labels, plain.prompt) == ("file", {}, "")


async def test_records_are_published_in_batches(
    tmp_path: Path, producer: RecordingProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are full but the last."""
    monkeypatch.setattr(publisher, "_BATCH_RECORDS", 2)
    folder = media_folder(tmp_path / "archive", *(f"{number}.ts" for number in range(5)))
    await publish_segments(SETTINGS, [str(folder)], stream_id="s")
    assert [len(batch) for _, batch in producer.batches] == [2, 2, 1]
    assert [segment.sequence for segment in producer.segments] == list(range(5))


async def test_a_folder_without_media_is_refused(tmp_path: Path, producer: RecordingProducer) -> None:
    """Nothing is published, also not from the addresses before it."""
    full, empty = media_folder(tmp_path / "full", "a.ts"), media_folder(tmp_path / "empty", ".hidden")
    with pytest.raises(SettingsError, match="empty: there is no media file"):
        await publish_segments(SETTINGS, [str(full), str(empty)], stream_id="s")
    assert producer.batches == []


async def test_a_playlist_that_cannot_be_fetched_is_named_without_its_query(
    tmp_path: Path, producer: RecordingProducer
) -> None:
    """The query may hold a token."""
    with pytest.raises(SettingsError, match=r"main\.m3u8: ") as caught:
        await publish_segments(SETTINGS, [f"file://{tmp_path}/main.m3u8?token=secret"], stream_id="s")
    assert "secret" not in str(caught.value).split(": ")[0]
    assert producer.batches == []


async def test_a_marker_goes_to_every_partition(producer: RecordingProducer) -> None:
    """It may affect streams on all of them."""
    marker = DeployMarker(id="d" * 32, at=START, name="encoder 4.2")
    assert await publish_marker(SETTINGS, marker) == 3
    ((topic, records),) = producer.batches
    assert topic == "v.segments.v1"
    assert [parse_control_message(value) for _, value, _ in records] == [marker] * 3


async def test_an_end_goes_to_every_partition(producer: RecordingProducer) -> None:
    """Its key is the stream id; which partition that means, only the producer of the segments knows."""
    end = stream_end("news-1", "1080p", START, announced_at=START)
    assert await publish_end(SETTINGS, end) == 3
    ((topic, records),) = producer.batches
    assert [(topic, key, parse_control_message(value)) for key, value, _ in records] == [
        ("v.segments.v1", b"news-1", end)
    ] * 3
    assert all(is_control_message(dict(headers)) for _, _, headers in records)


HLS = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",DEFAULT=YES,URI="en.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="lost",NAME="en",DEFAULT=YES,URI="lost.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720,AUDIO="a"
video.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=640x360
muxed.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=320x180,AUDIO="lost"
low.m3u8
"""


def media_playlist(name: str, durations: Sequence[float], *, init: str = "") -> str:
    entries = "".join(f"#EXTINF:{seconds},\n{name}{number}.m4s\n" for number, seconds in enumerate(durations))
    head = f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n{init}"
    return f"{head}{entries}#EXT-X-ENDLIST\n"


async def test_sound_apart_from_the_pictures_is_in_the_messages(
    tmp_path: Path, producer: RecordingProducer, caplog: pytest.LogCaptureFixture
) -> None:
    """As a daemon on one host finds it: several segments of sound for one of pictures, with what the playlists say."""
    playlists = {
        "main.m3u8": HLS,
        "video.m3u8": media_playlist("v", [6, 6]),
        "muxed.m3u8": media_playlist("m", [6, 6]),
        "low.m3u8": media_playlist("l", [6, 6]),
        "en.m3u8": media_playlist("s", [2, 2, 2, 5.5], init='#EXT-X-MAP:URI="s.mp4"\n'),
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
    assert await publish_segments(SETTINGS, [str(tmp_path / "main.m3u8")], stream_id="news") == (6, 0)
    by_rendition: dict[str, list[Segment]] = {}
    for segment in producer.segments:
        by_rendition.setdefault(segment.rendition.name, []).append(segment)
    first, second = by_rendition["720p"]
    assert first.audio is not None
    assert second.audio is not None
    assert [each.url.rpartition("/")[2] for each in (first.audio, *first.audio.more)] == [
        "s0.m4s",
        "s1.m4s",
        "s2.m4s",
    ]
    assert (first.audio.init_url or "").endswith("/s.mp4")
    assert (second.audio.url.rpartition("/")[2], second.audio.more) == ("s3.m4s", ())
    assert (second.audio.starts_seconds, second.audio.ends_seconds) == (0.0, -0.5)
    sound = announced_sound(second)
    assert sound is not None
    assert (sound.starts_seconds, sound.ends_seconds, sound.is_numbered) == (0.0, -0.5, False)
    assert [segment.audio for name in ("360p", "180p") for segment in by_rendition[name]] == [None] * 4
    assert [record.message for record in caplog.records if "sound" in record.message] == ["sound.unavailable"]


MPD = """<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT8S"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="v" bandwidth="1" height="720"><SegmentTemplate
 initialization="v.mp4" media="v$Number$.m4s" duration="4"/></Representation></AdaptationSet>
<AdaptationSet mimeType="audio/mp4"><Representation id="a" bandwidth="1"><SegmentTemplate initialization="a.mp4"
 media="a$Number$.m4s" timescale="10" presentationTimeOffset="35" duration="40"/></Representation></AdaptationSet>
</Period></MPD>"""


async def test_sound_of_dash_is_in_the_messages(tmp_path: Path, producer: RecordingProducer) -> None:
    """With the difference of both clocks of timestamps."""
    (tmp_path / "manifest.mpd").write_text(MPD)
    await publish_segments(SETTINGS, [str(tmp_path / "manifest.mpd")], stream_id="news")
    sounds = [segment.audio for segment in producer.segments]
    assert [sound and sound.url.rpartition("/")[2] for sound in sounds] == ["a1.m4s", "a2.m4s"]
    assert {sound and (sound.starts_seconds, sound.ends_seconds, sound.is_numbered) for sound in sounds} == {
        (3.5, 3.5, False)
    }
