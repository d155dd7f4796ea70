"""The subtitles that playlists offer are read beside the pictures, from files as packagers write them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import pytest

from pipelines.observe.addresses import Fetch
from pipelines.observe.observer import Observer
from pipelines.observe.playlists.positions import StreamPlaylist
from pipelines.observe.playlists.subtitles import SubtitlePlaylists
from pipelines.observe.scoring_tiers import ScoringCascade
from tests.pipelines.observe.playlists.rig import NOON
from vqmon.core.types import DecodedSegment, QualityEvent, Segment, SubtitleFacts, View
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import FetchPolicy
from vqmon.media.sources.loader import open_playlist
from vqmon.testing import GreyLevelScorer

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CUE = "WEBVTT\n\n00:00.500 --> 00:01.500\nGood evening.\n"
MASTER = """#EXTM3U
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="English",LANGUAGE="en",URI="en.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="Deutsch",LANGUAGE="de",FORCED=YES,URI="de.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="other",NAME="fr",URI="fr.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=1280x720,SUBTITLES="s"
video.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360
small.m3u8
"""


def playlist(name: str, count: int, *, ended: bool = True) -> str:
    entries = "".join(f"#EXTINF:2,\n{name.format(number)}\n" for number in range(count))
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n{entries}" + "#EXT-X-ENDLIST\n" * ended


def subtitles_at(url: str, fetcher: Fetcher, fetch: Fetch) -> SubtitlePlaylists:
    stream = StreamPlaylist(url, fetcher=fetcher, now=lambda: NOON)
    return SubtitlePlaylists(stream, fetch=fetch, now=lambda: NOON)


async def subtitles_of(
    folder: Path, name: str, *, rendition: str = "", count: int = 3
) -> list[tuple[SubtitleFacts, ...]]:
    """What is found beside the first segments of a rendition."""
    url = (folder / name).as_uri()
    async with Fetcher(FetchPolicy(file_roots=(folder,))) as fetcher:
        found = subtitles_at(url, fetcher, fetcher.fetch)
        return [
            await found.find(segment) for segment in await segments_of(url, fetcher, rendition=rendition, count=count)
        ]


async def segments_of(url: str, fetcher: Fetcher, *, rendition: str = "", count: int = 3) -> list[Segment]:
    loader = await open_playlist(url, fetcher)
    track = next(track for track in await loader.load_tracks() if rendition in ("", track.name))
    entries = (await loader.load_playlist(track.name, NOON)).entries[:count]
    return [
        Segment(
            rendition=track.to_rendition("news", {}),
            sequence=entry.sequence,
            url=entry.url,
            starts_at=NOON,
            duration_seconds=entry.duration_seconds,
            init_url=entry.init_url,
        )
        for entry in entries
    ]


async def test_renditions_of_hls(tmp_path: Path) -> None:
    """Of the group of the variant; one segment of each kind: with a cue, without, missing, and something else."""
    texts = {
        "main.m3u8": MASTER,
        "video.m3u8": playlist("v{}.ts", 4),
        "small.m3u8": playlist("w{}.ts", 4),
        "en.m3u8": playlist("en{}.vtt", 4),
        "de.m3u8": playlist("de{}.vtt", 2),
        **{f"en{number}.vtt": text for number, text in enumerate([CUE, "WEBVTT\n", "<html>404</html>"])},
        "de0.vtt": "WEBVTT\n",
        "de1.vtt": CUE + "\n00:01.600 --> 00:01.900\nAll.\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = await subtitles_of(tmp_path, "main.m3u8", count=4)
    assert [(en.cues, en.problem, de.cues, de.problem) for en, de in found] == [
        (1, "", 0, ""),
        (0, "", 2, ""),
        (0, "unreadable", 0, "missing"),
        (0, "unavailable", 0, "missing"),
    ]
    assert [(each.name, each.language, each.is_forced) for each in found[0]] == [
        ("en English", "en", False),
        ("de Deutsch", "de", True),
    ]
    assert await subtitles_of(tmp_path, "main.m3u8", rendition="360p") == [()] * 3
    # a rendition whose playlist is away says so, the other one is read
    (tmp_path / "de.m3u8").unlink()
    en, de = (await subtitles_of(tmp_path, "main.m3u8"))[0]
    assert (en.cues, de.problem) == (1, "unavailable")


@pytest.mark.parametrize(
    ("addressing", "files", "mime", "codecs"),
    [
        (
            '<SegmentTemplate media="t$Number$.vtt" duration="2"/>',
            {"t1.vtt": CUE, "t2.vtt": "WEBVTT\n"},
            "text/vtt",
            "",
        ),
        (
            '<SegmentTemplate media="t$Number$.xml" duration="2"/>',
            {"t1.xml": "<tt><body><div><p>Good</p></div></body></tt>", "t2.xml": "<tt/>"},
            "application/ttml+xml",
            "",
        ),
        (
            '<SegmentTemplate media="t$Number$.m4s" initialization="i.mp4" duration="2"/>',
            {
                "i.mp4": b"\0\0\0\x0cftypiso6\0\0\0\x08moov",
                "t1.m4s": b"\0\0\0\x08moof\0\0\0\x20mdat\0\0\0\x18vttc\0\0\0\x10payl evening",
                "t2.m4s": b"\0\0\0\x08moof\0\0\0\x10mdat\0\0\0\x08vtte",
            },
            "application/mp4",
            "wvtt",
        ),
    ],
    ids=["webvtt", "ttml", "wvtt"],
)
async def test_adaptation_sets_of_dash(
    tmp_path: Path, addressing: str, files: dict[str, str | bytes], mime: str, codecs: str
) -> None:
    """A segment with a cue, one without, and one that is not there."""
    (tmp_path / "main.mpd").write_text(
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT6S"><Period>'
        '<AdaptationSet contentType="video"><Representation id="v" bandwidth="1">'
        '<SegmentTemplate media="v$Number$.m4s" duration="2"/></Representation></AdaptationSet>'
        f'<AdaptationSet mimeType="{mime}" lang="en"><Role value="subtitle"/>'
        f'<Representation id="t" bandwidth="1" codecs="{codecs}">{addressing}</Representation></AdaptationSet>'
        "</Period></MPD>"
    )
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = await subtitles_of(tmp_path, "main.mpd")
    assert [[(each.name, each.cues, each.problem) for each in facts] for facts in found] == [
        [("en subtitle", 1, "")],
        [("en subtitle", 0, "")],
        [("en subtitle", 0, "unavailable")],
    ]


async def test_a_plain_file_for_a_whole_presentation(tmp_path: Path) -> None:
    """It is fetched once."""
    (tmp_path / "main.mpd").write_text(
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT6S"><Period>'
        '<AdaptationSet contentType="video"><Representation id="v" bandwidth="1">'
        '<SegmentTemplate media="v$Number$.m4s" duration="2"/></Representation></AdaptationSet>'
        '<AdaptationSet contentType="text" mimeType="text/vtt" lang="en"><Representation id="t" bandwidth="1">'
        "<BaseURL>all.vtt</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    (tmp_path / "all.vtt").write_text(CUE)
    url = (tmp_path / "main.mpd").as_uri()
    fetched: list[str] = []
    async with Fetcher(FetchPolicy(file_roots=(tmp_path,))) as fetcher:

        async def fetch(segment: Segment) -> bytes:
            fetched.append(segment.url)
            return await fetcher.fetch(segment)

        found = subtitles_at(url, fetcher, fetch)
        facts = [await found.find(segment) for segment in await segments_of(url, fetcher)]
    assert [each.cues for (each,) in facts] == [1, 1, 1]
    assert fetched == [(tmp_path / "all.vtt").as_uri()]


def packaged(folder: Path) -> str:
    """The address of six seconds of HLS with WebVTT by ffmpeg's packager."""
    (folder / "source.vtt").write_text(
        "WEBVTT\n\n00:00.100 --> 00:01.000\nGood\n\n00:04.200 --> 00:05.000\nevening\n\n00:05.200 --> 00:05.800\nall\n"
    )
    command = [
        *(FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=6", "-i", str(folder / "source.vtt")),
        *("-map", "0:v", "-map", "1:s", "-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-c:s", "webvtt"),
        *("-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod", "-master_pl_name", "main.m3u8"),
        *("-var_stream_map", "v:0,s:0,sgroup:subs,language:eng,sname:English", str(folder / "%v.m3u8")),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return (folder / "main.m3u8").as_uri()


async def test_an_event_tells_the_subtitles_of_a_packaged_stream(tmp_path: Path) -> None:
    """The second segment has no dialogue."""
    url = packaged(tmp_path)
    async with Fetcher(FetchPolicy(file_roots=(tmp_path,))) as fetcher, DecoderPool(1) as pool:

        async def decode(media: bytes, views: tuple[View, ...], **others: bytes) -> DecodedSegment:
            return await pool.decode(media, views=views)

        observer = Observer(
            fetch=fetcher.fetch,
            cascade=ScoringCascade(decode=decode, scorers=(GreyLevelScorer(),)),
            sampling="exact",
            versions={},
            now=lambda: NOON,
            find_subtitles=subtitles_at(url, fetcher, fetcher.fetch).find,
        )
        segments = await segments_of(url, fetcher)
        outcomes = [(await observer.observe(segment)).outcome for segment in segments]
        # the verdict on the pictures does not depend on the subtitles
        lost = replace(segments[0], rendition=replace(segments[0].rendition, name="nobody"))
        unknown = (await observer.observe(lost)).outcome
    cues = []
    for outcome in outcomes:
        assert isinstance(outcome, QualityEvent), outcome
        cues += [(each.cues, each.problem) for each in outcome.subtitles]
    assert cues == [(1, ""), (0, ""), (2, "")]
    assert isinstance(unknown, QualityEvent)
    assert unknown.subtitles == ()
