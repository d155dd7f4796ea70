"""What can be decoded of the segment that a low-latency HLS playlist lists part by part."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.media.sources.hls.test_low_latency import listing, parse
from tests.media.sources.rig import NOON
from vqmon.core.types import ByteRange, Rendition
from vqmon.media.sources.follower import PlaylistFollower
from vqmon.media.sources.hls.low_latency import LowLatencyReloads

HEAD = """#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MAP:URI="i.mp4"
#EXT-X-PART:DURATION=0.5,URI="s7.0.m4s",INDEPENDENT=YES
#EXTINF:2,
s7.m4s
"""
FIRST = '#EXT-X-PART:DURATION=0.5,URI="a.m4s",INDEPENDENT=YES\n'
SECOND = '#EXT-X-PART:DURATION=0.5,URI="b.m4s"\n'
KEY_PART = '#EXT-X-PART:DURATION=0.5,URI="c.m4s",INDEPENDENT=YES\n'
GAP = '#EXT-X-PART:DURATION=0.5,URI="g.m4s",GAP=YES\n'


@pytest.mark.parametrize(
    ("parts", "names", "offset"),
    [
        ("", [], None),
        (FIRST, ["a"], 0.0),
        (FIRST + SECOND, ["a", "b"], 0.0),
        # packagers that do not say so begin segments with a key picture too
        (SECOND + SECOND, ["b", "b"], 0.0),
        # what was looked at before is not looked at again
        (FIRST + SECOND + KEY_PART + SECOND, ["c", "b"], 1.0),
        # nothing that follows a loss, up to the next key picture
        (FIRST + GAP + SECOND, [], None),
        (FIRST + GAP + SECOND + KEY_PART, ["c"], 1.5),
        ('#EXT-X-PART:DURATION=0.5\n' + SECOND, [], None),
        ('#EXT-X-PART:DURATION=0.5,URI="x.m4s",BYTERANGE="oops"\n' + KEY_PART, ["c"], 0.5),
        ('#EXT-X-KEY:METHOD=AES-128,URI="k"\n' + FIRST, [], None),
        ('#EXT-X-KEY:METHOD=NONE\n' + FIRST, ["a"], 0.0),
    ],
)  # fmt: skip
def test_parts_from_the_newest_key_picture_on(parts: str, names: list[str], offset: float | None) -> None:
    opened = parse(HEAD + parts).open_entry
    assert [part.url.rpartition("/")[2].removesuffix(".m4s") for part in opened.parts] == names if opened else not names
    if opened:
        assert (opened.offset_seconds, opened.sequence, opened.part_seconds) == (offset, 8, 0.5)
        assert {part.init_url for part in opened.parts} == {"https://cdn.example.com/i.mp4"}


def test_transport_streams_are_taken_from_their_start() -> None:
    """Only there are their tables."""
    opened = parse(HEAD.replace('#EXT-X-MAP:URI="i.mp4"\n', "") + FIRST + SECOND + KEY_PART).open_entry
    assert opened is not None
    assert (len(opened.parts), opened.offset_seconds) == (3, 0.0)


def test_parts_may_be_ranges_of_one_file() -> None:
    """Without an offset a range follows the one before it."""
    ranges = [
        f'#EXT-X-PART:DURATION=0.5,URI="s.m4s",BYTERANGE="{text}"\n' for text in ("100@50", "200", "300@1000", "1")
    ]
    opened = parse(HEAD + "".join(ranges)).open_entry
    assert opened is not None
    spans = [(50, 100), (150, 200), (1000, 300), (1300, 1)]
    assert [part.byte_range for part in opened.parts] == [
        ByteRange(offset_bytes=start, length_bytes=length) for start, length in spans
    ]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ('TYPE=PART,URI="c.m4s"', ("c.m4s", None)),
        ('TYPE=PART,URI="s.m4s",BYTERANGE-START=300,BYTERANGE-LENGTH=20', ("s.m4s", (300, 20))),
        # the end of the range is not known before it is made
        ('TYPE=PART,URI="s.m4s",BYTERANGE-START=300', None),
        ('TYPE=MAP,URI="i2.mp4"', None),
        ("TYPE=PART", None),
    ],
)
def test_a_part_that_is_announced_may_be_requested(hint: str, expected: tuple[str, tuple[int, int] | None]) -> None:
    opened = parse(HEAD + FIRST + SECOND + f"#EXT-X-PRELOAD-HINT:{hint}\n").open_entry
    assert opened is not None
    assert [part.url.rpartition("/")[2] for part in opened.parts] == ["a.m4s", "b.m4s"]
    if expected is None:
        assert opened.hint is None
        return
    assert opened.hint is not None
    name, span = expected
    expected_range = ByteRange(offset_bytes=span[0], length_bytes=span[1]) if span else None
    assert (opened.hint.url.rpartition("/")[2], opened.hint.byte_range) == (name, expected_range)


def test_nothing_is_requested_ahead_that_cannot_be_decoded() -> None:
    """Behind a gap, or encrypted."""
    hint = '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="c.m4s"\n'
    behind_gap = parse(HEAD + FIRST + SECOND + KEY_PART + GAP + hint).open_entry
    encrypted = parse(HEAD + FIRST + '#EXT-X-KEY:METHOD=AES-128,URI="k"\n' + hint).open_entry
    assert encrypted is not None
    assert (behind_gap, encrypted.hint) == (None, None)


def test_the_open_segment_gets_number_and_time_of_the_segment_that_it_becomes() -> None:
    """Also where a delta update leaves initialization section and date out."""
    reloads = LowLatencyReloads()
    follower = PlaylistFollower(Rendition(stream_id="news", name="main"), "https://cdn.example.com/live.m3u8")
    follower.update(reloads.complete(parse(listing(80)), NOON), NOON)
    playlist = reloads.complete(parse(listing(83, skipped=5)), NOON)
    follower.update(playlist, NOON)
    opened = follower.open_segment(playlist)
    assert opened is not None
    assert (opened.sequence, opened.starts_at) == (20, NOON + timedelta(seconds=16))
    assert [part.url.rpartition("/")[2] for part in opened.parts] == ["s20.0.m4s", "s20.1.m4s", "s20.2.m4s"]
    assert {part.init_url for part in opened.parts} == {"https://cdn.example.com/i.mp4"}
    assert opened.parts[-1].ends_at == NOON + timedelta(seconds=17.5)
    assert opened.hint is not None
    assert (opened.hint.url.rpartition("/")[2], opened.hint.starts_at) == ("s20.3.m4s", NOON + timedelta(seconds=17.5))
    (segment,) = follower.update(reloads.complete(parse(listing(84, skipped=5)), NOON), NOON)
    assert (getattr(segment, "sequence", None), getattr(segment, "starts_at", None)) == (20, opened.starts_at)
    # nothing that is behind, such as an outdated copy
    assert follower.open_segment(playlist) is None
    assert follower.open_segment(replace(playlist, is_numbered=False)) is None


def test_parts_of_a_delta_update_without_its_key_are_not_taken() -> None:
    """They are encrypted by the key of the segments before them."""
    reloads = LowLatencyReloads()
    reloads.complete(parse(listing(80, keys=True)), NOON)
    assert reloads.complete(parse(listing(83, skipped=5)), NOON).open_entry is None
