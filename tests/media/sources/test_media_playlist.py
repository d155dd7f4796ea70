"""What HLS and DASH share: URLs, times, durations and the names of tracks."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.sources.hls_playlists import URL, parse_media_playlist
from vqmon.core.types import ByteRange, Rendition, Segment
from vqmon.errors import SegmentError
from vqmon.media.sources.media_playlist import (
    PlaylistEntry,
    Track,
    assign_names,
    parse_seconds,
    parse_timestamp,
    resolve_url,
)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", ""])
def test_a_date_out_of_range_is_ignored(text: str) -> None:
    """Counting on from it would fail."""
    assert parse_media_playlist(f"#EXT-X-PROGRAM-DATE-TIME:{text}", "#EXTINF:4,", "a.ts").entries[0].starts_at is None


@given(
    st.sampled_from(
        [URL, "https://a.example.com", "file:///films/x.m3u8", "http://h/a/b/?q=/c/d#e/f", "https://h/a;p/b"]
    ),
    st.text("abZ09_.=,()~+-/:?#%", max_size=12),
)
def test_the_fast_path_resolves_urls_like_urljoin(base: str, reference: str) -> None:
    """Plain names are not parsed, and come out as if they were."""
    with suppress(SegmentError, ValueError):
        assert resolve_url(base, reference) == urljoin(base, reference)


@given(
    st.lists(
        st.builds(
            Track,
            name=st.just(""),
            url=st.text(),
            height=st.sampled_from([None, 360, 720]),
            bitrate_kbps=st.sampled_from([None, 500.0, 900.0]),
            codecs=st.sampled_from([None, "avc1.4d", "hvc1.1"]),
        ),
        max_size=8,
    ),
    st.data(),
)
def test_names_of_tracks_are_never_empty_and_always_unique(tracks: list[Track], data: st.DataObject) -> None:
    """Two lanes of one name would share a cursor."""
    hints = data.draw(st.lists(st.sampled_from(["", "HD", "720p"]), min_size=len(tracks), max_size=len(tracks)))
    names = [track.name for track in assign_names(tracks, hints)]
    assert all(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6", 6.0), ("6.006", 6.006), ("-1", 0.0), ("nan", 0.0), ("inf", 0.0), ("x", 0.0), (None, 0.0)],
)
def test_seconds_that_cannot_be_a_duration_are_zero(text: str | None, seconds: float) -> None:
    """Zero means unknown."""
    assert parse_seconds(text) == seconds
    assert parse_seconds(86_401) == 0.0


def test_a_time_without_a_zone_is_utc() -> None:
    """Others are converted to UTC."""
    assert parse_timestamp("2026-05-01T12:00:00+02:00") == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert parse_timestamp("2026-05-01T12:00:00") == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert parse_timestamp("yesterday") is None
    assert parse_timestamp("1969-12-31T23:59:59Z") is None


def test_an_entry_is_identified_without_its_query() -> None:
    """Tokens in the query change from reload to reload."""
    entry = PlaylistEntry(sequence=1, next_sequence=2, url="https://h/a.ts?token=1", duration_seconds=6)
    part = replace(entry, url="https://h/a.ts?token=2", byte_range=ByteRange(offset_bytes=10, length_bytes=5))
    assert entry.media_location == ("h/a.ts", -1)
    assert part.media_location == ("h/a.ts", 10)


@pytest.mark.parametrize("reference", ["file:///etc/passwd", "x" * 9000, "http://[::1", ""])
def test_references_to_local_files_and_invalid_urls_fail_the_playlist(reference: str) -> None:
    """A server must not make us read our own files."""
    with pytest.raises(SegmentError, match=r"local file|URL"):
        resolve_url("https://h/a/b.m3u8" if reference else "", reference)


@pytest.mark.parametrize("reference", ["a.ts", "/etc/passwd", "file:///etc/passwd", "", "?x", "//h/a.ts"])
def test_a_playlist_in_a_data_url_refers_to_nothing_local(reference: str) -> None:
    """It may have come from a server, and has no folder of its own."""
    with pytest.raises(SegmentError, match="in full"):
        resolve_url("data:application/vnd.apple.mpegurl,x", reference)
    assert resolve_url("data:,x", "https://h/a.ts") == "https://h/a.ts"
    assert resolve_url("data:,x", "data:,y") == "data:,y"


def test_an_entry_in_a_data_url_is_identified_by_a_digest() -> None:
    """As the key of its segment: the content is neither stored nor shown."""
    entry = PlaylistEntry(sequence=1, next_sequence=2, url="data:;base64,QUJD", duration_seconds=6)
    segment = Segment(
        rendition=Rendition(stream_id="s", name="r"),
        sequence=1,
        url=entry.url,
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert segment.key == f"s/r/1/{entry.media_location[0]}" == segment.without_secrets().key
    assert "QUJD" not in segment.without_secrets().url
