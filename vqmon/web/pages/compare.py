"""Any two renditions side by side on the media timeline: `/compare?a=STREAM/RENDITION&b=STREAM/RENDITION`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, pairwise
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vqmon.core.timeline import TimelinePoint
from vqmon.web.addresses import pair_path, stream_path, with_query
from vqmon.web.api.downloads import csv_of
from vqmon.web.charts.series import MAX_BUCKETS, scorers_of, span_words
from vqmon.web.charts.svg import Plot, Rule, Shape, around, down, joined, moment_scale, ribbon, signed, time_ticks
from vqmon.web.model.alignment import Aligned, Pair, Summary, align, align_buckets, summary_of
from vqmon.web.model.renditions import Row, plural
from vqmon.web.model.time_range import RANGES, Range, range_of
from vqmon.web.pages.stream import MAX_POINTS, RECENT_POINTS
from vqmon.web.site import Site, iso

TOLD_PAIRS = 8
TABLE_LINES = 200
ALIGNMENTS = {"timeline": "same time", "ends": "newest with newest"}
"""How two timelines are laid on each other, by its name in the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What an address asks for, and what came of it."""

    a: Row
    b: Row
    range: Range
    scorer: str
    scorers: Sequence[str]
    align: str
    # what is added to the times of b
    shift: timedelta
    aligned: Aligned
    # length of a part when pairs stand for many segments, else 0
    step_seconds: float

    def query(self, **other: str) -> dict[str, str]:
        """What asks for the same again, with something changed."""
        names = {"a": key_of(self.a), "b": key_of(self.b), "scorer": self.scorer, "align": self.align}
        return {**names, **self.range.query, **other}


def key_of(row: Row) -> str:
    """A rendition as it is named in the address."""
    return f"{row.stream_id}/{row.rendition}"


def compare(site: Site, request: Request) -> Response:
    """Answer `/compare`."""
    rows = {key_of(row): row for row in site.standing.rows()}
    it = compared_of(site, request.query_params)
    asked = {name: request.query_params.get(name, "")[:500] for name in ("a", "b")}
    unknown = [key for key in asked.values() if key and key not in rows]
    common: dict[str, Any] = {"keys": sorted(rows), "asked": asked, "unknown": unknown, "it": it}
    if it is None:
        return site.page("compare.html", request, **common)
    summary = summary_of(it.aligned.pairs)
    ranked = sorted(it.aligned.pairs, key=lambda pair: pair.difference)
    return site.page(
        "compare.html",
        request,
        **common,
        ranges=[
            {"label": label, "url": _url(it, name=key), "is_current": key == it.range.name}
            for key, (label, _) in RANGES.items()
        ],
        alignments=[
            {"label": label, "url": with_query("/compare", **it.query(align=key)), "is_current": key == it.align}
            for key, label in ALIGNMENTS.items()
        ],
        sentence=sentence_of(it, summary),
        summary=summary,
        scores=_scores_plot(it),
        differences=_difference_plot(it, summary),
        extremes=[
            {"title": f"Where {key_of(it.a)} is ahead most", "pairs": _told(ranked[:TOLD_PAIRS])},
            {"title": f"Where {key_of(it.b)} is ahead most", "pairs": _told(ranked[: -TOLD_PAIRS - 1 : -1])},
        ],
        table=list(it.aligned.pairs)[: -TABLE_LINES - 1 : -1],
        a_url=stream_path(it.a.stream_id),
        b_url=stream_path(it.b.stream_id),
        swap_url=with_query("/compare", **it.query(a=key_of(it.b), b=key_of(it.a))),
        csv_url=with_query("/api/compare.csv", **it.query()),
        json_url=with_query("/api/compare", **it.query()),
        pair_path=pair_path,
    )


def compare_json(site: Site, request: Request) -> Response:
    """Answer `/api/compare`."""
    it = compared_asked(site, request)
    pairs = [{**_cells(pair), "at": iso(pair.at)} for pair in it.aligned.pairs]
    return JSONResponse({"a": key_of(it.a), "b": key_of(it.b), "scorer": it.scorer, "pairs": pairs})


def compare_csv(site: Site, request: Request) -> Response:
    """Answer `/api/compare.csv`: a line per pair."""
    it = compared_asked(site, request)
    rows = [_cells(pair) for pair in it.aligned.pairs]
    names = ["at", "a", "b", "difference", "a_event_id", "b_event_id"]
    return csv_of("compare", names, ([row[name] for name in names] for row in rows))


def compared_asked(site: Site, request: Request) -> Compared:
    """What the address asks for; raises 404."""
    it = compared_of(site, request.query_params)
    if it is None:
        raise HTTPException(404, "Give two renditions that have been seen as `a` and `b`, each as STREAM/RENDITION.")
    return it


def _cells(pair: Pair) -> dict[str, object]:
    return {
        "at": iso(pair.at),
        "a": pair.a,
        "b": pair.b,
        "difference": round(pair.difference, 4),
        "a_event_id": pair.a_id,
        "b_event_id": pair.b_id,
    }


# ---- from the history


def compared_of(site: Site, query: Mapping[str, str]) -> Compared | None:
    """What a query asks for; None when one of the two has not been seen."""
    rows = {key_of(row): row for row in site.standing.rows()}
    a, b = rows.get(query.get("a", "")), rows.get(query.get("b", ""))
    if a is None or b is None:
        return None
    how = query.get("align", "timeline")
    how = how if how in ALIGNMENTS else "timeline"
    shift = a.last_starts_at - b.last_starts_at if how == "ends" else timedelta()
    newest_at = a.last_starts_at if how == "ends" else max(a.last_starts_at, b.last_starts_at)
    span = range_of(query, newest_at=newest_at, now=site.now())
    shortest = min([it.last_duration_seconds for it in (a, b) if it.last_duration_seconds > 0], default=2.0)
    most = MAX_POINTS if span.length.total_seconds() / shortest <= MAX_POINTS else RECENT_POINTS
    points = (_points(site, a, span, timedelta(), most), _points(site, b, span, shift, most))
    scorers = scorers_of(chain(*points)) or ["score"]
    scorer = query.get("scorer", "") if query.get("scorer") in scorers else scorers[0]
    if max(map(len, points)) < most:
        aligned = align(*points, scorer, shift=shift, tolerance=timedelta(seconds=shortest / 2))
        span, step_seconds = span.fitted(min((pair.at for pair in aligned.pairs), default=None)), 0.0
    else:
        aligned, step_seconds = _in_parts(site, a, b, span, shift, scorer)
    return Compared(
        a=a,
        b=b,
        range=span,
        scorer=scorer,
        scorers=scorers,
        align=how,
        shift=shift,
        aligned=aligned,
        step_seconds=step_seconds,
    )


def _in_parts(site: Site, a: Row, b: Row, span: Range, shift: timedelta, scorer: str) -> tuple[Aligned, float]:
    begins = (span.begins_at, span.begins_at - shift)
    parts = [
        [
            bucket
            for bucket in site.history.buckets(
                row.stream_id, begins_at=begins_at, ends_at=begins_at + span.length, count=MAX_BUCKETS, scorer=scorer
            )
            if bucket.rendition == row.rendition
        ]
        for row, begins_at in zip((a, b), begins, strict=True)
    ]
    step_seconds = next((it.seconds for it in chain(*parts)), span.length.total_seconds() / MAX_BUCKETS)
    return align_buckets(parts[0], parts[1], begins_a=begins[0], begins_b=begins[1]), step_seconds


def _points(site: Site, row: Row, span: Range, shift: timedelta, most: int) -> Sequence[TimelinePoint]:
    return site.history.points(
        row.stream_id,
        begins_at=span.begins_at - shift,
        ends_at=span.ends_at - shift,
        limit=most,
        rendition=row.rendition,
    )


# ---- in words and drawings


def sentence_of(it: Compared, summary: Summary | None) -> str:
    """What the pairs say, with what is left out."""
    if summary is None:
        return "No moment of this time has a score in both. Choose a longer time, or another way to lay them together."
    ahead, behind = (it.b, it.a) if summary.mean >= 0 else (it.a, it.b)
    what = plural(summary.count, "pair") if not it.step_seconds else plural(summary.count, "part")
    words = f"{key_of(ahead)} is {abs(summary.mean):.2f} points ahead of {key_of(behind)} on average over {what}"
    words += f" of {span_words(it.step_seconds)}" if it.step_seconds else ""
    words += f"; 9 of 10 differences lie between {signed(summary.low)} and {signed(summary.high)}."
    alone = it.aligned.alone_a + it.aligned.alone_b
    unscored = it.aligned.unscored_a + it.aligned.unscored_b
    left_out = [f"{plural(alone, 'segment')} without a partner"] if alone else []
    left_out += [f"{unscored} unscored"] if unscored else []
    return words + (f" Left out: {', '.join(left_out)}." if left_out else "")


def _scores_plot(it: Compared) -> Plot:
    x, y = moment_scale(it.range.begins_at, it.range.ends_at), down(0, 100, height=200)
    hole = _hole(it)
    return Plot(
        label=f"Scores by {it.scorer} of both over time, 0 to 100: {key_of(it.a)} solid, {key_of(it.b)} dashed.",
        height=200,
        y_ticks=y.ticks(),
        x_ticks=time_ticks(it.range.begins_at, it.range.ends_at),
        shapes=[
            Shape(path=joined(((x(p.at.timestamp()), y(p.a)) for p in it.aligned.pairs), most_apart=hole), look="s c0"),
            Shape(
                path=joined(((x(p.at.timestamp()), y(p.b)) for p in it.aligned.pairs), most_apart=hole), look="s c1 d1"
            ),
        ],
    )


def _difference_plot(it: Compared, summary: Summary | None) -> Plot:
    low, high = around((pair.difference for pair in it.aligned.pairs), least=2.0)
    x, y = moment_scale(it.range.begins_at, it.range.ends_at), down(low, high, height=180)
    places = [(x(pair.at.timestamp()), y(pair.difference)) for pair in it.aligned.pairs]
    rules = [Rule(look="zero", y=y(0.0))]
    if summary is not None:
        rules.append(Rule(look="mean", y=y(summary.mean), label=f"mean {signed(summary.mean)}"))
    return Plot(
        label=f"{key_of(it.b)} minus {key_of(it.a)} over time, in points; above the line {key_of(it.b)} is better.",
        height=180,
        y_ticks=y.ticks(),
        x_ticks=time_ticks(it.range.begins_at, it.range.ends_at),
        shapes=[
            Shape(path=ribbon([(at, min(place, y(0.0)), y(0.0)) for at, place in places]), look="up"),
            Shape(path=ribbon([(at, y(0.0), max(place, y(0.0))) for at, place in places]), look="below"),
            Shape(path=joined(places, most_apart=_hole(it)), look="s c0"),
        ],
        rules=rules,
    )


def _hole(it: Compared) -> float:
    """Percent of the width from which two neighbours are not joined by a line."""
    pairs = it.aligned.pairs
    if len(pairs) < 3:
        return 100.0
    steps = sorted((b.at - a.at).total_seconds() for a, b in pairwise(pairs))
    return 100 * 3.5 * steps[len(steps) // 2] / max(1.0, it.range.length.total_seconds())


def _told(pairs: Sequence[Pair]) -> list[dict[str, object]]:
    return [{"pair": pair, "url": pair_path(pair.a_id, pair.b_id) if pair.a_id else None} for pair in pairs]


def _url(it: Compared, *, name: str) -> str:
    query = {key: value for key, value in it.query(last=name).items() if key not in ("from", "to")}
    return with_query("/compare", **query)
