"""Low-latency HLS: segments are listed as soon as they are complete, by reloads that wait for the next part."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from pipelines.daemon.partial_verdicts import OpenSegmentSource
from tests.media.loopback import Answer, Request, Server
from tests.media.sources.rig import NOON, Fetcher, ManualClock, policy
from vqmon.core.types import Segment
from vqmon.errors import SegmentError
from vqmon.media.sources.hls.low_latency import LowLatencyReloads
from vqmon.media.sources.hls.parser import parse_hls
from vqmon.media.sources.media_playlist import MediaPlaylist
from vqmon.media.sources.playlist import Lane, PlaylistSource

PART, PARTS, WINDOW = 0.5, 4, 8
URL = "https://cdn.example.com/live.m3u8?t=1"


def listing(made_parts: int, *, skipped: int = 0, keys: bool = False) -> str:
    """The playlist when so many parts were made; the oldest segments may be left out."""
    made = made_parts // PARTS
    first = max(0, made - WINDOW)
    lines = [
        "#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}", f"#EXT-X-PART-INF:PART-TARGET={PART}",
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=6.0",
    ]  # fmt: skip
    if skipped:
        lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")
    else:
        lines += ['#EXT-X-KEY:METHOD=AES-128,URI="k"'] * keys
        starts_at = NOON + timedelta(seconds=(first - 12) * 2)
        lines += ['#EXT-X-MAP:URI="i.mp4"', f"#EXT-X-PROGRAM-DATE-TIME:{starts_at.isoformat()}"]
    for number in range(first + skipped, made):
        lines += [f'#EXT-X-PART:DURATION={PART},URI="s{number}.{part}.m4s"' for part in range(PARTS)]
        lines += ["#EXTINF:2,", f"s{number}.m4s"]
    lines += [f'#EXT-X-PART:DURATION={PART},URI="s{made}.{part}.m4s"' for part in range(made_parts % PARTS)]
    lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="s{made}.{made_parts % PARTS}.m4s"')
    lines.append('#EXT-X-RENDITION-REPORT:URI="other.m3u8",LAST-MSN=1,LAST-PART=0')
    return "\n".join(lines)


class Packager:
    """Answers a request for a part when that part is there, by moving the clock."""

    def __init__(self, clock: ManualClock, *, refuses: bool = False) -> None:
        self.clock = clock
        self.refuses = refuses
        self.queries: list[dict[str, list[str]]] = []

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        query = parse_qs(urlsplit(request.path).query)
        self.queries.append(query)
        answer = Answer(status=400) if self.refuses and "_HLS_msn" in query else Answer(self._text(query).encode())
        writer.write(answer.on_the_wire())
        await writer.drain()

    def _text(self, query: dict[str, list[str]]) -> str:
        if "_HLS_msn" in query:
            parts = int(query["_HLS_msn"][0]) * PARTS + int(query["_HLS_part"][0]) + 1
            self.clock.seconds = max(self.clock.seconds, parts * PART - 40)
        made_parts = int((self.clock.seconds + 40) / PART)
        return listing(made_parts, skipped=WINDOW - 3 if "_HLS_skip" in query else 0)


async def latencies(server: Server, packager: Packager, clock: ManualClock, part_delays: list[float]) -> list[float]:
    """Seconds from the end of each segment to its listing, after the first listing; and from that of parts."""
    server.answers["/live.m3u8"] = packager
    found = []
    async with Fetcher(policy(server)) as fetcher:
        source = PlaylistSource(
            server.url("/live.m3u8"), stream_id="news", fetcher=fetcher, now=clock.now, stop=clock.stop,
            wait=clock.wait, monotonic=clock.monotonic, start="newest",
        )  # fmt: skip
        (lane,) = await source.lanes()
        watching = asyncio.ensure_future(_watch_parts(lane, clock, part_delays))
        async for item in lane:
            assert isinstance(item, Segment)
            assert item.init_url == server.url("/i.mp4")
            assert item.starts_at == NOON + timedelta(seconds=(item.sequence - 12) * 2)
            found.append(clock.seconds - ((item.sequence + 1) * 2 - 40))
        await watching
    return found[1:]


async def _watch_parts(lane: Lane, clock: ManualClock, delays: list[float]) -> None:
    assert isinstance(lane, OpenSegmentSource)
    # segment 12 begins at noon by the dates, and 16 s before by the clock
    delays += [(clock.now() - opened.parts[-1].ends_at).total_seconds() + 16 async for opened in lane.open_segments()]


async def test_a_segment_is_listed_within_two_parts_of_its_end(server: Server) -> None:
    """Each reload asks for the next part, and for what is new only."""
    clock = ManualClock(ends=30)
    packager = Packager(clock)
    part_delays: list[float] = []
    delays = await latencies(server, packager, clock, part_delays)
    assert len(delays) >= 14
    assert max(delays) <= 2 * PART
    # three of four parts: the last one completes its segment
    assert len(part_delays) >= 3 * 14
    assert 0 <= min(part_delays) <= max(part_delays) <= 2 * PART
    assert [query.get("_HLS_msn") for query in packager.queries[:3]] == [None, None, ["20"]]
    assert sum("_HLS_skip" in query for query in packager.queries) > 20


async def test_a_server_that_refuses_directives_is_asked_without(server: Server) -> None:
    """After two refusals for good; nothing is lost meanwhile."""
    clock = ManualClock(ends=30)
    packager = Packager(clock, refuses=True)
    assert len(await latencies(server, packager, clock, [])) >= 14
    assert sum("_HLS_msn" in query for query in packager.queries) == 2


def parse(text: str) -> MediaPlaylist:
    playlist = parse_hls(text, URL)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def test_a_delta_update_is_completed_from_the_playlist_before_it() -> None:
    """The same segments, numbers, headers and keys as in the whole playlist."""
    reloads = LowLatencyReloads()
    reloads.complete(parse(listing(80, keys=True)), NOON)
    url = reloads.url(URL, NOON)
    assert url == "https://cdn.example.com/live.m3u8?t=1&_HLS_msn=20&_HLS_part=0&_HLS_skip=YES"
    whole = parse(listing(84, keys=True))
    completed = reloads.complete(parse(listing(84, skipped=5)), NOON + timedelta(seconds=2))
    plain = [replace(entry, starts_at=None) for entry in whole.entries]
    assert [replace(entry, starts_at=None) for entry in completed.entries] == plain
    assert completed.entries[-1].starts_at == NOON + timedelta(seconds=16)
    assert "_HLS_skip" not in reloads.url(URL, NOON + timedelta(seconds=60))


def test_the_last_delta_update_is_completed_too() -> None:
    """With the end of the stream; nothing is asked for after it."""
    reloads = LowLatencyReloads()
    reloads.complete(parse(listing(80)), NOON)
    completed = reloads.complete(parse(f"{listing(84, skipped=5)}\n#EXT-X-ENDLIST"), NOON + timedelta(seconds=2))
    assert [entry.sequence for entry in completed.entries] == list(range(13, 21))
    assert {entry.init_url for entry in completed.entries} == {"https://cdn.example.com/i.mp4"}
    assert (completed.is_ended, completed.reload_seconds, completed.open_entry) == (True, None, None)
    assert reloads.url(URL, NOON + timedelta(seconds=2)) == URL


def test_a_delta_update_of_unknown_segments_is_refused() -> None:
    """And a first playlist that leaves segments out is listed without them."""
    reloads = LowLatencyReloads()
    rest = reloads.complete(parse(listing(84, skipped=5)), NOON)
    assert [entry.sequence for entry in rest.entries] == [18, 19, 20]
    assert rest.warnings == ("EXT-X-SKIP: 5 segments are left out, and no playlist before this one lists them",)
    with pytest.raises(SegmentError, match="4 of 5 segments are not known"):
        reloads.complete(parse(listing(88, skipped=5)), NOON)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CAN-BLOCK-RELOAD=YES", "CAN-BLOCK-RELOAD=NO"),
        ("PART-TARGET=0.5", "PART-TARGET=oops"),
        ("PART-TARGET=0.5", "PART-TARGET=20"),
        ("#EXT-X-PRELOAD-HINT", "#EXT-X-ENDLIST\n#"),
    ],
)
def test_without_a_server_that_waits_reloads_are_ordinary(old: str, new: str) -> None:
    """Also when a part lasts longer than an answer may take, and when the stream has ended."""
    reloads = LowLatencyReloads()
    playlist = reloads.complete(parse(listing(80).replace(old, new)), NOON)
    assert (reloads.url(URL, NOON), playlist.reload_seconds) == (URL, None)
