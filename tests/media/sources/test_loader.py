"""Loading and reloading of playlists and manifests."""

from typing import Any

import pytest

from tests.media.loopback import Answer, Server
from tests.media.sources.rig import (
    MASTER,
    Fetcher,
    ManualClock,
    Packager,
    collect_lanes,
    collect_single_lane,
    live_mpd,
    playlist_source,
    policy,
    reasons,
    scripted_answer,
    segment_of,
    sequences,
)
from vqmon.errors import SegmentError
from vqmon.media.sources.loader import detect_kind


def test_what_is_no_playlist_is_none() -> None:
    """An address of one is refused at once; so is one of media."""
    for body in (b'<?xml version="1.0"?><SmoothStreamingMedia MajorVersion="2"/>', b"<svg/>", b"\x47MPD"):
        assert detect_kind(body) == "other"
    assert detect_kind(b"<MPD />") == "dash"


async def test_an_expired_media_playlist_url_is_looked_up_again(server: Server) -> None:
    """Signed addresses of media playlists end; the master playlist has fresh ones."""
    clock = ManualClock(ends=60)
    packager = Packager(clock)
    server.answers = {
        "/m.m3u8": scripted_answer(
            lambda: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/live-{clock.seconds // 20:.0f}.m3u8"
        ),
        **{
            f"/live-{number}.m3u8": scripted_answer(
                lambda number=number: packager.text() if clock.seconds // 20 == number else Answer(status=403)
            )
            for number in range(4)
        },
    }
    items = await collect_single_lane(server, clock, "/m.m3u8")

    assert reasons(items) == []
    assert sequences(items) == list(range(100, 100 + len(items)))
    assert len(items) > 15


async def test_urls_are_resolved_against_the_redirected_playlist_url(server: Server) -> None:
    """After redirects of the master and of the media playlist; variables of the master may be imported."""
    server.answers = {
        "/m.m3u8": Answer(status=302, headers={"Location": "/a/m.m3u8"}),
        "/a/m.m3u8": MASTER.encode(),
        "/a/hd.m3u8": Answer(status=302, headers={"Location": "/b/c/hd.m3u8?x=1"}),
        "/b/c/hd.m3u8": b'#EXTM3U\n#EXT-X-DEFINE:IMPORT="token"\n#EXTINF:4,\ns.ts?t={$token}\n#EXT-X-ENDLIST',
    }
    lanes = await collect_lanes(server, ManualClock(), "/m.m3u8", renditions=("720p",))
    assert [segment_of(item).url for item in lanes["news/720p"]] == [server.url("/b/c/s.ts?t=abc")]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404),
        b"",
        b"hello",
        b"<html></html>",
        b"<MPD",
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfile:///a",
    ],
)
async def test_a_playlist_that_cannot_be_loaded_raises_an_error(server: Server, answer: Any) -> None:
    """The caller decides when to try again."""
    server.answers["/live.m3u8"] = answer
    with pytest.raises(SegmentError) as caught:
        await collect_lanes(server, ManualClock())
    assert (caught.value.reason, caught.value.stage) == ("playlist", "source")


async def test_the_lanes_of_one_mpd_share_reloads(server: Server) -> None:
    """Two renditions at the same moment cost one request."""
    clock = ManualClock()
    server.answers["/live.mpd"] = scripted_answer(lambda: live_mpd(clock))
    async with Fetcher(policy(server)) as fetcher:
        source = playlist_source(server, clock, "/live.mpd", fetcher=fetcher)
        lanes = await source.lanes()
        for step in range(3):
            clock.seconds = step * 10.0
            for lane in lanes:
                await anext(aiter(lane))
    assert server.count("/live.mpd") == 4


async def test_a_rendition_moves_to_the_server_that_answers(server: Server) -> None:
    """And stays there; the segments know their addresses on the other one."""
    clock = ManualClock(ends=20)
    packager = Packager(clock)
    variant = '#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=64x36,CODECS="avc1"'
    server.answers = {
        "/m.m3u8": f"#EXTM3U\n{variant}\n/a/live.m3u8\n{variant}\n/b/live.m3u8".encode(),
        "/a/live.m3u8": scripted_answer(lambda: packager.text() if clock.seconds < 8 else Answer(status=404)),
        "/b/live.m3u8": scripted_answer(packager.text),
    }
    items = await collect_single_lane(server, clock, "/m.m3u8")
    assert reasons(items) == []
    assert sequences(items) == list(range(100, 100 + len(items)))
    first, last = segment_of(items[0]), segment_of(items[-1])
    assert [first.url.split("/")[3], first.mirrors[0].url.split("/")[3]] == ["a", "b"]
    assert [last.url.split("/")[3], last.mirrors[0].url.split("/")[3]] == ["b", "a"]
    assert server.count("/a/live.m3u8") <= 4


async def test_steering_chooses_the_server(server: Server) -> None:
    """The pathway that the steering server prefers serves first."""
    variant = '#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=64x36,CODECS="avc1"'
    server.answers = {
        "/m.m3u8": "\n".join(
            ("#EXTM3U", '#EXT-X-CONTENT-STEERING:SERVER-URI="/steer",PATHWAY-ID="A"', f'{variant},PATHWAY-ID="A"',
             "/a/v.m3u8", f'{variant},PATHWAY-ID="B"', "/b/v.m3u8")
        ).encode(),
        "/steer": b'{"VERSION": 1, "PATHWAY-PRIORITY": ["B", "A"]}',
        "/b/v.m3u8": b"#EXTM3U\n#EXTINF:4,\ns.ts\n#EXT-X-ENDLIST",
    }  # fmt: skip
    (item,) = await collect_single_lane(server, ManualClock(), "/m.m3u8")
    assert segment_of(item).url == server.url("/b/s.ts")
    assert server.count("/a/v.m3u8") == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/a.mpd", '<Period xlink:href="http://169.254.169.254/latest" duration="PT2S"/>'),
        ("/a.mpd", '<Period xlink:href="file:///etc/passwd" duration="PT2S"/>'),
        ("/a.mpd", '<Period xlink:href="/redirected" duration="PT2S"/>'),
        ("/a.mpd", '<Period duration="PT2S"><BaseURL>file:///etc/</BaseURL></Period>'),
    ],
)
async def test_new_ways_of_fetching_keep_to_the_policy(server: Server, path: str, body: str) -> None:
    """Remote elements at private addresses, in files, and behind redirects; the other period is listed."""
    template = '<SegmentTemplate duration="2" media="$Number$.m4s"/><Representation id="v" height="90"/>'
    good = f'<Period duration="PT2S"><AdaptationSet mimeType="video/mp4">{template}</AdaptationSet></Period>'
    root = '<MPD xmlns:xlink="http://www.w3.org/1999/xlink" type="static">'
    server.answers = {
        "/redirected": Answer(status=302, headers={"Location": "http://127.0.0.2/"}),
        path: f"{root}{good}{body}</MPD>".encode(),
    }
    items = await collect_single_lane(server, ManualClock(), path)
    assert (len(items), reasons(items)) == (2, ["playlist"])
    assert {request.path for request in server.requests} <= {path, "/redirected"}
