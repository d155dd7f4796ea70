"""Parsing of HLS playlists: segments, keys, byte ranges, times, variables and renditions."""

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.sources.hls_playlists import URL, parse_media_playlist
from vqmon.core.types import ByteRange, Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import split_encryption_fragment
from vqmon.media.sources.hls.master import MasterPlaylist
from vqmon.media.sources.hls.parser import parse_hls
from vqmon.media.sources.media_playlist import MediaPlaylist, PlaylistEntry


def parse_master_playlist(*lines: str) -> MasterPlaylist:
    read = parse_hls("\n".join(("#EXTM3U", *lines)), URL)
    assert isinstance(read, MasterPlaylist)
    return read


def test_segments_are_numbered_and_their_urls_resolved() -> None:
    """Relative, absolute and query addresses all start from where the playlist was found."""
    listing = parse_media_playlist(
        "#EXT-X-MEDIA-SEQUENCE:41",
        "#EXTINF:6.006,",
        "a.ts?sig=x",
        "#EXTINF:5,title",
        "../b.ts",
        "#EXTINF:4",
        "/c.ts",
        "#EXTINF:4,",
        "https://other.example.com/d.ts",
        "#EXTINF:4,",
        "//other.example.com/e.ts",
    )
    assert [(entry.sequence, entry.duration_seconds, entry.url) for entry in listing.entries] == [
        (41, 6.006, "https://cdn.example.com/live/a.ts?sig=x"),
        (42, 5.0, "https://cdn.example.com/b.ts"),
        (43, 4.0, "https://cdn.example.com/c.ts"),
        (44, 4.0, "https://other.example.com/d.ts"),
        (45, 4.0, "https://other.example.com/e.ts"),
    ]
    assert (listing.target_seconds, listing.is_ended) == (6.0, False)


@pytest.mark.parametrize(
    ("line", "is_ended"),
    [("#EXT-X-ENDLIST", True), ("#EXT-X-PLAYLIST-TYPE:VOD", True), ("#EXT-X-PLAYLIST-TYPE:EVENT", False)],
)
def test_end_list_and_vod_mark_the_end(line: str, is_ended: bool) -> None:
    """ENDLIST or VOD: nothing will be added."""
    assert parse_media_playlist("#EXTINF:4,", "a.ts", line).is_ended is is_ended


def test_gaps_and_discontinuities_belong_to_one_segment() -> None:
    """The tags hold for the next segment only."""
    listing = parse_media_playlist(
        "#EXTINF:4,", "a.ts", "#EXT-X-GAP", "#EXTINF:4,", "b.ts", "#EXT-X-DISCONTINUITY", "#EXTINF:4,", "c.ts",
        "#EXTINF:4,", "d.ts",
    )  # fmt: skip
    assert [(entry.is_gap, entry.is_discontinuity) for entry in listing.entries] == [
        (False, False), (True, False), (False, True), (False, False),
    ]  # fmt: skip


def test_byte_ranges_follow_one_another() -> None:
    """Without an offset a range begins where the one before it in the same file ended."""
    listing = parse_media_playlist(
        "#EXTINF:4,", "#EXT-X-BYTERANGE:100@50", "a.mp4",
        "#EXTINF:4,", "#EXT-X-BYTERANGE:70", "a.mp4",
        "#EXT-X-BYTERANGE:30", "#EXTINF:4,", "a.mp4",
        "#EXTINF:4,", "#EXT-X-BYTERANGE:9", "b.mp4",
        "#EXTINF:4,", "c.mp4",
    )  # fmt: skip
    ranges = [entry.byte_range for entry in listing.entries]
    assert ranges == [
        ByteRange(offset_bytes=50, length_bytes=100),
        ByteRange(offset_bytes=150, length_bytes=70),
        ByteRange(offset_bytes=220, length_bytes=30),
        ByteRange(offset_bytes=0, length_bytes=9),
        None,
    ]


def test_the_init_section_holds_until_the_next_one() -> None:
    """EXT-X-MAP with and without a byte range."""
    listing = parse_media_playlist(
        '#EXT-X-MAP:URI="init.mp4",BYTERANGE="800@16"', "#EXTINF:4,", "a.m4s", "#EXTINF:4,", "b.m4s",
        '#EXT-X-MAP:URI="other.mp4"', "#EXTINF:4,", "c.m4s",
    )  # fmt: skip
    first, second = "https://cdn.example.com/live/init.mp4", "https://cdn.example.com/live/other.mp4"
    part = ByteRange(offset_bytes=16, length_bytes=800)
    assert [(entry.init_url, entry.init_byte_range) for entry in listing.entries] == [
        (first, part), (first, part), (second, None),
    ]  # fmt: skip


def test_keys_change_and_end() -> None:
    """The IV is the one given, else the sequence number; NONE ends it."""
    listing = parse_media_playlist(
        "#EXT-X-MEDIA-SEQUENCE:255",
        '#EXT-X-KEY:METHOD=AES-128,URI="key?id=1,2"', "#EXTINF:4,", "a.ts",
        '#EXT-X-KEY:METHOD=AES-128,URI="key2",IV=0x1F', "#EXTINF:4,", "b.ts",
        '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://drm",KEYFORMAT="com.apple.streamingkeydelivery"', "#EXTINF:4,", "c.ts",
        "#EXT-X-KEY:METHOD=NONE", "#EXTINF:4,", "d.ts",
    )  # fmt: skip
    base = "https://cdn.example.com/live"
    assert [entry.encryption for entry in listing.entries] == [
        Encryption(method="AES-128", key_url=f"{base}/key?id=1,2", iv_hex=f"{255:032x}"),
        Encryption(method="AES-128", key_url=f"{base}/key2", iv_hex=f"{31:032x}"),
        Encryption(method="SAMPLE-AES", key_url=None, iv_hex=f"{257:032x}"),
        None,
    ]


def test_a_key_in_identity_format_is_preferred() -> None:
    """A playlist may offer the same key through several systems."""
    drm = '#EXT-X-KEY:METHOD=AES-128,URI="skd://x",KEYFORMAT="com.example.drm"'
    plain = '#EXT-X-KEY:METHOD=AES-128,URI="key"'
    for keys in ((drm, plain), (plain, drm)):
        encryption = parse_media_playlist(*keys, "#EXTINF:4,", "a.ts").entries[0].encryption
        assert encryption is not None
        assert encryption.key_url == "https://cdn.example.com/live/key"


@pytest.mark.parametrize(
    "line", ["#EXT-X-KEY:", "#EXT-X-KEY:METHOD", '#EXT-X-KEY:URI="key"', "#EXT-X-KEY:METHOD=ROT13"]
)
def test_an_unsupported_key_still_marks_encryption(line: str) -> None:
    """Better `encrypted` than a picture made of noise."""
    encryption = parse_media_playlist(line, "#EXTINF:4,", "a.ts").entries[0].encryption
    assert encryption is not None
    assert encryption.method in ("unnamed", "ROT13")


def test_a_key_for_each_of_many_segments_is_parsed() -> None:
    """Hours of rotating keys: the library alone would compare each with all before it."""
    lines = [
        line for number in range(20_000) for line in (f'#EXT-X-KEY:METHOD=AES-128,URI="k{number}"', "#EXTINF:4,", "a")
    ]
    assert parse_media_playlist(*lines).entries[-1].encryption == Encryption(
        method="AES-128", key_url="https://cdn.example.com/live/k19999", iv_hex=f"{19_999:032x}"
    )


def test_too_many_renditions_are_refused() -> None:
    """Alternatives multiply with variants."""
    with pytest.raises(SegmentError):
        parse_master_playlist(
            *('#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="g",URI="a"',) * 999, *("#EXT-X-STREAM-INF:BANDWIDTH=1", "v") * 99
        )


def test_the_init_section_uses_the_key_in_force_before_it() -> None:
    """A section before the first key is not encrypted, one after it is, with the IV that was given."""
    listing = parse_media_playlist(
        '#EXT-X-MAP:URI="plain.mp4"', '#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0xFF', "#EXTINF:4,", "a.m4s",
        '#EXT-X-MAP:URI="secret.mp4"', '#EXT-X-KEY:METHOD=AES-128,URI="key2"', "#EXTINF:4,", "b.m4s",
    )  # fmt: skip
    base = "https://cdn.example.com/live"
    assert [split_encryption_fragment(entry.init_url or "") for entry in listing.entries] == [
        (f"{base}/plain.mp4", None),
        (f"{base}/secret.mp4", Encryption(method="AES-128", key_url=f"{base}/key", iv_hex=f"{255:032x}")),
    ]


def test_dates_run_forwards_and_backwards_from_where_they_are_given() -> None:
    """One date in the middle dates the whole playlist, in UTC; a date without sense is not there."""
    listing = parse_media_playlist(
        "#EXTINF:4,", "a.ts", "#EXTINF:4,", "b.ts",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T01:00:00.500+01:00", "#EXTINF:4,", "c.ts", "#EXTINF:4,", "d.ts",
        "#EXT-X-PROGRAM-DATE-TIME:tomorrow", "#EXTINF:4,", "e.ts",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:01:00", "#EXTINF:4,", "f.ts",
    )  # fmt: skip
    origin = datetime(2026, 1, 1, 0, 0, 0, 500_000, UTC)
    expected = [origin + timedelta(seconds=seconds) for seconds in (-8, -4, 0, 4, 8, 59.5)]
    assert [entry.starts_at for entry in listing.entries] == expected


def test_low_latency_parts_and_unknown_tags_are_ignored() -> None:
    """Only whole segments count, and a broken tag that is not needed costs nothing."""
    listing = parse_media_playlist(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=x",
        "#EXT-X-PART-INF:PART-TARGET=oops",
        "#EXT-X-VERSION: ten",
        "#EXT-X-DATERANGE:ID=,,=",
        "#EXT-X-SESSION-KEY:nonsense",
        "#EXT-X-START:TIME-OFFSET=never",
        "## a remark",
        "",
        '#EXT-X-PART:DURATION=1,URI="a.0.ts"',
        "#EXTINF:4,",
        "a.ts",
        '#EXT-X-PART:DURATION=1,URI="b.0.ts"',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="b.1.ts"',
    )
    assert [entry.url.rsplit("/")[-1] for entry in listing.entries] == ["a.ts"]


def test_line_ends_and_the_missing_target_duration_do_not_matter() -> None:
    """CRLF, and the longest segment for a target."""
    read = parse_hls("#EXTM3U\r\n#EXTINF:3.5,\r\na.ts\r\n#EXTINF:-1,\r\nb.ts\r\n", URL)
    assert isinstance(read, MediaPlaylist)
    assert ([entry.duration_seconds for entry in read.entries], read.target_seconds) == ([3.5, 0.0], 3.5)


@pytest.mark.parametrize(
    "lines",
    [
        ("#EXT-X-I-FRAMES-ONLY", "#EXTINF:4,", "a.ts"),
        ("#EXTINF:4,", "a.ts") * 100_001,
        ("",) * 1_000_000,
    ],
)
def test_an_unusable_playlist_is_a_playlist_failure(lines: tuple[str, ...]) -> None:
    """Key frames only, and more lines than any real playlist has."""
    with pytest.raises(SegmentError) as caught:
        parse_media_playlist(*lines)
    assert caught.value.reason == "playlist"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (("#EXTINF:4,", "#EXT-X-BYTERANGE:0@0", "a.ts"), 'line 4: EXT-X-BYTERANGE: "0@0" is no byte range'),
        (("#EXTINF:4,", "#EXT-X-BYTERANGE:x", "a.ts"), 'line 4: EXT-X-BYTERANGE: "x" is no byte range'),
        (("#EXT-X-MAP:BYTERANGE=1", "#EXTINF:4,", "a.ts"), "line 3: EXT-X-MAP: there is no URI"),
        (('#EXT-X-MAP:URI="i",BYTERANGE="x"', "#EXTINF:4,", "a.ts"), 'line 3: EXT-X-MAP: "x" is no byte range'),
        (("", "#EXTINF:4,", "http://[/a.ts"), "line 5: an invalid URL"),
        (("#EXTINF:4,", "a/" * 5000), "line 4: a URL of more than"),
        (("#EXTINF:4,", "file:///etc/passwd"), "line 4: a playlist of a server must not refer to a local file"),
        (('#EXT-X-MAP:URI="file:///etc/passwd"', "#EXTINF:4,", "a.ts"), "line 3: EXT-X-MAP: a playlist of a server"),
        (
            ('#EXT-X-KEY:METHOD=AES-128,URI="file:///etc/passwd"', "#EXTINF:4,", "a.ts"),
            "line 3: EXT-X-KEY: a playlist of a server",
        ),
    ],
)
def test_a_line_that_cannot_be_used_costs_its_segment(lines: tuple[str, ...], problem: str) -> None:
    """The entry says line and tag, and names no media; the segments after it are listed."""
    rest = ("#EXT-X-KEY:METHOD=NONE", '#EXT-X-MAP:URI="i.mp4"', "#EXTINF:4,", "good.ts")
    bad, good = parse_media_playlist(*lines, *rest).entries
    assert bad.problem.startswith(problem)
    assert (bad.url, bad.init_url, bad.encryption) == (URL, None, None)
    assert (good.sequence, good.problem, good.url) == (1, "", "https://cdn.example.com/live/good.ts")


def test_a_local_playlist_may_refer_to_local_files_and_servers() -> None:
    """The fetch policy still has the last word."""
    listing = parse_media_playlist(
        "#EXTINF:4,", "a.ts", "#EXTINF:4,", "https://example.com/b.ts", url="file:///films/x.m3u8"
    )
    assert [entry.url for entry in listing.entries] == ["file:///films/a.ts", "https://example.com/b.ts"]


def test_variables_are_substituted_from_all_sources() -> None:
    """From a value, from the playlist's own address, and from the master playlist."""
    text = "\n".join(
        (
            "#EXTM3U",
            '#EXT-X-DEFINE:NAME="host",VALUE="https://a.example.com"',
            '#EXT-X-DEFINE:QUERYPARAM="token"',
            '#EXT-X-DEFINE:IMPORT="path"',
            "#EXTINF:4,",
            "{$host}/{$path}/a.ts?t={$token}",
        )
    )
    read = parse_hls(text, URL, variables={"path": "p/q", "host": "not this one"})
    assert isinstance(read, MediaPlaylist)
    assert read.entries[0].url == "https://a.example.com/p/q/a.ts?t=1"


def test_media_playlists_import_variables_of_the_master() -> None:
    """They are there for IMPORT."""
    read = parse_master_playlist('#EXT-X-DEFINE:NAME="p",VALUE="x"', "#EXT-X-STREAM-INF:BANDWIDTH=1", "{$p}.m3u8")
    assert (read.variables, read.tracks[0].url) == ({"p": "x"}, "https://cdn.example.com/live/x.m3u8")


@pytest.mark.parametrize(
    "lines",
    [
        ('#EXT-X-DEFINE:NAME="a",VALUE="x"', "#EXTINF:4,", "{$b}.ts"),
        ('#EXT-X-DEFINE:QUERYPARAM="b"', "#EXTINF:4,", "{$b}.ts"),
        ('#EXT-X-DEFINE:IMPORT="b"', "#EXTINF:4,", "{$b}.ts"),
        ('#EXT-X-MAP:URI="{$b}"', "#EXTINF:4,", "a.ts"),
    ],
)
def test_an_undefined_variable_costs_what_refers_to_it(lines: tuple[str, ...]) -> None:
    (entry,) = parse_media_playlist(*lines).entries
    assert "variable b is not defined" in entry.problem


def test_variables_that_make_a_playlist_too_large_fail_it() -> None:
    with pytest.raises(SegmentError):
        parse_media_playlist(f'#EXT-X-DEFINE:NAME="a",VALUE="{"x" * 100_000}"', "#EXTINF:4,", "{$a}" * 10_000)


def test_renditions_are_named_by_name_height_or_rate() -> None:
    """What they could be mistaken for decides how long the name gets."""
    read = parse_master_playlist(
        '#EXT-X-STREAM-INF:BANDWIDTH=9000000,RESOLUTION=1920x1080,CODECS="av01.0,mp4a.40.2",NAME="Full / HD"', "a.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=5000000,RESOLUTION=1280x720", "b.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=3000000,AVERAGE-BANDWIDTH=2500000,RESOLUTION=1280x720", "c.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=640x360", "d.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=200000", "e.m3u8",
    )  # fmt: skip
    assert [track.name for track in read.tracks] == ["Full HD", "720p-5000k", "720p-2500k", "360p", "200k"]
    first = read.tracks[0]
    assert (first.width, first.height, first.bitrate_kbps, first.codecs) == (1920, 1080, 9000.0, "av01.0,mp4a.40.2")


def test_the_same_rendition_on_several_servers_has_backups() -> None:
    """Everything but address, sound and pathway is equal; another rate is another rendition."""
    same = 'BANDWIDTH=2000000,RESOLUTION=1280x720,CODECS="avc1"'
    read = parse_master_playlist(
        f'#EXT-X-STREAM-INF:{same},AUDIO="a",PATHWAY-ID="A"', "https://a.example.com/v.m3u8",
        f'#EXT-X-STREAM-INF:{same},AUDIO="b",PATHWAY-ID="B"', "https://b.example.com/v.m3u8",
        '#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=1280x720,CODECS="avc1"', "https://b.example.com/w.m3u8",
    )  # fmt: skip
    assert [track.name for track in read.tracks] == ["720p-2000k", "720p-1000k"]
    assert [(origin.url, origin.pathway) for origin in read.tracks[0].origins] == [
        ("https://a.example.com/v.m3u8", "A"), ("https://b.example.com/v.m3u8", "B"),
    ]  # fmt: skip


def test_the_same_playlist_with_other_sound_is_one_rendition() -> None:
    """Variants that differ in their audio group share their pictures."""
    read = parse_master_playlist(
        '#EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720,AUDIO="stereo"', "v.m3u8",
        '#EXT-X-STREAM-INF:BANDWIDTH=2300000,RESOLUTION=1280x720,AUDIO="surround"', "v.m3u8",
    )  # fmt: skip
    assert [track.name for track in read.tracks] == ["720p"]


def test_sound_and_key_frame_playlists_are_no_renditions() -> None:
    """Audio-only variants and I-frame playlists are left out."""
    read = parse_master_playlist(
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",URI="en.m3u8"',
        '#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"', "audio.m3u8",
        '#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.4d,mp4a.40.2"', "video.m3u8",
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,URI="iframes.m3u8"',
        "#EXT-X-IMAGE-STREAM-INF:URI=oops",
    )  # fmt: skip
    assert [track.url.rsplit("/")[-1] for track in read.tracks] == ["video.m3u8"]


def test_a_master_playlist_without_video_is_a_failure() -> None:
    """There is nothing to look at."""
    with pytest.raises(SegmentError, match="no video"):
        parse_master_playlist('#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"', "audio.m3u8")


@given(
    st.lists(
        st.tuples(
            st.floats(0, 60).map(lambda seconds: round(seconds, 3)),
            st.booleans(),
            st.booleans(),
            st.one_of(st.none(), st.tuples(st.integers(1, 10**9), st.integers(0, 10**9))),
        ),
        max_size=30,
    ),
    st.integers(0, 2**60),
)
def test_a_written_playlist_is_parsed_as_it_was_written(
    written: list[tuple[float, bool, bool, tuple[int, int] | None]], first: int
) -> None:
    """Any mixture of durations, gaps, discontinuities and ranges comes out in order and complete."""
    lines = [f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number, (seconds, gap, jump, part) in enumerate(written):
        lines += ["#EXT-X-GAP"] * gap + ["#EXT-X-DISCONTINUITY"] * jump + [f"#EXTINF:{seconds},"]
        lines += [f"#EXT-X-BYTERANGE:{part[0]}@{part[1]}"] if part else []
        lines.append(f"{number}.ts")
    read = [
        (
            entry.duration_seconds,
            entry.is_gap,
            entry.is_discontinuity,
            (entry.byte_range.length_bytes, entry.byte_range.offset_bytes) if entry.byte_range else None,
        )
        for entry in parse_media_playlist(*lines).entries
    ]
    assert read == written
    assert [entry.sequence for entry in parse_media_playlist(*lines).entries] == list(
        range(first, first + len(written))
    )


def check(read: MasterPlaylist | MediaPlaylist) -> None:
    """Whatever was read can be counted with."""
    if isinstance(read, MasterPlaylist):
        assert read.tracks
        return
    for entry in read.entries:
        assert isinstance(entry, PlaylistEntry)
        assert 0 <= entry.duration_seconds <= 86_400
        assert entry.media_location


NOISE = ('"', "'", ",", "=", ":", "@", "-1", "9" * 30, "1e999", "nan", "\x00", "[", "{$x}")


def mutated(text: str, chance: random.Random) -> str:
    """The text with a few lines or letters lost, doubled, swapped or replaced."""
    lines = text.split("\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        line = lines[at]
        cut = chance.randrange(len(line) + 1)
        lines[at] = chance.choice(
            (
                line[:cut],
                line[cut:],
                line[:cut] + chance.choice(NOISE) + line[cut:],
                line.replace(":", "", 1),
                line + chance.choice(lines),
                chance.choice(lines),
            )
        )  # fmt: skip
    return "\n".join(lines)


SEEDS = [
    "\n".join(
        (
            "#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:6", "#EXT-X-MEDIA-SEQUENCE:7",
            '#EXT-X-DEFINE:NAME="x",VALUE="y"', '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x00',
            '#EXT-X-MAP:URI="i.mp4",BYTERANGE="9@1"', "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z", "#EXTINF:6.0,t",
            "#EXT-X-BYTERANGE:10@20", "{$x}.m4s", "#EXT-X-DISCONTINUITY", "#EXT-X-GAP", "#EXTINF:6,", "b.m4s",
            '#EXT-X-PART:DURATION=1,URI="p"', "#EXT-X-ENDLIST",
        )
    ),
    "\n".join(
        (
            "#EXTM3U", '#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="g",NAME="N",URI="n.m3u8"',
            '#EXT-X-STREAM-INF:BANDWIDTH=800000,AVERAGE-BANDWIDTH=700000,RESOLUTION=1280x720,CODECS="avc1",VIDEO="g"',
            "v.m3u8", '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i.m3u8"',
        )
    ),
]  # fmt: skip


def test_two_thousand_damaged_playlists_give_a_listing_or_a_failure() -> None:
    """Nothing but SegmentError("playlist") is ever raised."""
    chance = random.Random(11)
    understood = 0
    for number in range(2000):
        text = mutated(SEEDS[number % 2], chance)
        try:
            check(parse_hls(text, URL))
        except SegmentError as error:
            assert error.reason in ("playlist", "no_video"), text  # noqa: PT017
        else:
            understood += 1
    assert 200 < understood < 2000


@given(st.text())
def test_any_text_gives_a_listing_or_a_failure(text: str) -> None:
    """Also what is no playlist at all."""
    with suppress(SegmentError):
        check(parse_hls("#EXTM3U\n" + text, URL))


LISTED = {
    "hls-aes-256/media.m3u8": (5, 4.0),
    "hls-gap/playlist.m3u8": (8, 5.0),
    "hls-mp4-muxed-aac-h264/hls.m3u8": (1, 2.0),
    "hls-multivideo/blue_1.m3u8": (1, 4.0),
    "hls-multivideo/original_128k.m3u8": (1, 5.0),
    "hls-muxed-mp4-ts/mp4.m3u8": (1, 8.0),
    "hls-muxed-mp4-ts/ts.m3u8": (1, 8.0),
    "hls-ts-b-frames/playlist.m3u8": (1, 6.0),
    "hls-ts-h264/prog_index.m3u8": (6, 6.0),
    "hls-ts-h265/index.m3u8": (2, 12.0),
    "hls-ts-rollover/playlist.m3u8": (10, 2.0),
}


OFFERED = {
    "hls-multivideo/master.m3u8": ["720p", "720p-GREEN", "720p-BLUE", "360p", "360p-GREEN", "360p-BLUE"],
    "hls-muxed-mp4-ts/master.m3u8": ["1080p60 AV1", "720p"],
    "hls-ts-b-frames/index.m3u8": ["720p"],
    "hls-ts-h265/hevc.m3u8": ["360p"],
}


def read_file(shared: Path, name: str) -> MasterPlaylist | MediaPlaylist:
    file = shared / "streams" / name
    return parse_hls(file.read_text(), file.as_uri())


@pytest.mark.fixtures
@pytest.mark.parametrize("name", LISTED)
def test_a_real_media_playlist_is_listed(shared: Path, name: str) -> None:
    """As many segments as it has, all ended, with its target duration."""
    read = read_file(shared, name)
    assert isinstance(read, MediaPlaylist)
    assert (len(read.entries), read.target_seconds, read.is_ended) == (*LISTED[name], True)


@pytest.mark.fixtures
@pytest.mark.parametrize("name", OFFERED)
def test_a_real_master_playlist_offers_its_video(shared: Path, name: str) -> None:
    """Camera angles are there, sound is not."""
    read = read_file(shared, name)
    assert isinstance(read, MasterPlaylist)
    assert [track.name for track in read.tracks] == OFFERED[name]


@pytest.mark.fixtures
def test_real_gaps_and_dates_are_found(shared: Path) -> None:
    """Segments 1 and 5 of the gap stream are missing; the rollover stream is dated."""
    gaps, dated = read_file(shared, "hls-gap/playlist.m3u8"), read_file(shared, "hls-ts-rollover/playlist.m3u8")
    assert isinstance(gaps, MediaPlaylist)
    assert isinstance(dated, MediaPlaylist)
    assert [entry.sequence for entry in gaps.entries if entry.is_gap] == [0, 4]
    assert dated.entries[-1].starts_at == datetime(2024, 3, 4, 23, 2, 35, 684_000, UTC)
