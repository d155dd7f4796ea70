"""Conditions of playlists and MPDs that people reported of other tools, a row each: what is listed of them.

A line of the expected list is `rendition sequence file seconds` for a segment, and `rendition sequence reason: detail`
for a failure, whose detail may go on.
"""

import base64
import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.media.sources.rig import NOON, Fetcher
from vqmon.core.types import SegmentFailure
from vqmon.errors import SegmentError
from vqmon.media.fetch.fetcher import FetchPolicy
from vqmon.media.sources.follower import SegmentOrFailure
from vqmon.media.sources.playlist import discover_segments

Files = dict[str, str | bytes]


def hls(*lines: str) -> str:
    return "\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines, "#EXT-X-ENDLIST"))


def master(*lines: str) -> str:
    return "\n".join(("#EXTM3U", *lines))


def mpd(body: str, *, attributes: str = 'mediaPresentationDuration="PT4S"') -> str:
    return f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"
      xmlns:xlink="http://www.w3.org/1999/xlink" type="static" {attributes}>{body}</MPD>"""


def adaptation_set(attributes: str = 'mimeType="video/mp4"', inner: str = "", *, id: str = "v") -> str:
    return f"""<AdaptationSet {attributes}>{inner}<SegmentTemplate duration="2" media="{id}$Number$.m4s"/>
      <Representation id="{id}" width="160" height="90" bandwidth="100000"/></AdaptationSet>"""


def sidx(references: list[tuple[int, int]], *, first: int = 0) -> bytes:
    """A sidx box of (size, or size + 2^31 for an index; seconds)."""
    body = struct.pack(">IIIHH", 1, 1, 0, first, 0)[:12] + struct.pack(">IHH", first, 0, len(references))
    body += b"".join(struct.pack(">III", size, seconds, 0x90000000) for size, seconds in references)
    return struct.pack(">I4sI", len(body) + 12, b"sidx", 0) + body


GOOD = ("#EXTINF:2,", "s0.ts", "#EXTINF:2,", "s1.ts")
BOTH = ["main 0 s0.ts 2", "main 1 s1.ts 2"]
ONE_SET = f"<Period>{adaptation_set()}</Period>"
VIDEO = ["90p 0 v1.m4s 2", "90p 1 v2.m4s 2"]
CHILD = sidx([(30, 2), (40, 2)])
ONE_FILE = """<Period><AdaptationSet mimeType="video/mp4"><Representation id="v" height="90"><BaseURL>v.mp4</BaseURL>
  <SegmentBase {}>{}</SegmentBase></Representation></AdaptationSet></Period>"""
SEGMENT_LIST = """<Period><AdaptationSet mimeType="video/mp4"><Representation id="v" height="90">
  <SegmentList duration="2">{}</SegmentList></Representation></AdaptationSet></Period>"""
COMPONENTS = '<ContentComponent contentType="audio"/><ContentComponent contentType="video"/>'
VARIANT = '#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=160x90,CODECS="avc1"'

HLS: dict[str, tuple[str | Files, list[str]]] = {
    "EXTINF without a duration": (hls("#EXTINF:,Song", *GOOD[1:]), ["main 0 s0.ts 0", "main 1 s1.ts 2"]),
    "EXTINF in quotes": (hls('#EXTINF:"2",', *GOOD[1:]), BOTH),
    "EXTINF with a word": (hls("#EXTINF:two,", *GOOD[1:]), ["main 0 s0.ts 0", "main 1 s1.ts 2"]),
    "EXTINF not a number": (hls("#EXTINF:nan,", *GOOD[1:]), ["main 0 s0.ts 0", "main 1 s1.ts 2"]),
    "EXTINF without a colon": (hls("#EXTINF", *GOOD[1:]), ["main 0 s0.ts 0", "main 1 s1.ts 2"]),
    "EXTINF with attributes and no comma": (
        hls('#EXTINF:2 tvg-id="x" group-title="a,b",Name', *GOOD[1:]),
        BOTH,
    ),
    "NULs behind the end": (hls(*GOOD) + "\n" + "\0" * 64, BOTH),
    "a variable that is not defined": (
        hls('#EXT-X-DEFINE:NAME="x",VALUE="s0"', "#EXTINF:2,", "{$y}.ts", "#EXTINF:2,", "{$x}.ts"),
        ["main 0 playlist: line 5: variable y is not defined", "main 1 s0.ts 2"],
    ),
    "a variable that cannot be imported": (hls('#EXT-X-DEFINE:IMPORT="x"', *GOOD), BOTH),
    "HTML around the playlist": (hls("<br />", *GOOD) + "\n<!-- cached -->", BOTH),
    "single quotes": (
        hls("#EXT-X-MAP:URI='i,1.mp4',BYTERANGE='10@0'", *GOOD),
        BOTH,
    ),
    "thumbnails only": (
        {"in": master(VARIANT, "t.m3u8"), "t.m3u8": hls("#EXT-X-IMAGES-ONLY", "#EXTINF:2,", "t.jpg")},
        ["90p 0 playlist: the playlist lists thumbnails only (EXT-X-IMAGES-ONLY)"],
    ),
    "RESOLUTION with blanks": (
        {"in": master("#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=160 x 90", "v.m3u8"), "v.m3u8": hls(*GOOD)},
        ["90p 0 s0.ts 2", "90p 1 s1.ts 2"],
    ),
    **{
        f"CODECS written as {codecs}": (
            {"in": master(f"#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS={codecs}", "v.m3u8"), "v.m3u8": hls(*GOOD)},
            ["900k 0 s0.ts 2", "900k 1 s1.ts 2"],
        )
        for codecs in (
            "mp4a.40.2,avc1.4d401f",
            "mp4a.40.2,avc1.4d401f,FRAME-RATE=25",
            "'mp4a.40.2,avc1.4d401f'",
            '"mp4a.40.2;avc1.4d401f"',
            '"mp4a.40.2 avc1.4d401f"',
        )
    },
    "an address without EXTINF": (hls("s0.ts", *GOOD[2:]), ["main 0 s0.ts 0", "main 1 s1.ts 2"]),
    "BYTERANGE without a number behind @": (
        hls("#EXTINF:2,", "#EXT-X-BYTERANGE:10@", "a.ts", "#EXTINF:2,", "#EXT-X-BYTERANGE:20@10", "a.ts"),
        ["main 0 a.ts@0+10 2", "main 1 a.ts@10+20 2"],
    ),
    "BYTERANGE in quotes": (hls("#EXTINF:2,", '#EXT-X-BYTERANGE:"10@5"', "a.ts"), ["main 0 a.ts@5+10 2"]),
    "BYTERANGE that is none": (
        hls("#EXTINF:2,", "#EXT-X-BYTERANGE:all", "s0.ts", *GOOD[2:]),
        ['main 0 playlist: line 4: EXT-X-BYTERANGE: "all" is no byte range', "main 1 s1.ts 2"],
    ),
    **{
        f"MEDIA-SEQUENCE {text or 'empty'}": (hls(f"#EXT-X-MEDIA-SEQUENCE:{text}", *GOOD), BOTH)
        for text in ("", "-11", "1.5", "x", str(2**63), str(2**64 + 1))
    },
    "MEDIA-SEQUENCE as a whole float": (hls("#EXT-X-MEDIA-SEQUENCE:7.0", *GOOD[:2]), ["main 7 s0.ts 2"]),
    "MEDIA-SEQUENCE in quotes": (hls('#EXT-X-MEDIA-SEQUENCE:"7"', *GOOD[:2]), ["main 7 s0.ts 2"]),
    "TARGETDURATION empty": (hls("#EXT-X-TARGETDURATION:", *GOOD), BOTH),
    "PROGRAM-DATE-TIME that is none": (hls("#EXT-X-PROGRAM-DATE-TIME:soon", *GOOD), BOTH),
    "an address that is none": (
        hls("#EXTINF:2,", "http://[/a.ts", *GOOD[2:]),
        ["main 0 playlist: line 4: an invalid URL", "main 1 s1.ts 2"],
    ),
    "MAP without an address": (
        hls("#EXT-X-MAP:X=1", *GOOD[:2], '#EXT-X-MAP:URI="i.mp4"', *GOOD[2:]),
        ["main 0 playlist: line 3: EXT-X-MAP: there is no URI", "main 1 s1.ts 2"],
    ),
    "AVERAGE-BANDWIDTH empty": (
        {"in": master(f"{VARIANT},AVERAGE-BANDWIDTH=", "v.m3u8"), "v.m3u8": hls(*GOOD)},
        [line.replace("main", "90p") for line in BOTH],
    ),
    "BANDWIDTH in quotes": (
        {"in": master('#EXT-X-STREAM-INF:BANDWIDTH="200000"', "v.m3u8"), "v.m3u8": hls(*GOOD)},
        [line.replace("main", "200k") for line in BOTH],
    ),
    "a variant whose address is none": (
        {"in": master(VARIANT, "http://[", VARIANT.replace("x90", "x180"), "v.m3u8"), "v.m3u8": hls(*GOOD)},
        [line.replace("main", "180p") for line in BOTH],
    ),
    "variants of subtitles and of sound": (
        {
            "in": master(
                '#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS="wvtt"', "t.m3u8",
                '#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS="stpp.ttml.im1t"', "u.m3u8",
                '#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"', "a.m3u8", VARIANT, "v.m3u8",
            ),
            "v.m3u8": hls(*GOOD),
        },
        [line.replace("main", "90p") for line in BOTH],
    ),
    "redundant variants, the first one away": (
        {"in": master(VARIANT, "cdn1/v.m3u8", VARIANT, "cdn2/v.m3u8"), "cdn2/v.m3u8": hls(*GOOD)},
        [f"90p {number} cdn2/s{number}.ts|cdn1/s{number}.ts 2" for number in (0, 1)],
    ),
    "a segment as data": (
        hls("#EXTINF:2,", f"data:video/mp2t;base64,{base64.b64encode(b'G' * 20_000).decode()}", *GOOD[2:]),
        ["main 0 data: 2", "main 1 s1.ts 2"],
    ),
    "compressed, and nothing says so": (gzip.compress(hls(*GOOD).encode()), BOTH),
    "spaces beside = in a variant": (
        {"in": master('#EXT-X-STREAM-INF: BANDWIDTH = 9 , RESOLUTION = 160x90 , CODECS = "avc1, mp4a"', "v.m3u8"),
         "v.m3u8": hls(*GOOD)},
        [line.replace("main", "90p") for line in BOTH],
    ),
    "attribute names in small letters": (
        {"in": master('#EXT-X-STREAM-INF:bandwidth=9,resolution=160x90', "v.m3u8"), "v.m3u8": hls(*GOOD)},
        [line.replace("main", "90p") for line in BOTH],
    ),
    "spaces beside = in MAP": (hls('#EXT-X-MAP: URI = "i.mp4"', *GOOD), BOTH),
    "spaces beside = in DEFINE": (
        hls('#EXT-X-DEFINE: NAME = "x", VALUE = "s0"', "#EXTINF:2,", "{$x}.ts", *GOOD[2:]), BOTH,
    ),
    "EXTM3U behind another tag": (hls(*GOOD).replace("#EXTM3U", "#EXT-X-VERSION:3\n#EXTM3U"), BOTH),
    "EXTM3U behind a comment": ("# made by hand\n\n" + hls(*GOOD), BOTH),
    "no EXTM3U": (hls(*GOOD).replace("#EXTM3U\n", ""), BOTH),
    "ends of lines that are none": (hls("#EXTINF:2,a\u2028b", "s0.ts", "#EXTINF:2,a\v\f\x1d\x85b", "s1.ts"), BOTH),
    "carriage returns": (hls(*GOOD).replace("\n", "\r"), BOTH),
    "UTF-16": (hls(*GOOD).encode("utf-16"), BOTH),
    "two byte order marks": (f"\ufeff\ufeff{hls(*GOOD)}", BOTH),
}  # fmt: skip


def timeline(entries: str, *, attributes: str = 'timescale="1"') -> str:
    return f"""<Period><AdaptationSet mimeType="video/mp4"><SegmentTemplate {attributes} media="v$Time$.m4s">
      <SegmentTimeline>{entries}</SegmentTimeline></SegmentTemplate><Representation id="v" height="90"/></AdaptationSet>
      </Period>"""


NO_END = "neither the MPD (mediaPresentationDuration) nor the Period (duration) has a usable duration"
BY_TIME = ["90p 0 v0.m4s 2", "90p 1 v2.m4s 2"]

DASH: dict[str, tuple[str | Files, list[str]]] = {
    "blank lines before the declaration": ("\n\n " + mpd(ONE_SET), VIDEO),
    **{
        f"mediaPresentationDuration {text!r}": (
            mpd(ONE_SET, attributes=text and f'mediaPresentationDuration="{text}"'),
            [f"90p 0 playlist: it is not known how many segments there are: {NO_END}"],
        )
        for text in ("", "unknown", "4", "-PT4S", "PT0S")
    },
    "a timeline in an MPD whose duration is 0": (
        mpd(timeline('<S t="0" d="2" r="1"/>'), attributes='mediaPresentationDuration="PT0S"'), BY_TIME,
    ),
    "a timeline that repeats without an end": (
        mpd(timeline('<S t="0" d="2" r="-1"/>'), attributes=""),
        [f"90p 0 playlist: the timeline repeats without an end: {NO_END}"],
    ),
    "S without d before another": (mpd(timeline('<S t="0"/><S t="2" d="2"/>')), BY_TIME),
    "S with a word for d behind another": (mpd(timeline('<S t="0" d="2"/><S d="two"/>')), BY_TIME),
    "S with a word for r": (mpd(timeline('<S t="0" d="2" r="y"/><S t="2" d="2"/>')), BY_TIME),
    "S that repeats without d": (mpd(timeline('<S t="0" r="1"/><S t="4" d="2"/>')), BY_TIME),
    "S with a word for t": (mpd(timeline('<S t="x" d="2"/>')), ['90p 0 playlist: t is not an integer: "x"']),
    "a single S without d": (mpd(timeline('<S t="0"/>')), ["90p 0 playlist: S 1 of the SegmentTimeline has no usable"]),
    "whole numbers as floats": (mpd(ONE_SET.replace('duration="2"', 'duration="2.0"')), VIDEO),
    "a timescale of 0": (
        mpd(ONE_SET.replace('duration="2"', 'duration="2" timescale="0"')),
        ["90p 0 playlist: timescale must be positive, not 0"],
    ),
    "numbers in hexadecimal digits": (
        mpd(ONE_SET.replace("$Number$", "$Number%03x$").replace('duration="2"', 'duration="2" startNumber="10"')),
        ["90p 0 v00a.m4s 2", "90p 1 v00b.m4s 2"],
    ),
    "numbers with a format and no width": (mpd(ONE_SET.replace("$Number$", "$Number%d$")), VIDEO),
    "UTF-16": (mpd(ONE_SET).replace('"1.0"', '"1.0" encoding="utf-16"').encode("utf-16"), VIDEO),
    "NULs behind the end": (mpd(ONE_SET) + "\n\0\0", VIDEO),
    "an ampersand that begins no entity": (
        mpd(f"<BaseURL>a/b?c=1&amp;d=2&e=3&amp</BaseURL>{ONE_SET}"), ["90p 0 a/v1.m4s 2", "90p 1 a/v2.m4s 2"],
    ),
    "an ampersand beside text in CDATA": (
        mpd(f"<!-- & --><BaseURL><![CDATA[a&b/]]></BaseURL>{ONE_SET.replace('v$', 'v?d&e=$')}"),
        ["90p 0 a&b/v?d&e=1.m4s 2", "90p 1 a&b/v?d&e=2.m4s 2"],
    ),
    "an ampersand in another encoding": (
        mpd(f"<BaseURL>\xe9/?b&c</BaseURL>{ONE_SET}").replace('"1.0"', '"1.0" encoding="latin-1"', 1).encode("latin-1"),
        ["90p 0 \xe9/v1.m4s 2", "90p 1 \xe9/v2.m4s 2"],
    ),
    "bytes that are no UTF-8": (mpd(ONE_SET.replace("<Period>", '<Period id="\xe9">')).encode("latin-1"), VIDEO),
    "UTF-8 that calls itself UTF-16": (mpd(ONE_SET).replace('"1.0"', '"1.0" encoding="utf-16"', 1), VIDEO),
    "UTF-8 that calls itself by another name": (mpd(ONE_SET).replace('"1.0"', '"1.0" encoding="unicode"', 1), VIDEO),
    "control characters": (mpd(f"<ProgramInformation><Title>\x01\x1f</Title></ProgramInformation>{ONE_SET}"), VIDEO),
    "a prefix without a namespace": (
        mpd(f"<ext:Note>at http://example.com</ext:Note>{ONE_SET.replace('><Seg', '><cenc:pssh>A</cenc:pssh><Seg')}"),
        VIDEO,
    ),
    "a remote period whose prefix has no namespace": (
        {
            "in": mpd('<Period xlink:href="p.xml"/>').replace('xmlns:xlink="http://www.w3.org/1999/xlink"', ""),
            "p.xml": ONE_SET,
        },
        VIDEO,
    ),
    "an identifier that is not known": (
        mpd(ONE_SET.replace("$Number$", "$Number$_$SubNumber$")),
        ["90p 0 playlist: the identifier $SubNumber$ of the template is not known"],
    ),
    "a last number and no duration": (
        mpd(ONE_SET.replace('duration="2"', 'duration="2" startNumber="5" endNumber="6"'), attributes=""),
        ["90p 0 v5.m4s 2", "90p 1 v6.m4s 2"],
    ),
    "addresses in a list that are none": (
        mpd(SEGMENT_LIST.format('<SegmentURL media="http://["/><SegmentURL media="v" mediaRange="x"/>'
                                '<SegmentURL media="v2.m4s"/>')),
        ["90p 0 playlist: SegmentURL: an invalid URL", '90p 1 playlist: SegmentURL: mediaRange is no byte range: "x"',
         "90p 2 v2.m4s 2"],
    ),
    "a list that is elsewhere": (
        mpd(SEGMENT_LIST.format("").replace("duration", 'xlink:href="list.xml" duration')),
        ["90p 0 playlist: the SegmentList is elsewhere"],
    ),
    "a duration of 13 decimals": (mpd(ONE_SET, attributes='mediaPresentationDuration="PT4.0000000000000S"'), VIDEO),
    "a duration with a comma": (mpd(ONE_SET, attributes='mediaPresentationDuration="PT4,0S"'), VIDEO),
    "a period without a usable duration": (
        mpd(f'<Period duration="soon">{adaptation_set()}</Period>'), VIDEO,
    ),
    "a width that is no integer": (mpd(ONE_SET.replace('"160"', '"160.5"')), VIDEO),
    "a bad set beside a good one": (
        mpd(f"<Period>{adaptation_set(inner='<BaseURL>http://[</BaseURL>', id='x')}{adaptation_set()}</Period>"), VIDEO,
    ),
    "a bad period after a good one": (
        mpd(f'<Period duration="PT4S">{adaptation_set()}</Period>'
            '<Period id="ad" duration="PT6S"><BaseURL>http://[</BaseURL></Period>'),
        [*VIDEO, "90p 2 playlist: Period ad: an invalid URL"],
    ),
    "a period whose template has no length": (
        mpd(f"""<Period duration="PT4S">{adaptation_set()}</Period>
            <Period duration="PT6S">{adaptation_set().replace('duration="2"', '')}</Period>"""),
        [*VIDEO, "90p 2 playlist: there are neither a segment duration nor a timeline"],
    ),
    "a remote period": (
        {"in": mpd(f'<Period duration="PT4S">{adaptation_set()}</Period><Period xlink:href="ad.xml" duration="PT4S"/>'),
         "ad.xml": '<?xml version="1.0"?><Period xmlns="urn:mpeg:dash:schema:mpd:2011" duration="PT4S">'
                   f"{adaptation_set(id='w')}</Period>"},
        [*VIDEO, "90p 2 w1.m4s 2", "90p 3 w2.m4s 2"],
    ),
    "two remote periods in one document": (
        {"in": mpd('<Period xlink:href="ad.xml"/>'),
         "ad.xml": "".join(f'<Period duration="PT2S">{adaptation_set(id=id)}</Period>' for id in "vw")},
        ["90p 0 v1.m4s 2", "90p 1 w1.m4s 2"],
    ),
    "a remote period that is away": (
        mpd(f'<Period duration="PT4S">{adaptation_set()}</Period><Period xlink:href="no.xml" duration="PT4S"/>'),
        [*VIDEO, "90p 2 playlist: Period 2: xlink: file:"],
    ),
    "a remote period that the policy forbids": (
        mpd(f'<Period duration="PT4S">{adaptation_set()}</Period><Period xlink:href="http://127.0.0.1/" id="x"/>'),
        [*VIDEO, "90p 2 playlist: Period x: xlink: refused:"],
    ),
    "a remote period that was taken back": (
        mpd(f'<Period duration="PT4S">{adaptation_set()}</Period>'
            '<Period xlink:href="urn:mpeg:dash:resolve-to-zero:2013" duration="PT4S"/>'),
        VIDEO,
    ),
    "a remote set": (
        {"in": mpd('<Period><AdaptationSet xlink:href="set.xml"/></Period>'), "set.xml": adaptation_set()}, VIDEO,
    ),
    "sound before video in a multiplex": (
        mpd(f"<Period>{adaptation_set('', COMPONENTS)}</Period>"), VIDEO,
    ),
    "a multiplex that calls itself sound": (
        mpd(f"""<Period>{adaptation_set('contentType="audio" codecs="mp4a.40.2,avc1.64000b"')}</Period>"""), VIDEO,
    ),
    "thumbnails that call themselves video": (
        mpd(f"<Period>{adaptation_set()}"
            f"""{adaptation_set('mimeType="image/jpeg" contentType="video"', id="t")}</Period>"""),
        VIDEO,
    ),
    "an index in a file of its own": (
        {"in": mpd(ONE_FILE.format("", '<Initialization range="0-9"/><RepresentationIndex sourceURL="v.six"/>')),
         "v.six": sidx([(30, 2), (40, 2)], first=10)},
        ["90p 0 v.mp4@10+30 2", "90p 1 v.mp4@40+40 2"],
    ),
    "an index of indexes": (
        {"in": mpd(ONE_FILE.format('indexRange="0-55"', "")),
         "v.mp4": sidx([(len(CHILD) + 70 + (1 << 31), 4)] * 2) + CHILD + b"x" * 70 + CHILD + b"x" * 70},
        [f"90p {number} v.mp4@{part} 2" for number, part in enumerate(("112+30", "142+40", "238+30", "268+40"))],
    ),
    "several base URLs": (
        mpd(f"<BaseURL>a/</BaseURL><BaseURL>b/</BaseURL>{ONE_SET}"),
        ["90p 0 a/v1.m4s|b/v1.m4s 2", "90p 1 a/v2.m4s|b/v2.m4s 2"],
    ),
    "several base URLs with priorities": (
        mpd(f'<BaseURL xmlns:dvb="urn:dvb" dvb:priority="2">a/</BaseURL><BaseURL>b/</BaseURL>{ONE_SET}'),
        ["90p 0 b/v1.m4s|a/v1.m4s 2", "90p 1 b/v2.m4s|a/v2.m4s 2"],
    ),
}  # fmt: skip


def describe(item: SegmentOrFailure, folder: Path) -> str:
    segment = item.segment if isinstance(item, SegmentFailure) else item
    start = f"{segment.rendition.name} {segment.sequence}"
    if isinstance(item, SegmentFailure):
        return f"{start} {item.reason}: {item.detail}"
    names = [url.removeprefix(f"{folder.as_uri()}/") for url in (segment.url, *(m.url for m in segment.mirrors))]
    names = ["data:" if name.startswith("data:") else name for name in names]
    part = segment.byte_range
    extent = f"@{part.offset_bytes}+{part.length_bytes}" if part else ""
    return f"{start} {'|'.join(names)}{extent} {segment.duration_seconds:g}"


async def listed(folder: Path, content: str | bytes | Files) -> tuple[list[str], Sequence[str]]:
    """What is listed of the files in a folder, as `describe` writes it, and the warnings."""
    for name, body in (content if isinstance(content, dict) else {"in": content}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(body if isinstance(body, bytes) else body.encode())
    async with Fetcher(FetchPolicy(file_roots=(folder,))) as fetcher:
        discovered = await discover_segments(str(folder / "in"), fetcher=fetcher, now=NOON)
    return [describe(item, folder) for item in discovered.items], discovered.warnings


@pytest.mark.parametrize(("content", "expected"), (HLS | DASH).values(), ids=HLS | DASH)
async def test_the_good_rest_is_listed_and_the_loss_is_said(
    tmp_path: Path, content: str | Files, expected: list[str]
) -> None:
    """A bad line costs a line, a bad set a set, a bad period a period."""
    lines, _ = await listed(tmp_path, content)
    assert len(lines) == len(expected), lines
    for line, beginning in zip(lines, expected, strict=True):
        assert line.startswith(beginning) if ": " in beginning else line == beginning


NO_VIDEO = {
    "variants of sound": master('#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"', "a.m3u8"),
    "variants of subtitles": master('#EXT-X-STREAM-INF:BANDWIDTH=64,CODECS="wvtt"', "a.m3u8"),
    "sets of sound": mpd(f"""<Period>{adaptation_set('mimeType="audio/mp4"')}</Period>"""),
    "a codec of sound in a video type": mpd(
        f"""<Period>{adaptation_set('mimeType="video/mp4" codecs="mp4a.40.2"')}</Period>"""
    ),
    "sound in a video type": mpd(f"""<Period>{adaptation_set('contentType="audio" mimeType="video/mp4"')}</Period>"""),
}


@pytest.mark.parametrize("content", NO_VIDEO.values(), ids=NO_VIDEO)
async def test_sound_and_text_alone_are_no_video(tmp_path: Path, content: str) -> None:
    """They are not damaged, and have their own reason."""
    with pytest.raises(SegmentError) as caught:
        await listed(tmp_path, content)
    assert caught.value.reason == "no_video"


WARNED: dict[str, tuple[str | Files, str]] = {
    "no EXTM3U": (hls(*GOOD).replace("#EXTM3U\n", ""), "main: line 1: EXTM3U: the playlist does not begin with it"),
    "a duration of 0": (
        mpd(timeline('<S t="0" d="2"/>'), attributes='mediaPresentationDuration="PT0S"'),
        "90p: MPD: mediaPresentationDuration is 0; it counts as not given",
    ),
    "a variant without an address": (
        {"in": master(VARIANT, "v.m3u8", "#EXT-X-STREAM-INF:BANDWIDTH=1"), "v.m3u8": hls(*GOOD)},
        "90p: line 4: EXT-X-STREAM-INF: no address follows",
    ),
    "a variant before the address of the next": (
        {"in": master("#EXT-X-STREAM-INF:BANDWIDTH=1", VARIANT, "v.m3u8"), "v.m3u8": hls(*GOOD)},
        "90p: line 2: EXT-X-STREAM-INF: no address follows",
    ),
    "EXTINF": (hls("#EXTINF:,Song", "s0.ts"), 'main: line 3: EXTINF: "" is no duration'),
    "EXTINF without an address": (
        hls("#EXTINF:2,", "#EXTINF:2,", "s0.ts"),
        "main: line 3: EXTINF: no address follows; the segment is left out",
    ),
    "EXTINF at the end": (hls(*GOOD, "#EXTINF:2,"), "main: line 7: EXTINF: no address follows"),
    "EXTINF behind blank lines": (hls("", "", "#EXTINF:x,", "s0.ts"), 'main: line 5: EXTINF: "x" is no duration'),
    "an address": (hls("s0.ts", *GOOD), "main: line 3: an address without EXTINF"),
    "MEDIA-SEQUENCE": (hls("#EXT-X-MEDIA-SEQUENCE:-1", *GOOD), 'main: line 3: EXT-X-MEDIA-SEQUENCE: "-1" is no number'),
    "a line of HTML": (hls("<p>", *GOOD), 'main: line 3: "<p>" is no address'),
    "a variant": (
        {"in": master(f"{VARIANT},AVERAGE-BANDWIDTH=x", "v.m3u8"), "v.m3u8": hls(*GOOD)},
        '90p: line 2: EXT-X-STREAM-INF: AVERAGE-BANDWIDTH="x" is no number',
    ),
    "an attribute of an MPD": (
        mpd(ONE_SET, attributes='mediaPresentationDuration="PT4S" timeShiftBufferDepth="x"'),
        "90p: MPD: timeShiftBufferDepth is not a duration",
    ),
    "a set": (
        mpd(f"<Period>{adaptation_set(inner='<BaseURL>http://[</BaseURL>', id='x')}{adaptation_set()}</Period>"),
        "90p: Period 1, AdaptationSet 1: an invalid URL",
    ),
}


@pytest.mark.parametrize(("content", "warning"), WARNED.values(), ids=WARNED)
async def test_a_line_that_costs_no_segment_is_a_warning(tmp_path: Path, content: str | Files, warning: str) -> None:
    """With the rendition, the line and the tag."""
    _, warnings = await listed(tmp_path, content)
    assert len(warnings) == 1
    assert warnings[0].startswith(warning)
