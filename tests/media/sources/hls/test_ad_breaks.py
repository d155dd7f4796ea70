"""Ad breaks as playlists tell them, by cue tags and by date ranges, and as the label of segments."""

import base64

import pytest

from tests.media.sources.hls_playlists import URL, parse_media_playlist
from tests.media.sources.rig import MAIN, NOON, cursor_after
from vqmon.core.types import AD_BREAK_LABEL, Segment
from vqmon.media.sources.follower import PlaylistFollower
from vqmon.media.sources.hls.ad_breaks import read_cue
from vqmon.media.sources.media_playlist import AdCue

SPLICE = "/DAlAAAAAAAAAP/wFAUAAqbVf+/+AAAAAH4AUmXAAAAAAAAAdIQsGg=="
"""The start of a break of 60 s (Comcast/scte35-js #13)."""


def time_signal(segmentation_type: int) -> bytes:
    """A splice_info_section (SCTE 35) with one segmentation descriptor, which states no duration."""
    descriptor = b"CUEI" + bytes(4) + b"\x7f\xbf\0\0" + bytes([segmentation_type, 0, 0])
    loop = bytes([2, len(descriptor)]) + descriptor
    body = bytes(7) + b"\xff\xf0\x05\x06\x7f" + len(loop).to_bytes(2, "big") + loop + bytes(4)
    return b"\xfc" + (0x3000 | len(body)).to_bytes(2, "big") + body


def playlist(*tags: str, first: int = 0, date: str = "") -> str:
    """One segment of 6 s per tag, which stands before it; "" = none. A date is that of the first segment."""
    lines = [f"#EXT-X-MEDIA-SEQUENCE:{first}", *([f"#EXT-X-PROGRAM-DATE-TIME:{date}"] if date else [])]
    for number, tag in enumerate(tags, first):
        lines += [*([tag] if tag else []), "#EXTINF:6,", f"s{number}.ts"]
    return "\n".join(lines)


def breaks_of(*playlists: str) -> str:
    """A for each segment in an ad break and - for each other one, over versions of one playlist."""
    follower, text = PlaylistFollower(MAIN, URL), ""
    for version in playlists:
        for item in follower.update(parse_media_playlist(*version.split("\n")), NOON):
            assert isinstance(item, Segment)
            text += "A" if item.labels.get(AD_BREAK_LABEL) == "yes" else "-"
    return text


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["", "#EXT-X-CUE-OUT:12", "", "", ""], "-AA--"),
        (["", "#EXT-X-CUE-OUT:DURATION=18", "", "", "#EXT-X-CUE-IN", ""], "-AAA--"),
        # an end that comes before the announced one, and one that is told by a cue only
        (["#EXT-X-CUE-OUT:60", "", "#EXT-X-CUE-IN", ""], "AA--"),
        (["#EXT-X-CUE-OUT", "", "", "#EXT-X-CUE-IN"], "AAA-"),
        (["#EXT-X-CUE-OUT-CONT:18/30", "", ""], "AA-"),
        (["#EXT-X-CUE-OUT-CONT:ElapsedTime=18.0,Duration=30", "", ""], "AA-"),
        (['#EXT-X-SCTE35:TYPE=0x34,CUE-OUT=YES,DURATION=12,CUE="/DA"', "", ""], "AA-"),
        (["#EXT-X-SCTE35:CUE-OUT=YES", "#EXT-X-SCTE35:CUE-IN=YES"], "A-"),
        (['#EXT-X-CUE:TYPE="SpliceOut",ID="1",TIME=0,DURATION="12.0"', "", ""], "AA-"),
        (['#EXT-X-CUE:DURATION="30",TYPE="SpliceOut",ELAPSED="18"', "", ""], "AA-"),
        (["#EXT-X-CUE:TYPE=SpliceOut", "", '#EXT-X-CUE:TYPE="SpliceIn"', '#EXT-X-CUE:TYPE="x"'], "AA--"),
        # the splice message of 60 s says what the tag does not
        ([f'#EXT-X-SCTE35:TYPE=0x05,CUE="{SPLICE}"', *[""] * 10], "A" * 10 + "-"),
        ([f'#EXT-X-SCTE35:CUE-OUT=NO,CUE="{SPLICE}"', ""], "--"),
        # nothing that a packager may write ends the playlist
        (["#EXT-X-CUE-OUT:soon", "#EXT-X-CUE-IN", "#EXT-X-SCTE35"], "A--"),
    ],
)
def test_cue_tags(tags: list[str], expected: str) -> None:
    """With durations, without, in the middle of a break."""
    assert breaks_of(playlist(*tags)) == expected


def test_a_break_goes_on_when_its_cue_has_left_the_playlist() -> None:
    """A live window of two segments."""
    first, second = playlist("#EXT-X-CUE-OUT:24", ""), playlist("", "", "", first=2)
    assert breaks_of(first, second) == "AAAA-"


def test_a_live_playlist_that_lists_only_the_end_begins_within_the_break() -> None:
    """As after a restart, when the cue has left it; a recording that lists a stray end does not."""
    listing = playlist("", "", "#EXT-X-CUE-IN", "", first=7)
    assert breaks_of(listing) == "AA--"
    assert breaks_of(listing + "\n#EXT-X-ENDLIST") == "----"
    assert breaks_of(playlist("", "#EXT-X-CUE-OUT:6", "#EXT-X-CUE-IN")) == "-A-"


@pytest.mark.parametrize("date", ["", "2026-11-20T12:00:00Z"])
@pytest.mark.parametrize("taken", range(1, 6))
def test_a_break_goes_on_after_a_restart(taken: int, date: str) -> None:
    """The cue is still listed, before the first segment that is new."""
    text, labels = playlist("", "#EXT-X-CUE-OUT:18", "", "", "", "", date=date).split("\n"), []
    before = PlaylistFollower(MAIN, URL).update(parse_media_playlist(*text), NOON)
    following = PlaylistFollower(MAIN, URL, cursor=cursor_after(before[taken - 1]))
    for item in [*before[:taken], *following.update(parse_media_playlist(*text), NOON)]:
        assert isinstance(item, Segment)
        labels.append(item.labels.get(AD_BREAK_LABEL))
    assert labels == [None, "yes", "yes", "yes", None, None]


def test_a_break_without_an_end_is_over_after_an_hour() -> None:
    """A lost cue does not mute a stream for ever."""
    text = breaks_of(playlist("#EXT-X-CUE-OUT", *[""] * 604))
    assert text == "A" * 600 + "-" * 5


@pytest.mark.parametrize(
    "attributes",
    [
        'START-DATE="2026-11-20T12:00:06Z",PLANNED-DURATION=12,SCTE35-OUT=0xFC',
        'START-DATE="2026-11-20T12:00:06Z",END-DATE="2026-11-20T12:00:18Z",SCTE35-OUT=0xFC',
        # the first tag has left a live playlist
        'START-DATE="2026-11-20T12:00:06Z",DURATION=12,SCTE35-IN=0xFC',
        'START-DATE="2026-11-20T12:00:06Z",SCTE35-OUT=0xFC\n#EXT-X-DATERANGE:ID="a",DURATION=12,SCTE35-IN=0xFC',
    ],
)
def test_date_ranges(attributes: str) -> None:
    """Segments that begin within the range, wherever its tags stand."""
    text = playlist("", "", "", "", f'#EXT-X-DATERANGE:ID="a",{attributes}', date="2026-11-20T12:00:00Z")
    assert breaks_of(text) == "-AA--"


@pytest.mark.parametrize("name", ["SCTE35-OUT", "SCTE35-CMD"])
def test_a_date_range_lasts_as_long_as_its_splice_message_says(name: str) -> None:
    """60 s, where the range has no duration."""
    message = f"0x{base64.b64decode(SPLICE).hex().upper()}"
    tag = f'#EXT-X-DATERANGE:ID="a",START-DATE="2026-11-20T12:00:06Z",{name}={message}'
    assert breaks_of(playlist(tag, *[""] * 12, date="2026-11-20T12:00:00Z")) == "-" + "A" * 10 + "--"


@pytest.mark.parametrize("end", ["SCTE35-IN=0xFC", "SCTE35-CMD={end}"])
@pytest.mark.parametrize("begin", ["SCTE35-OUT=0xFC", "SCTE35-CMD={begin}"])
def test_the_end_of_a_date_range_may_have_an_id_of_its_own(begin: str, end: str) -> None:
    """Of a break that states no duration; without one it would last an hour."""
    messages = {name: f"0x{time_signal(kind).hex()}" for name, kind in (("begin", 0x34), ("end", 0x35))}
    tags = [
        f'#EXT-X-DATERANGE:ID="a",START-DATE="2026-11-20T12:00:06Z",{begin.format(**messages)}',
        f'#EXT-X-DATERANGE:ID="b",START-DATE="2026-11-20T12:00:18Z",{end.format(**messages)}',
    ]
    assert breaks_of(playlist(*tags, "", "", "", date="2026-11-20T12:00:00Z")) == "-AA--"


def test_other_date_ranges_are_no_ad_breaks() -> None:
    """A chapter, one without a time, and an end that tells no other time."""
    text = playlist(
        '#EXT-X-DATERANGE:ID="c",START-DATE="2026-11-20T12:00:00Z",DURATION=60',
        '#EXT-X-DATERANGE:ID="d",SCTE35-OUT=0xFC',
        '#EXT-X-DATERANGE:ID="f",START-DATE="2026-11-20T12:00:00Z",SCTE35-IN=0xFC',
        date="2026-11-20T12:00:00Z",
    )
    assert breaks_of(text) == "---"


def test_a_tag_that_is_no_cue() -> None:
    """EXT-X-SCTE35 carries other messages too."""
    assert read_cue("#EXT-X-SCTE35", "TYPE=0x10", {"type": "0x10"}) is None
    assert read_cue("#EXT-X-CUE-OUT", "", {}) == AdCue(begins=True)
