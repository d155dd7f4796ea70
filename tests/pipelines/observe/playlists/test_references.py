"""Segments find their references in a second playlist: by date, by media time, by number, or not at all."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipelines.observe.playlists.positions import MAX_WAIT_SECONDS
from pipelines.observe.playlists.references import ReferencePlaylist
from tests.pipelines.observe.playlists.rig import NOON, OTHER, OWN, Origin, playlist
from vqmon.core.types import Reference, ReferenceComparison, Segment
from vqmon.testing import make_segment


def references_of(origin: Origin, url: str = OTHER, *, rendition: str = "") -> ReferencePlaylist:
    """Of the stream at OWN."""
    return ReferencePlaylist(
        url,
        stream=origin.stream(OWN),
        rendition=rendition,
        fetcher=origin,  # type: ignore[arg-type]
        now=lambda: origin.clock,
        sleep=origin.sleep,
    )


def segment(number: int, *, rendition: str = "main", seconds: float = 2.0) -> Segment:
    """As the playlist `own` lists it; its start and its number are not those of the playlist."""
    listed = make_segment(number + 1000, rendition=rendition, seconds=seconds)
    return replace(listed, url=f"https://cdn.example/own{number}.ts?token=2")


def name_of(found: Reference | ReferenceComparison | None) -> str:
    if isinstance(found, Reference):
        return found.url.rpartition("/")[2]
    return found.unscored if found else "none"


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        # half a second apart, other numbers
        (
            playlist("own", range(4, 9), dated=NOON),
            playlist("ref", range(80, 100), dated=NOON - timedelta(seconds=160.5)),
            {4: "ref84.ts", 7: "ref87.ts"},
        ),
        # other durations: segment 5 has 10..12 s, where ref2 has 8..12 s
        (
            playlist("own", range(9), ended=True),
            playlist("ref", range(5), seconds=4, ended=True),
            {0: "ref0.ts", 5: "ref2.ts"},
        ),
        (
            playlist("own", range(9), ended=True),
            playlist("ref", range(100, 103), ended=True),
            {2: "ref102.ts", 3: "missing"},
        ),
        (playlist("own", range(6, 9)), playlist("ref", range(6, 9)), {6: "ref6.ts", 8: "ref8.ts"}),
        # one side is dated: the numbers are left
        (playlist("own", range(6, 9), dated=NOON), playlist("ref", range(2, 9)), {6: "ref6.ts"}),
        (playlist("own", range(6, 9)), playlist("ref", range(7, 9), gaps=[7]), {6: "missing", 7: "missing"}),
        (playlist("own", range(6, 9)), "", {6: "fetch"}),
    ],
    ids=["dates", "media time", "other numbers", "numbers", "one dated", "left and gap", "no playlist"],
)
async def test_a_segment_is_paired_by_date_else_by_media_time_else_by_number(
    own: str, other: str, expected: dict[int, str]
) -> None:
    references = references_of(Origin({OWN: own, OTHER: other}))

    assert {number: name_of(await references.find(segment(number))) for number in expected} == expected


async def test_a_segment_waits_a_little_for_a_live_reference_that_is_late() -> None:
    origin = Origin({OWN: playlist("own", range(6, 9)), OTHER: playlist("ref", range(5, 8))})
    references = references_of(origin)
    assert name_of(await references.find(segment(7))) == "ref7.ts"
    origin.later = {1.0: playlist("ref", range(6, 9)), 1e6: ""}

    assert name_of(await references.find(segment(8))) == "ref8.ts"
    assert sum(origin.slept) == 1.0

    # it never comes: the first one waits to the end; once the playlist is stale, none does
    origin.texts[OWN] = playlist("own", range(6, 12))
    assert name_of(await references.find(segment(9))) == "missing"
    assert sum(origin.slept) == 1.0 + MAX_WAIT_SECONDS
    origin.clock += timedelta(seconds=10)
    assert name_of(await references.find(segment(10))) == "missing"
    assert sum(origin.slept) == 1.0 + MAX_WAIT_SECONDS


async def test_another_rendition_of_the_stream_is_the_reference_of_all_but_itself() -> None:
    master = "#EXTM3U\n" + "".join(
        f"#EXT-X-STREAM-INF:BANDWIDTH={height}000,RESOLUTION=640x{height}\n{height}.m3u8\n"
        for height in (360, 720, 480)
    )
    origin = Origin({OWN: master})
    for height in (360, 480, 720):
        origin.texts[f"https://cdn.example/{height}.m3u8"] = playlist(f"{height}-", range(3))
    low = replace(segment(1, rendition="360p"), url="https://cdn.example/360-1.ts")
    high = replace(segment(1, rendition="720p"), url="https://cdn.example/720-1.ts")

    largest, named = references_of(origin, OWN), references_of(origin, OWN, rendition="480p")
    assert [name_of(await largest.find(each)) for each in (low, high)] == ["720-1.ts", "none"]
    assert [name_of(await named.find(each)) for each in (low, high)] == ["480-1.ts", "480-1.ts"]
    unknown = await references_of(origin, OWN, rendition="4K").find(low)
    assert isinstance(unknown, ReferenceComparison)
    assert "there is no rendition '4K' for reference_rendition; there are: 360p, 720p, 480p" in unknown.detail


async def test_a_playlist_that_fails_is_asked_again_after_a_while_and_not_by_each_segment() -> None:
    origin = Origin({OWN: playlist("own", range(9))})
    references = references_of(origin)
    for number in range(5):
        found = await references.find(segment(number))
        assert isinstance(found, ReferenceComparison)
        assert found.detail.startswith("https://cdn.example/ref/other.m3u8: not_found")
    assert origin.requests.count(OTHER) == 1

    origin.clock += timedelta(seconds=3)
    origin.texts[OTHER] = playlist("ref", range(9))
    assert name_of(await references.find(segment(4))) == "ref4.ts"
