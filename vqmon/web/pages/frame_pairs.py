"""The page that compares two segments of the same moment frame by frame: wipe, side by side, difference."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.types import HeatMap, Outcome, QualityEvent
from vqmon.web.model.heat_maps import MapChoice, MapLayer, map_choices, map_layers
from vqmon.web.site import Site
from vqmon.web.urls import EVENT_ID_PATTERN, segment_path, stream_path

_CACHE_CONTROL = "private, max-age=300"
"""Not longer, since a larger picture may replace a thumbnail."""

_MIN_VISIBLE_SIGNAL = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSide:
    """One of the two segments, with its pictures."""

    outcome: Outcome
    name: str
    score: float | None
    url: str
    stream_url: str
    # (seconds into the segment, JPEG)
    pictures: Sequence[tuple[float, bytes]]
    # of the frames that the pictures show
    heat_maps: Sequence[HeatMap] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePair:
    """The URLs of two pictures of the same moment."""

    number: int
    seconds: float
    a_url: str
    b_url: str
    # heat maps over the pictures
    a_layers: Sequence[MapLayer] = ()
    b_layers: Sequence[MapLayer] = ()


def frame_pair_page(site: Site, request: Request) -> Response:
    """Answer `/pairs/{pair_id}`."""
    a, b = _requested_sides(site, request)
    maps = map_choices([heat_map for side in (a, b) for heat_map in side.heat_maps])
    return site.render_page(
        "pair.html",
        request,
        a=a,
        b=b,
        frames=frame_pairs(request.path_params["pair_id"], a, b, maps=maps),
        maps=maps,
        measures=_shared_measures(a, b),
        back=_back_path(request.query_params.get("from", "")),
    )


def frame_pair_picture(site: Site, request: Request) -> Response:
    """Answer `/pairs/{pair_id}/{side}/{number}.jpg`."""
    sides = _requested_sides(site, request)
    side = sides[0] if request.path_params["side"] == "a" else sides[1]
    pictures = [jpeg for _, jpeg in side.pictures]
    return jpeg_response(pictures, request.path_params["number"], cache_control=_CACHE_CONTROL)


def jpeg_response(pictures: Sequence[bytes], number: int, *, cache_control: str) -> Response:
    """One of the pictures; raises 404 when it does not exist or is not a JPEG."""
    if number >= len(pictures) or not pictures[number].startswith(b"\xff\xd8\xff"):
        raise HTTPException(404, "This picture is no longer stored.")
    return Response(pictures[number], media_type="image/jpeg", headers={"Cache-Control": cache_control})


def _requested_sides(site: Site, request: Request) -> tuple[PairSide, PairSide]:
    """Both segments that the path names; raises 404."""
    event_ids = request.path_params["pair_id"].split(":")
    if len(event_ids) != 2 or not all(EVENT_ID_PATTERN.fullmatch(event_id) for event_id in event_ids):
        raise HTTPException(404, "There is no such pair.")
    a, b = (site.history.outcome(event_id) for event_id in event_ids)
    if a is None or b is None:
        raise HTTPException(404, "The history no longer holds one of the two segments.")
    return load_side(site, a), load_side(site, b)


def load_side(site: Site, outcome: Outcome) -> PairSide:
    """One side of a pair, with its pictures."""
    rendition = outcome.segment.rendition
    score = outcome.main_score if isinstance(outcome, QualityEvent) else None
    pictures = frame_pictures(site, outcome.id, outcome)
    times = [seconds for seconds, _ in pictures]
    return PairSide(
        outcome=outcome,
        name=rendition.key,
        score=score.value if score else None,
        url=segment_path(outcome.id),
        stream_url=stream_path(rendition.stream_id),
        pictures=pictures,
        heat_maps=outcome.heat_maps_at(times) if isinstance(outcome, QualityEvent) else (),
    )


def frame_pictures(site: Site, event_id: str, outcome: Outcome | None = None) -> Sequence[tuple[float, bytes]]:
    """(seconds into the segment, JPEG): the pictures stored for reviews, else the thumbnails of the history.

    Without the outcome, the times of thumbnails are unknown and counted as one per second.
    """
    if stored := site.reviews.pictures(event_id):
        return stored
    thumbnails = site.history.thumbnails(event_id)
    times = outcome.times_seconds if isinstance(outcome, QualityEvent) else ()
    return [(times[number] if number < len(times) else float(number), jpeg) for number, jpeg in enumerate(thumbnails)]


def frame_pairs(pair_id: str, a: PairSide, b: PairSide, *, maps: Sequence[MapChoice] = ()) -> list[FramePair]:
    """The moments of which both sides have a picture, with the layers of these heat maps."""
    return [
        FramePair(
            number=number,
            seconds=a.pictures[number][0],
            a_url=f"/pairs/{pair_id}/a/{number}.jpg",
            b_url=f"/pairs/{pair_id}/b/{number}.jpg",
            a_layers=map_layers(a.heat_maps, number, maps),
            b_layers=map_layers(b.heat_maps, number, maps),
        )
        for number in range(min(len(a.pictures), len(b.pictures)))
    ]


def _shared_measures(a: PairSide, b: PairSide) -> list[tuple[str, float, float]]:
    """Name and both values of every scorer, then of every signal that is not negligible, that both sides have."""
    if not (isinstance(a.outcome, QualityEvent) and isinstance(b.outcome, QualityEvent)):
        return []
    scores = [
        (score.scorer, score.value, other.value)
        for score in a.outcome.scores
        if (other := b.outcome.score_of(score.scorer)) is not None
    ]
    a_signals, b_signals = a.outcome.signals, b.outcome.signals
    means = [
        (name.replace("_", " "), a_signals[name].mean, b_signals[name].mean)
        for name in sorted(a_signals.keys() & b_signals.keys())
    ]
    return scores + [measure for measure in means if max(measure[1:]) >= _MIN_VISIBLE_SIGNAL]


def _back_path(path: str) -> str:
    """The path if it is a page of an experiment here, else `/compare`: a link must not leave this site."""
    return path if path.startswith("/experiments/") and "//" not in path and "\\" not in path else "/compare"
