"""Two looks at the same moment, one over the other: wipe, side by side, difference."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.types import Outcome, QualityEvent
from vqmon.web.addresses import EVENT_ID, segment_path, stream_path
from vqmon.web.site import Site

A_WHILE = "private, max-age=300"
"""A larger picture may take the place of a small one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two looks."""

    outcome: Outcome
    name: str
    score: float | None
    url: str
    stream_url: str
    # (seconds into the segment, picture)
    pictures: Sequence[tuple[float, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """The same moment in both: addresses of the two pictures."""

    number: int
    seconds: float
    a_url: str
    b_url: str


def pair(site: Site, request: Request) -> Response:
    """Answer `/pairs/{pair_id}`."""
    a, b = sides_asked(site, request)
    pair_id = request.path_params["pair_id"]
    shots = shots_of(pair_id, a, b)
    return site.page(
        "pair.html",
        request,
        a=a,
        b=b,
        shots=shots,
        shared=_shared(a, b),
        back=_back(request.query_params.get("from", "")),
    )


def picture(site: Site, request: Request) -> Response:
    """Answer `/pairs/{pair_id}/{side}/{number}.jpg`."""
    sides = sides_asked(site, request)
    side = sides[0] if request.path_params["side"] == "a" else sides[1]
    return jpeg_of([jpeg for _, jpeg in side.pictures], request.path_params["number"], cache=A_WHILE)


def jpeg_of(pictures: Sequence[bytes], number: int, *, cache: str) -> Response:
    """A picture as an answer; raises 404 when it is not there or is no JPEG."""
    if number >= len(pictures) or not pictures[number].startswith(b"\xff\xd8\xff"):
        raise HTTPException(404, "This picture is not kept any more.")
    return Response(pictures[number], media_type="image/jpeg", headers={"Cache-Control": cache})


def sides_asked(site: Site, request: Request) -> tuple[Side, Side]:
    """Both looks that the path names; raises 404."""
    ids = request.path_params["pair_id"].split(":")
    if len(ids) != 2 or not all(EVENT_ID.fullmatch(it) for it in ids):
        raise HTTPException(404, "There is no such pair.")
    found = [site.history.outcome(it) for it in ids]
    if found[0] is None or found[1] is None:
        raise HTTPException(404, "One of the two segments is older than what the history keeps.")
    return side_of(site, found[0]), side_of(site, found[1])


def side_of(site: Site, outcome: Outcome) -> Side:
    """A look with its pictures."""
    rendition = outcome.segment.rendition
    scores = outcome.scores if isinstance(outcome, QualityEvent) else ()
    return Side(
        outcome=outcome,
        name=rendition.key,
        score=scores[0].value if scores else None,
        url=segment_path(outcome.id),
        stream_url=stream_path(rendition.stream_id),
        pictures=pictures_of(site, outcome.id, outcome),
    )


def pictures_of(site: Site, event_id: str, outcome: Outcome | None = None) -> Sequence[tuple[float, bytes]]:
    """Pictures kept for pairs, else the small ones of the history."""
    kept = site.reviews.pictures(event_id)
    if kept:
        return kept
    small = site.history.thumbnails(event_id)
    times = outcome.times_seconds if isinstance(outcome, QualityEvent) else ()
    return [(times[number] if number < len(times) else float(number), jpeg) for number, jpeg in enumerate(small)]


def shots_of(pair_id: str, a: Side, b: Side) -> list[Shot]:
    """The moments that both have a picture of."""
    return [
        Shot(
            number=number,
            seconds=a.pictures[number][0],
            a_url=f"/pairs/{pair_id}/a/{number}.jpg",
            b_url=f"/pairs/{pair_id}/b/{number}.jpg",
        )
        for number in range(min(len(a.pictures), len(b.pictures)))
    ]


def _shared(a: Side, b: Side) -> list[tuple[str, float, float]]:
    """Name, a and b of every scorer, then of every signal that says something, that both have."""
    if not (isinstance(a.outcome, QualityEvent) and isinstance(b.outcome, QualityEvent)):
        return []
    lines = [
        (score.scorer, score.value, other.value)
        for score in a.outcome.scores
        if (other := b.outcome.score_of(score.scorer)) is not None
    ]
    signals = a.outcome.signals.keys() & b.outcome.signals.keys()
    means = [(name, a.outcome.signals[name].mean, b.outcome.signals[name].mean) for name in sorted(signals)]
    return lines + [(name.replace("_", " "), one, other) for name, one, other in means if max(one, other) >= 0.01]


def _back(path: str) -> str:
    """Only a path of this site is somewhere to go back to."""
    return path if path.startswith("/experiments/") and "//" not in path and "\\" not in path else "/compare"
