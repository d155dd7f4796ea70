"""The page of a segment."""

import re
from dataclasses import replace

import httpx

from tests import factories
from tests.web import seed
from tests.web.stored_history import StoredHistory
from vqmon.core.scores import Promotion
from vqmon.core.types import (
    QualityEvent,
    ReferencePairing,
    ReferenceScore,
    ScoreInterval,
    SegmentFailure,
    SubtitleFacts,
)

SCORED, UNSCORED = QualityEvent, SegmentFailure


def newest(history: StoredHistory, kind: type, stream_id: str | None = None) -> str:
    return [outcome for outcome in history.outcomes(stream_id) if isinstance(outcome, kind)][-1].id


async def text(client: httpx.AsyncClient, path: str) -> str:
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text[:500]
    return reply.text


async def test_segment_shows_frames_signals_and_provenance(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """A result is shown down to its frames, and no query string of a URL is shown."""
    page = await text(client, f"/segments/{newest(history, SCORED, 'cinema-4k')}")
    assert page.count("/frames/") == 8
    for text_part in ("5th percentile of frames", "bt709/limited", "sha256 5f5f", "onnxruntime", "banding"):
        assert text_part in page
    assert "token=secret" not in page


async def test_unscored_segment_has_reason_and_remedies(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """A failure is explained in plain words, with the stage at which it failed and a remedy."""
    page = await text(client, f"/segments/{newest(history, UNSCORED)}")
    for text_part in ("The server says that the segment does not exist.", "What you can do", "not reached", "HTTP 404"):
        assert text_part in page


async def test_segment_links_to_its_neighbours(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Previous and next are the neighbours of the same rendition; the newest has no next."""
    line = [outcome.id for outcome in history.outcomes("weather", "480p")]
    page = await text(client, f"/segments/{line[-2]}")
    assert f'rel="prev" href="/segments/{line[-3]}"' in page
    assert f'rel="next" href="/segments/{line[-1]}"' in page
    assert 'id="next"' not in await text(client, f"/segments/{line[-1]}")


async def test_segment_shows_reference_measures_or_why_there_are_none(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """Values, worst frame, pairing and canvas; per frame in the table; and which of several servers it came from."""
    event = seed.next_event("weather", "480p", 61.0)
    reference = ReferenceScore(
        measure="psnr", value=38.5, frame_values=(40.0, None, 37.0, 38.5), unit="dB", higher_is_better=True
    )
    pairing = ReferencePairing(offset_seconds=-0.48, confidence=0.97, paired_frames=3, canvas="1920x1080 bicubic")
    backup = "https://backup.example.com/1.ts"
    history.write(replace(event, references=(reference,), reference_pairing=pairing, served_url=backup))
    page = await text(client, f"/segments/{event.id}")
    for part in (
        "38.5 dB; worst frame 37",
        "3 frames, offset -0.480 s, confidence 0.97",
        "1920x1080 bicubic",
        "37.000",
        "https://backup.example.com/1.ts",
    ):
        assert part in page, part

    event = seed.next_event("weather", "720p", 61.0)
    niqe, si = (
        ReferenceScore(measure=name, value=4.25, frame_values=(4.0, None, 4.5, 4.25), unit="", higher_is_better=better,
                       is_compared=False)
        for name, better in (("niqe", False), ("si", None))
    )  # fmt: skip
    unscored = {"unscored_reference": "misaligned", "unscored_reference_detail": "another film"}
    history.write(replace(event, references=(niqe, si), **unscored))
    page = await text(client, f"/segments/{event.id}")
    for part in ("another film", "Measures of the segment alone", "4.25; worst frame 4.5", "4.25; lowest frame 4"):
        assert part in page, part


async def test_segment_shows_the_subtitles(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Cues, none, or why it is not known; text from a playlist is no markup."""
    subtitles = (
        SubtitleFacts(name="en <b>English", cues=2),
        SubtitleFacts(name="de"),
        SubtitleFacts(name="fr", problem="missing", detail="404 from the origin"),
    )
    event = replace(seed.next_event("weather", "480p", 61.0), subtitles=subtitles)
    history.write(event)
    page = await text(client, f"/segments/{event.id}")
    for words in ("en &lt;b&gt;English", "2 cues", "no cue", "missing: 404 from the origin"):
        assert words in page
    reply = (await client.get(f"/api/v1/outcomes/{event.id}")).json()
    assert [each["cues"] for each in reply["subtitles"]] == [2, 0, 0]


async def test_segment_names_a_scorer_that_failed(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Beside the scores of the others, on the page and in the API, and by its reason in the lists of the stream."""
    failure = factories.scorer_failure(scorer="big@1", tier="main", reason="out_of_memory", detail="8 GB asked for")
    event = replace(seed.next_event("weather", "480p", 61.0), scorer_failures=(failure,))
    history.write(event)
    page = await text(client, f"/segments/{event.id}")
    assert re.search(r"<b>big@1</b> gave no score: .*too little memory.*8 GB asked for", page)
    reply = (await client.get(f"/api/segments/{event.id}")).json()
    assert reply["scorer_failures"] == [
        {"scorer": "big@1", "tier": "main", "reason": "out_of_memory", "detail": "8 GB asked for"}
    ]
    assert (await client.get(f"/api/v1/outcomes/{event.id}")).json()["scorer_failures"] == reply["scorer_failures"]
    listed = (await client.get("/api/v1/outcomes?stream=weather&rendition=480p&limit=1")).json()["items"]
    assert listed[0]["scorer_failures"] == {"big@1": "out_of_memory"}


async def test_segment_shows_where_and_when_quality_is_lost(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Cells over the picture, a choice of maps, a timeline that leads to the frames, and numbers in words."""
    event = seed.next_event("weather", "480p", 61.0)
    ssim, detail = (seed.half_lost(name, frames=4, lost=(2,)) for name in ("ssim", "detail"))
    history.write(replace(event, heat_maps=(detail, ssim)))
    page = await text(client, f"/segments/{event.id}")
    assert re.findall(r'name="map" value="(\w+)"( checked)?', page) == [("m0", " checked"), ("m1", ""), ("none", "")]
    maps = re.findall(r'<svg class="heat (m\d)".*?aria-label="(.*?)">(.*?)</svg>', page)
    assert [slot for slot, _, _ in maps] == ["m1", "m0"]
    assert maps[0][1] == "Heat map detail at 2.00 s: mostly left; mean 0.35, largest 0.70"
    cells = re.findall(r'<rect class="l4" x="(\d+)" y="(\d+)"', maps[0][2])
    assert sorted({int(x) for x, _ in cells}) == list(range(8))
    assert len(cells) == 72
    moments = re.findall(r'<a href="#(frame-\d)" aria-label="(.*?)">', page)
    assert [target for target, _ in moments] == ["frame-0", "frame-1", "frame-2", "frame-3"]
    assert all(f'id="{target}"' in page for target, _ in moments)
    assert moments[2][
        1
    ] == f"2.0 s; {seed.SCORER} 59.1; detail lost mostly left; mean 0.35, largest 0.70; ssim lost " + (
        "mostly left; mean 0.35, largest 0.70"
    )
    assert moments[1][1] == f"1.0 s; {seed.SCORER} 62.3"


async def test_segment_without_heat_maps_offers_none(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """The timeline has the scores alone."""
    page = await text(client, f"/segments/{newest(history, SCORED, 'weather')}")
    assert 'class="maps"' not in page
    assert "Losses in numbers" not in page
    assert page.count('<a href="#frame-') == 4


async def test_segment_shows_levels_shadow_scores_and_promotion(
    client: httpx.AsyncClient, history: StoredHistory
) -> None:
    """Levels, disagreement, trials, and why a heavy scorer looked."""
    event = seed.next_event("weather", "480p", 61.0)
    first = event.scores[0]
    first = replace(first, percentile=37.4, interval=ScoreInterval(low=52.0, high=70.0, coverage=0.9))
    levels = replace(first, scorer="q-align@1", levels={"good": 0.7, "fair": 0.3}, entropy=0.38)
    history.write(
        replace(
            event,
            scores=(first, levels),
            shadow_scores=(replace(first, scorer="lite@2"),),
            disagreement=7.25,
            promotion=Promotion(reasons=("low",), left_out="budget"),
        )
    )
    page = await text(client, f"/segments/{event.id}")
    population = (
        "better than 37 % of the scorer&#39;s reference population; mean human score between 52 and 70 with 90%"
    )
    assert population in page
    for text_part in ("7.2 points between", "good 70%, fair 30%; entropy 0.38", "lite@2, shadow", "used up"):
        assert text_part in page, text_part


async def test_segment_shows_that_a_picture_is_a_still(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """It has neither a frame rate nor a length; what was done to it is a note."""
    event = seed.next_event("weather", "480p", 61.0)
    media = replace(factories.STILL_MEDIA, notes=("the alpha channel was composited on black",))
    event = replace(event, media=media, segment=replace(event.segment, duration_seconds=0.0), times_seconds=(0.0,))
    history.write(event)
    page = await text(client, f"/segments/{event.id}")
    assert "1920×1080, a still picture" in page
    assert "jpeg in jpeg" in page
    assert "the alpha channel was composited on black" in page
    assert " fps" not in page
