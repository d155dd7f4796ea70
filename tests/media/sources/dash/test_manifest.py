"""Parsing of MPDs: periods, tracks, live windows, protection and limits."""

import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from tests.media.sources.dash.rig import (
    BASE,
    DYNAMIC,
    ORIGIN,
    STATIC,
    URL,
    file_names,
    list_segments,
    parse_mpd_body,
    period,
)
from vqmon.core.types import Encryption
from vqmon.errors import SegmentError
from vqmon.media.fetch.decryption import split_encryption_fragment
from vqmon.media.sources.dash.manifest import Manifest
from vqmon.media.sources.dash.parser import parse_mpd
from vqmon.media.sources.dash.segments import IndexLocation
from vqmon.media.sources.dash.sidx import parse_sidx
from vqmon.media.sources.dash.timeline import MAX_NEWEST_SEGMENTS


def test_base_addresses_chain() -> None:
    """Each level starts from the one above; the first of several is taken."""
    body = """<BaseURL>https://a.example.com/x/</BaseURL><BaseURL>https://b.example.com/</BaseURL>
      <Period><BaseURL>p/</BaseURL><AdaptationSet contentType="video"><BaseURL>../q/</BaseURL>
      <Representation id="v"><BaseURL>r/</BaseURL><SegmentTemplate media="$Number$" duration="20"/></Representation>
      </AdaptationSet></Period>"""
    assert file_names(list_segments(parse_mpd_body(STATIC, body))) == ["https://a.example.com/x/q/r/1"]


def test_periods_follow_one_another() -> None:
    """Numbers begin again in each period, ours do not; the border is a discontinuity."""
    template = '<SegmentTemplate media="{}-$Number$" duration="5" initialization="{}.mp4"/>'
    body = period(template.format("a", "a"), attributes='duration="PT10S"') + period(template.format("b", "b"))
    listing = list_segments(parse_mpd_body(STATIC, body))
    assert file_names(listing) == ["a-1", "a-2", "b-1", "b-2"]
    assert [entry.sequence for entry in listing.entries] == [0, 1, 2, 3]
    assert [entry.is_discontinuity for entry in listing.entries] == [False, False, True, False]
    assert [entry.init_url for entry in listing.entries] == [f"{BASE}/{x}.mp4" for x in "aabb"]


def test_a_track_goes_on_in_a_period_with_another_ladder() -> None:
    """Advertisements have other renditions: the most similar one is taken, so that no lane falls silent."""
    template = '<SegmentTemplate media="$RepresentationID$-$Number$" duration="5"/>'
    main = '<Representation id="hd" height="1080"/><Representation id="sd" height="360"/>'
    other = '<Representation id="ad-480" height="480"/><Representation id="ad-720" height="720"/>'
    body = period(template, attributes='duration="PT5S"', representations=other) + period(
        template, representations=main
    )
    manifest = parse_mpd_body(STATIC, body)
    assert [track.name for track in manifest.tracks] == ["1080p", "360p"]
    assert [file_names(manifest.media_playlist(track, ORIGIN, {}))[0] for track in manifest.tracks] == [
        "ad-720-1",
        "ad-480-1",
    ]


def test_live_segments_are_listed_when_they_are_complete() -> None:
    """No segment before its end, none that is no longer kept; moments and numbers come from the wall clock."""
    manifest = parse_mpd_body(
        f'{DYNAMIC} timeShiftBufferDepth="PT10S"',
        period('<SegmentTemplate media="$Number$" duration="2"/>', attributes='start="PT0S"'),
    )
    assert file_names(list_segments(manifest, at=1.9)) == []
    listing = list_segments(manifest, at=100.6)
    assert file_names(listing) == ["46", "47", "48", "49", "50"]
    assert listing.entries[-1].starts_at == ORIGIN + timedelta(seconds=98)
    step = [(entry.sequence, entry.next_sequence) for entry in listing.entries[-2:]]
    milliseconds = round(ORIGIN.timestamp() * 1000)
    assert step == [(milliseconds + 96_000, milliseconds + 98_000), (milliseconds + 98_000, milliseconds + 100_000)]
    assert not listing.is_ended


def test_a_live_stream_without_a_window_lists_its_newest_segments() -> None:
    """Without timeShiftBufferDepth there may be years of it."""
    manifest = parse_mpd_body(DYNAMIC, period('<SegmentTemplate media="$Number$" duration="2"/>'))
    listing = list_segments(manifest, at=1e8)
    assert len(listing.entries) == MAX_NEWEST_SEGMENTS


def test_a_live_timeline_is_trusted_and_open_repeats_end_now() -> None:
    """What a timeline lists is there; r=-1 runs up to the present."""
    body = """<SegmentTemplate media="$Time$"><SegmentTimeline><S t="90" d="4"/><S t="94" d="2" r="-1"/>
      </SegmentTimeline></SegmentTemplate>"""
    assert file_names(list_segments(parse_mpd_body(DYNAMIC, period(body)), at=100.6)) == ["90", "94", "96", "98"]


def test_a_sliding_timeline_keeps_its_numbers() -> None:
    """The same segment has the same number in every update, whatever startNumber says."""

    def at(first: int) -> dict[str, int]:
        body = f"""<SegmentTemplate media="$Time$" timescale="1000" startNumber="{first}"><SegmentTimeline>
          <S t="{first * 1921}" d="1921" r="5"/></SegmentTimeline></SegmentTemplate>"""
        return {
            entry.url: entry.sequence for entry in list_segments(parse_mpd_body(DYNAMIC, period(body)), at=1e6).entries
        }

    earlier, later = at(40), at(43)
    assert {url: later[url] for url in later if url in earlier} == {
        url: earlier[url] for url in earlier if url in later
    }
    assert len(earlier.keys() & later.keys()) == 3


def test_a_live_stream_that_became_a_recording_keeps_its_numbers() -> None:
    """type=static with the same origin: the lane goes on and then ends."""
    template = period('<SegmentTemplate media="$Number$" duration="2"/>', attributes='start="PT0S"')
    recording = parse_mpd_body(
        'type="static" availabilityStartTime="2026-01-01T00:00:00Z" mediaPresentationDuration="PT20S"', template
    )
    live = list_segments(parse_mpd_body(DYNAMIC, template), at=20.6)
    assert list_segments(recording).entries == live.entries
    assert list_segments(recording).is_ended


def test_a_vod_whose_times_count_from_1970_has_no_start_times() -> None:
    """Such an origin only says that times count from zero."""
    manifest = parse_mpd_body(
        'type="static" availabilityStartTime="1970-01-01T00:00:00Z" mediaPresentationDuration="PT4S"',
        period('<SegmentTemplate media="$Number$" duration="2"/>'),
    )
    assert [(entry.sequence, entry.starts_at) for entry in list_segments(manifest).entries] == [(0, None), (1, None)]


def test_an_event_that_is_not_updated_ends_with_its_duration() -> None:
    """dynamic, without minimumUpdatePeriod, with a duration."""
    manifest = parse_mpd_body(
        'type="dynamic" availabilityStartTime="2026-01-01T00:00:00Z" mediaPresentationDuration="PT10S"',
        period('<SegmentTemplate media="$Number$" duration="2"/>'),
    )
    assert [list_segments(manifest, at=at).is_ended for at in (5, 12)] == [False, True]
    assert len(list_segments(manifest, at=12).entries) == 5


def test_the_location_element_moves_the_next_update() -> None:
    """Location."""
    body = "<Location>next.mpd?session=7</Location>" + period('<SegmentTemplate media="$Number$" duration="2"/>')
    assert parse_mpd_body(DYNAMIC, body).location == f"{BASE}/next.mpd?session=7"
    assert parse_mpd_body(DYNAMIC, period("")).location == URL


def test_only_video_makes_tracks() -> None:
    """Sound, text, thumbnails, trick modes and enhancement layers are left out."""
    trick = "http://dashif.org/guidelines/trickmode"
    body = f"""<Period>
      <AdaptationSet contentType="audio"><Representation id="a"/></AdaptationSet>
      <AdaptationSet mimeType="application/ttml+xml"><Representation id="t"/></AdaptationSet>
      <AdaptationSet contentType="image"><Representation id="i" width="100"/></AdaptationSet>
      <AdaptationSet contentType="video"><EssentialProperty schemeIdUri="{trick}"/><Representation id="k"/>
      </AdaptationSet>
      <AdaptationSet><ContentComponent contentType="video"/><Representation id="v1" height="1"/></AdaptationSet>
      <AdaptationSet><Representation id="v2" mimeType="video/mp4" height="2"/></AdaptationSet>
      <AdaptationSet><Representation id="v3" width="3"/><Representation id="v4" width="3" dependencyId="v3"/>
      </AdaptationSet>
    </Period>"""
    assert [track.id for track in parse_mpd_body(STATIC, body).tracks] == ["v1", "v2", "v3"]


def test_content_protection_is_read() -> None:
    """Common encryption is named; encryption of whole segments with one key can be undone."""

    def encryption(inner: str) -> tuple[Encryption | None, Encryption | None]:
        template = '<SegmentTemplate media="$Number$" initialization="i.mp4" duration="20"/>'
        (entry,) = list_segments(parse_mpd_body(STATIC, period(inner + template))).entries
        return entry.encryption, split_encryption_fragment(entry.init_url or "")[1]

    common = '<ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="{}"/>'
    whole = """<ContentProtection schemeIdUri="urn:mpeg:dash:sea:2012">
      <SegmentEncryption schemeIdUri="urn:mpeg:dash:sea:{}:2013"/><CryptoPeriod IV="0x1F" keyUriTemplate="{}"/>
      </ContentProtection>"""
    key = Encryption(method="AES-128", key_url=f"{BASE}/key", iv_hex=f"{31:032x}")
    assert encryption("") == (None, None)
    assert encryption(common.format("cbcs")) == (Encryption(method="cbcs"), None)
    assert encryption('<ContentProtection schemeIdUri="urn:uuid:x"/>') == (Encryption(method="cenc"), None)
    assert encryption(whole.format("aes128-cbc", "key")) == (key, key)
    assert encryption(whole.format("aes128-gcm", "key")) == (Encryption(method="sea"), None)
    assert encryption(whole.format("aes128-cbc", "key-$Number$")) == (Encryption(method="sea"), None)


BOMB = '<!DOCTYPE MPD [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><MPD>&b;</MPD>'


OUTSIDE = '<!DOCTYPE MPD [<!ENTITY a SYSTEM "file:///etc/passwd">]><MPD>&a;</MPD>'


@pytest.mark.parametrize(
    "text",
    [
        "", "<MPD", "<html/>", "not xml", BOMB, OUTSIDE, "<MPD/>", "<MPD><Period/></MPD>",
        '<?xml version="1.0" encoding="klingon"?><MPD/>',
        "<MPD><BaseURL>file:///etc/</BaseURL></MPD>",
        "<MPD><BaseURL>http://[</BaseURL></MPD>",
        '<MPD mediaPresentationDuration="soon"/>',
        f"<MPD type='dynamic'><Period start='P{'9' * 40}D'/></MPD>",
    ],
)  # fmt: skip
def test_an_unusable_mpd_is_a_playlist_failure(text: str) -> None:
    """Entities are refused, not expanded."""
    with pytest.raises(SegmentError) as caught:
        parse_mpd(text.encode(), URL)
    assert caught.value.reason == "playlist"


@pytest.mark.parametrize(
    "addressing",
    [
        '<SegmentTemplate media="$Number$" duration="0"/>',
        '<SegmentTemplate media="$Number$" duration="1" timescale="0"/>',
        '<SegmentTemplate media="$Number$" duration="1" timescale="1000000"/>',
        '<SegmentTemplate media="$Number$" duration="x"/>',
        '<SegmentTemplate media="$Number$"/>',
        '<SegmentTemplate duration="1"/>',
        '<SegmentTemplate media="http://[" duration="4"/>',
        '<SegmentTemplate media="$Number$" initialization="$Number$" duration="4"/>',
        '<SegmentTemplate media="file:///etc/passwd" duration="4"/>',
        '<SegmentTemplate media="$Time$"><SegmentTimeline><S t="0" d="-1"/></SegmentTimeline></SegmentTemplate>',
        '<SegmentTemplate media="$Time$" timescale="9999"><SegmentTimeline><S d="1" r="999999999"/></SegmentTimeline>'
        "</SegmentTemplate>",
        '<SegmentTemplate media="$Time$" timescale="9999"><SegmentTimeline><S t="0" d="1" r="-1"/></SegmentTimeline>'
        "</SegmentTemplate>",
        '<SegmentBase indexRange="9-3"/>',
    ],
)
def test_invalid_addressing_is_a_playlist_failure(addressing: str) -> None:
    """Neither endless nor impossible lists are made."""
    with pytest.raises(SegmentError) as caught:
        list_segments(parse_mpd_body('type="static" mediaPresentationDuration="PT200S"', period(addressing)))
    assert caught.value.reason == "playlist"


def test_addresses_in_a_live_list_belong_to_its_timeline_from_its_first_segment_on() -> None:
    """Also to segments that have left the time-shift buffer."""
    timeline = '<SegmentTimeline><S t="0" d="4" r="4"/></SegmentTimeline>'
    addresses = "".join(f'<SegmentURL media="s{number}"/>' for number in range(5))
    body = period(f'<SegmentList startNumber="7">{timeline}{addresses}</SegmentList>')
    manifest = parse_mpd_body(f'{DYNAMIC} timeShiftBufferDepth="PT10S"', body)
    assert file_names(list_segments(manifest, at=21)) == ["s2", "s3", "s4"]


SEED = f"""<MPD {DYNAMIC} timeShiftBufferDepth="PT60S" mediaPresentationDuration="PT1H">
<BaseURL>x/</BaseURL><Period id="1" start="PT0S" duration="PT1M"><AdaptationSet mimeType="video/mp4">
<SegmentTemplate timescale="90000" media="$RepresentationID$-$Number%04d$.m4s" initialization="i" startNumber="3">
<SegmentTimeline><S t="0" d="180000" r="20"/><S d="90000" r="-1"/></SegmentTimeline></SegmentTemplate>
<Representation id="1" bandwidth="1" width="1280" height="720"/>
<Representation id="2" bandwidth="2" height="360"><SegmentList duration="2"><Initialization range="0-9"/>
<SegmentURL media="a" mediaRange="1-2"/></SegmentList></Representation></AdaptationSet></Period>
<Period start="PT1M"><AdaptationSet contentType="video"><SegmentTemplate duration="2" media="$Number$"/>
<Representation id="1"/><Representation id="3"><BaseURL>f</BaseURL><SegmentBase indexRange="1-9"/></Representation>
</AdaptationSet></Period></MPD>"""


def mutated(chance: random.Random) -> str:
    """The MPD with a few letters and numbers lost, doubled or replaced."""
    text = SEED
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.choice((0, 1, 1, 3, 12)))
        noise = chance.choice(
            ("", "", "0", "-1", "9", "9" * 19, "1e9", "$", '"', "<S/>", "T", "P", ":", "[", text[start:end] * 2)
        )
        text = text[:start] + noise + text[end:]
    return text


def test_two_thousand_damaged_mpds_give_a_listing_or_a_failure() -> None:
    """Nothing but SegmentError("playlist") is ever raised."""
    chance = random.Random(13)
    understood = 0
    for _ in range(2000):
        text = mutated(chance)
        try:
            manifest = parse_mpd(text.encode(), URL)
            for track in manifest.tracks:
                listing = manifest.media_playlist(track, ORIGIN + timedelta(seconds=100), {})
                assert all(0 <= entry.duration_seconds <= 86_400 for entry in listing.entries)
        except SegmentError as error:
            assert error.reason == "playlist", text  # noqa: PT017
        else:
            understood += 1
    assert 200 < understood < 2000


def read_file(shared: Path, name: str) -> Manifest:
    file = shared / "streams" / name
    return parse_mpd(file.read_bytes(), file.as_uri())


@pytest.mark.fixtures
def test_a_real_timeline_with_encryption_is_listed(shared: Path) -> None:
    """Five segments are written, four fit into the presentation, and its key is at a plain address."""
    manifest = read_file(shared, "dash-aes-128/dash.mpd")
    listing = list_segments(manifest)
    assert [entry.url.rsplit("/")[-1] for entry in listing.entries] == [
        f"Fragments(video={time},format=mpd-time-csf)" for time in (0, 20000000, 40000000, 60000000)
    ]
    encryption = listing.entries[0].encryption
    assert encryption is not None
    assert encryption.key_url == (shared / "streams/dash-aes-128/license").as_uri()


@pytest.mark.fixtures
def test_a_real_index_is_listed(shared: Path) -> None:
    """One file of a minute, cut by its sidx box; the two sounds are left out."""
    manifest = read_file(shared, "dash-multi-codec/dash.mpd")
    (track,) = manifest.tracks
    (location,) = manifest.index_locations(track)
    film = (shared / "streams/dash-multi-codec/video_144p_108k_h264.mp4").read_bytes()
    end = location.byte_range.offset_bytes + location.byte_range.length_bytes
    box = film[location.byte_range.offset_bytes : end]
    indexes: Mapping[IndexLocation, tuple[object, ...]] = {location: parse_sidx(box, offset_bytes=860)}
    entries = list_segments(manifest, indexes=indexes).entries  # type: ignore[arg-type]
    last = entries[-1].byte_range
    assert (track.name, len(entries)) == ("144p", 15)
    assert sum(entry.duration_seconds for entry in entries) == pytest.approx(60, abs=0.1)
    assert last is not None
    assert last.offset_bytes + last.length_bytes == len(film)
