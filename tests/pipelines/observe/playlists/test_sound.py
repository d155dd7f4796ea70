"""Segments find their sound where a playlist lists it apart from the pictures; real streams are measured with it."""

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import imageio_ffmpeg
import pytest

from pipelines.observe.observer import Observer
from pipelines.observe.playlists.positions import MAX_WAIT_SECONDS, StreamPlaylist
from pipelines.observe.playlists.sound import SeparateSound, SoundPlaylist, announced_sound
from pipelines.observe.playlists.subtitles import SubtitlePlaylists
from pipelines.observe.scoring_tiers import ScoringCascade
from tests import factories
from tests.pipelines.observe.playlists.rig import NOON, Origin, playlist
from vqmon.core.types import AudioAddress, DecodedSegment, QualityEvent, Segment, View
from vqmon.errors import SegmentError
from vqmon.media.decode.pool import DecoderPool
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import FetchPolicy
from vqmon.media.sources.loader import open_playlist
from vqmon.testing import GreyLevelScorer, make_segment

MASTER_URL = "https://cdn.example/master.m3u8"
VIDEO_URL, SOUND_URL = "https://cdn.example/video.m3u8", "https://cdn.example/sound/en.m3u8"
MASTER = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="de",URI="sound/de.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",DEFAULT=YES,URI="sound/en.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="b",NAME="en",DEFAULT=YES
#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=1280x720,AUDIO="a"
video.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360,AUDIO="b"
muxed.m3u8
"""


def sound_of(origin: Origin) -> SoundPlaylist:
    return SoundPlaylist(origin.stream(MASTER_URL), now=lambda: origin.clock, sleep=origin.sleep)


def segment(number: int, *, rendition: str = "720p", seconds: float = 2.0) -> Segment:
    """As the playlist of the pictures lists it."""
    listed = make_segment(number, rendition=rendition, seconds=seconds)
    return replace(listed, url=f"https://cdn.example/video{number}.ts")


@pytest.mark.parametrize(
    ("video", "sound", "number", "names", "starts", "ends"),
    [
        # packed with the same bounds, paired by numbers alone
        (playlist("video", range(4, 9)), playlist("s", range(4, 9)), 5, ["s5.ts"], 0, 0),
        # by dates: sound that begins half a second earlier than the pictures, by what the playlists say
        (
            playlist("video", range(9), dated=NOON),
            playlist("s", range(9), dated=NOON - timedelta(seconds=0.5)),
            4,
            ["s4.ts"],
            -0.5,
            -0.5,
        ),
        # short segments of sound in longer ones of pictures, and the other way round
        (
            playlist("video", range(3), seconds=6, ended=True),
            playlist("s", range(9), seconds=2, ended=True),
            1,
            ["s3.ts", "s4.ts", "s5.ts"],
            0,
            0,
        ),
        (
            playlist("video", range(9), seconds=2, ended=True),
            playlist("s", range(3), seconds=6, ended=True),
            4,
            ["s1.ts"],
            -2,
            2,
        ),
    ],
    ids=["numbers", "dates", "shorter", "longer"],
)
async def test_sound_is_paired_by_time(
    video: str, sound: str, number: int, names: Sequence[str], starts: float, ends: float
) -> None:
    """The default rendition of the group; its declared offset is known."""
    origin = Origin({MASTER_URL: MASTER, VIDEO_URL: video, SOUND_URL: sound})
    seconds = 6 if "EXTINF:6" in video else 2
    found = await sound_of(origin).find(segment(number, seconds=seconds))
    assert found is not None
    assert [part.url for part in found.parts] == [f"https://cdn.example/sound/{name}" for name in names]
    assert (found.starts_seconds, found.ends_seconds) == (starts, ends)
    facts = factories.audio(offset_seconds=starts + 0.1, end_offset_seconds=ends + 0.2)
    relative = found.relative_to_playlists(facts)
    assert (relative.offset_seconds, relative.end_offset_seconds) == (pytest.approx(0.1), pytest.approx(0.2))


async def test_a_variant_without_a_sound_playlist_has_its_sound_inside() -> None:
    """Its group has a rendition without an address; nothing but the master is asked for."""
    origin = Origin({MASTER_URL: MASTER})
    sound = sound_of(origin)
    assert await sound.find(segment(5, rendition="360p")) is None
    assert await sound.find(segment(6, rendition="360p")) is None
    assert origin.requests == [MASTER_URL]


async def test_sound_that_does_not_come_is_waited_for_and_then_unavailable() -> None:
    """Also a gap, and a playlist that is away."""
    origin = Origin({MASTER_URL: MASTER, VIDEO_URL: playlist("video", range(9)), SOUND_URL: playlist("s", range(8))})
    sound = sound_of(origin)
    with pytest.raises(SegmentError, match="lists nothing of this time and number"):
        await sound.find(segment(8))
    assert sum(origin.slept) == MAX_WAIT_SECONDS
    gaps = Origin({**origin.texts, SOUND_URL: playlist("s", range(9), gaps=[3])})
    with pytest.raises(SegmentError, match="lists nothing"):
        await sound_of(gaps).find(segment(3))
    with pytest.raises(SegmentError, match="404"):
        await sound_of(Origin({MASTER_URL: MASTER, VIDEO_URL: origin.texts[VIDEO_URL]})).find(segment(3))


FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
PACKAGERS = {
    "main.m3u8": (
        *("-f", "hls", "-hls_time", "2", "-hls_segment_type", "fmp4", "-hls_playlist_type", "vod"),
        *("-var_stream_map", "v:0,agroup:a,name:v a:0,agroup:a,default:yes,name:s"),
        *("-master_pl_name", "main.m3u8", "-hls_fmp4_init_filename", "%v-init.mp4", "{folder}/%v.m3u8"),
    ),
    "ts.m3u8": (
        *("-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod"),
        *("-var_stream_map", "v:0,agroup:a,name:v a:0,agroup:a,default:yes,name:s"),
        *("-master_pl_name", "ts.m3u8", "{folder}/ts-%v.m3u8"),
    ),
    "main.mpd": (
        "-f",
        "dash",
        "-seg_duration",
        "2",
        "-adaptation_sets",
        "id=0,streams=v id=1,streams=a",
        "{folder}/main.mpd",
    ),
}


def packaged(folder: Path, name: str) -> str:
    """The address of a stream of six seconds."""
    sources = "-f lavfi -i sine=r=48000:d=6,volume=2 -f lavfi -i testsrc2=s=160x90:r=25:d=6"
    encoding = "-map 1:v -map 0:a -c:v libx264 -preset ultrafast -g 50 -c:a aac"
    options = [option.replace("{folder}", str(folder)) for option in PACKAGERS[name]]
    command = [FFMPEG, "-v", "error", *sources.split(), *encoding.split(), *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return (folder / name).as_uri()


async def of_message(segment: Segment) -> SeparateSound | None:
    return announced_sound(segment)


@pytest.mark.parametrize("name", PACKAGERS)
async def test_sound_of_packaged_streams_is_measured(tmp_path: Path, name: str) -> None:
    """By ffmpeg's own packagers: fragments and transport streams of HLS, DASH; also when a message tells where."""
    url = packaged(tmp_path, name)
    async with Fetcher(FetchPolicy(file_roots=(tmp_path,))) as fetcher, DecoderPool(1) as pool:
        found = SoundPlaylist(StreamPlaylist(url, fetcher=fetcher, now=lambda: NOON), now=lambda: NOON)

        async def decode(media: bytes, views: tuple[View, ...], **others: bytes) -> DecodedSegment:
            return await pool.decode(media, views=views, with_audio=True, sound_media=others.get("sound", b""))

        observer = Observer(
            fetch=fetcher.fetch,
            cascade=ScoringCascade(decode=decode, scorers=(GreyLevelScorer(),)),
            sampling="exact",
            versions={},
            now=lambda: NOON,
            find_sound=found.find,
        )
        loader = await open_playlist(url, fetcher)
        track = (await loader.load_tracks())[0]
        playlist = await loader.load_playlist(track.name, NOON)
        entry = playlist.entries[1]
        segment = Segment(
            rendition=track.to_rendition("news", {}),
            sequence=entry.sequence,
            url=entry.url,
            starts_at=NOON,
            duration_seconds=entry.duration_seconds,
            init_url=entry.init_url,
            byte_range=entry.byte_range,
            init_byte_range=entry.init_byte_range,
        )
        outcome = (await observer.observe(segment)).outcome
        listed = await found.find(segment)
        assert listed is not None
        part = listed.parts[0]
        address = AudioAddress(
            url=part.url, byte_range=part.byte_range, init_url=part.init_url, init_byte_range=part.init_byte_range
        )
        paired = replace(observer, find_sound=of_message)
        announced = (await paired.observe(replace(segment, audio=address))).outcome
        without_address = (await paired.observe(segment)).outcome
    assert isinstance(outcome, QualityEvent), outcome
    assert isinstance(announced, QualityEvent)
    assert isinstance(without_address, QualityEvent)
    assert announced.audio is not None
    assert outcome.audio is not None
    # a message does not tell what the playlists say about the times of both
    assert announced.audio.offset_seconds == pytest.approx(0, abs=0.1)
    offsets = {"offset_seconds": 0.0, "end_offset_seconds": 0.0}
    assert replace(announced.audio, **offsets) == replace(outcome.audio, **offsets)
    assert (without_address.audio, without_address.unmeasured_audio) == (None, "no_audio")
    assert outcome.audio is not None, outcome.unmeasured_audio
    assert outcome.audio.codec == "aac"
    assert outcome.audio.duration_seconds == pytest.approx(2, abs=0.1)
    assert outcome.audio.offset_seconds == pytest.approx(0, abs=0.1)
    assert outcome.audio.loudness_lufs is not None


async def test_a_sound_playlist_that_fails_is_not_asked_for_by_each_segment() -> None:
    """However long it takes to fail; a little later it is asked for anew."""

    class SlowOrigin(Origin):
        async def get(self, url: str, **options: object) -> SimpleNamespace:
            if url == SOUND_URL:
                self.clock += timedelta(seconds=30)
            return await super().get(url, **options)

    video = playlist("video", range(9), ended=True)
    origin = SlowOrigin({MASTER_URL: MASTER, VIDEO_URL: video})
    sound = sound_of(origin)
    for number in range(9):
        with pytest.raises(SegmentError, match="404"):
            await sound.find(segment(number))
    assert origin.requests.count(SOUND_URL) == 1
    origin.clock += timedelta(seconds=2)
    origin.texts[SOUND_URL] = playlist("s", range(9), ended=True)
    assert await sound.find(segment(3)) is not None


async def test_sound_of_the_same_number_and_another_time_is_refused() -> None:
    """Pictures of 4 s and sound of 6 s count differently; timestamps tell."""
    found = SeparateSound(parts=(), starts_seconds=0.0, ends_seconds=0.0, is_numbered=True)
    assert found.is_plausible(factories.audio(offset_seconds=0.6), seconds=4.0)
    assert found.is_plausible(factories.audio(offset_seconds=None), seconds=4.0)
    assert not found.is_plausible(factories.audio(offset_seconds=14.0), seconds=4.0)
    assert replace(found, is_numbered=False).is_plausible(factories.audio(offset_seconds=14.0), seconds=4.0)


async def test_media_clocks_of_dash_are_distinguished() -> None:
    """Sound whose timestamps begin 100 s before those of the pictures is in sync when its set says so."""
    sets = "".join(
        f'<AdaptationSet contentType="{kind}"><Representation id="{kind}" bandwidth="1">'
        f'<SegmentTemplate media="{kind}$Number$.m4s" timescale="10" duration="20" presentationTimeOffset="{offset}"/>'
        "</Representation></AdaptationSet>"
        for kind, offset in (("video", 1000), ("audio", 0))
    )
    mpd = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT8S">'
        f"<Period>{sets}</Period></MPD>"
    )
    sound = sound_of(Origin({MASTER_URL: mpd}))
    pictures = replace(make_segment(1, rendition="video", seconds=2), url="https://cdn.example/video2.m4s")
    track = (await (await open_playlist(MASTER_URL, Origin({MASTER_URL: mpd}))).load_tracks())[0]
    found = await sound.find(replace(pictures, rendition=track.to_rendition("news", {})))
    assert found is not None
    assert [part.url for part in found.parts] == ["https://cdn.example/audio2.m4s"]
    assert (found.starts_seconds, found.ends_seconds) == (-100.0, -100.0)


async def test_segments_that_differ_in_their_query_are_distinguished() -> None:
    """And a token that has changed in a list of other paths is no matter."""
    queries = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n" + "".join(f"#EXTINF:2,\nseg?n={n}\n" for n in range(5))
    texts = {MASTER_URL: MASTER, VIDEO_URL: f"{queries}#EXT-X-ENDLIST", SOUND_URL: playlist("s", range(5), ended=True)}
    asked = replace(make_segment(99, rendition="720p", seconds=2.0), url="https://cdn.example/seg?n=2")
    found = await sound_of(Origin(texts)).find(asked)
    assert found is not None
    assert [part.url for part in found.parts] == ["https://cdn.example/sound/s2.ts"]


async def test_sound_in_very_long_parts_is_not_measured() -> None:
    texts = {
        MASTER_URL: MASTER,
        VIDEO_URL: playlist("video", range(9), ended=True),
        SOUND_URL: playlist("s", range(1), seconds=1800, ended=True),
    }
    with pytest.raises(SegmentError, match="lists nothing"):
        await sound_of(Origin(texts)).find(segment(3))


async def test_sound_and_subtitles_of_a_stream_share_its_playlists() -> None:
    """Opened once, and the playlist of the pictures is loaded once for both, also when they ask at the same time."""
    master = MASTER.replace(
        "#EXTM3U\n", '#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="en",URI="en.m3u8"\n'
    ).replace('AUDIO="a"', 'AUDIO="a",SUBTITLES="s"')
    texts = {
        MASTER_URL: master,
        VIDEO_URL: playlist("video", range(4), ended=True),
        SOUND_URL: playlist("s", range(4), ended=True),
        "https://cdn.example/en.m3u8": playlist("en", range(4), ended=True),
    }
    origin = Origin(texts)
    stream = origin.stream(MASTER_URL)

    async def fetch(segment: Segment) -> bytes:
        return b"WEBVTT\n"

    sound = SoundPlaylist(stream, now=lambda: origin.clock)
    subtitles = SubtitlePlaylists(stream, fetch=fetch, now=lambda: origin.clock)
    heard, (read,) = await asyncio.gather(sound.find(segment(2)), subtitles.find(segment(2)))
    assert heard is not None
    assert (heard.parts[0].url.rpartition("/")[2], read.problem) == ("s2.ts", "")
    assert [origin.requests.count(url) for url in (MASTER_URL, VIDEO_URL)] == [1, 1]
