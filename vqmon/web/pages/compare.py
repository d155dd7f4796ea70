"""The page that compares two renditions over time: `/compare?a=STREAM/RENDITION&b=STREAM/RENDITION`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, pairwise
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vqmon.core.timeline import TimelinePoint
from vqmon.plurals import plural
from vqmon.web.charts.series import MAX_BUCKETS, duration_words, scorer_names
from vqmon.web.charts.svg import (
    Plot,
    ReferenceLine,
    Shape,
    area_path,
    format_signed,
    line_path,
    range_around_zero,
    time_scale,
    time_ticks,
    vertical_scale,
)
from vqmon.web.model.alignment import (
    AlignedPair,
    Alignment,
    DifferenceSummary,
    align_buckets,
    align_segments,
    summarize_differences,
)
from vqmon.web.model.renditions import RenditionRow
from vqmon.web.model.time_range import PRESETS, TimeRange, parse_time_range
from vqmon.web.pages.stream import MAX_POINTS, RECENT_POINTS
from vqmon.web.site import Site, csv_response, format_date_time, format_iso
from vqmon.web.urls import frame_pair_path, stream_path, with_query

ALIGNMENTS = {"timeline": "same time", "ends": "newest with newest"}
"""How two timelines are aligned: name in the URL -> label on the page."""

_MAX_PAIRS = 8
"""Pairs listed for each rendition that is ahead."""

_MAX_TABLE_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionComparison:
    """Two renditions over a time range, aligned by media time."""

    a: RenditionRow
    b: RenditionRow
    range: TimeRange
    scorer: str
    scorers: Sequence[str]
    # a key of ALIGNMENTS
    align: str
    # added to the start times of b
    shift: timedelta
    alignment: Alignment
    # length of a bucket when a pair stands for many segments, else 0
    bucket_seconds: float

    @property
    def a_key(self) -> str:
        return _rendition_key(self.a)

    @property
    def b_key(self) -> str:
        return _rendition_key(self.b)

    def query(self, **changes: str) -> dict[str, str]:
        """The query parameters of this comparison, with `changes` applied."""
        names = {"a": self.a_key, "b": self.b_key, "scorer": self.scorer, "align": self.align}
        return {**names, **self.range.query, **changes}


def _rendition_key(row: RenditionRow) -> str:
    """STREAM/RENDITION, as `a` and `b` name a rendition in the URL."""
    return f"{row.stream_id}/{row.rendition}"


def compare_page(site: Site, request: Request) -> Response:
    """Answer `/compare`."""
    rows = {_rendition_key(row): row for row in site.fleet.rows()}
    comparison = compare_renditions(site, request.query_params)
    requested = {name: request.query_params.get(name, "")[:500] for name in ("a", "b")}
    unknown = [key for key in requested.values() if key and key not in rows]
    common: dict[str, Any] = {
        "keys": sorted(rows),
        "requested": requested,
        "unknown": unknown,
        "comparison": comparison,
    }
    if comparison is None:
        return site.render_page("compare.html", request, **common)
    pairs = comparison.alignment.pairs
    summary = summarize_differences(pairs)
    ranked = sorted(pairs, key=lambda pair: pair.difference)
    return site.render_page(
        "compare.html",
        request,
        **common,
        ranges=_range_links(comparison),
        alignments=_alignment_links(comparison),
        sentence=_difference_sentence(comparison, summary),
        summary=summary,
        hindrances=[] if summary else _hindrances(comparison),
        scores=_scores_plot(comparison),
        differences=_difference_plot(comparison, summary),
        extremes=[
            {"title": f"Where {comparison.a_key} is furthest ahead", "pairs": _pair_links(ranked[:_MAX_PAIRS])},
            {"title": f"Where {comparison.b_key} is furthest ahead", "pairs": _pair_links(_last(ranked, _MAX_PAIRS))},
        ],
        table=_last(pairs, _MAX_TABLE_ROWS),
        a_url=stream_path(comparison.a.stream_id),
        b_url=stream_path(comparison.b.stream_id),
        swap_url=with_query("/compare", **comparison.query(a=comparison.b_key, b=comparison.a_key)),
        csv_url=with_query("/api/compare.csv", **comparison.query()),
        json_url=with_query("/api/compare", **comparison.query()),
        frame_pair_path=frame_pair_path,
    )


def _range_links(comparison: RenditionComparison) -> list[dict[str, object]]:
    return [
        {"label": label, "url": _preset_url(comparison, preset), "is_current": preset == comparison.range.preset}
        for preset, (label, _) in PRESETS.items()
    ]


def _preset_url(comparison: RenditionComparison, preset: str) -> str:
    query = {name: value for name, value in comparison.query(last=preset).items() if name not in ("from", "to")}
    return with_query("/compare", **query)


def _alignment_links(comparison: RenditionComparison) -> list[dict[str, object]]:
    return [
        {
            "label": label,
            "url": with_query("/compare", **comparison.query(align=name)),
            "is_current": name == comparison.align,
        }
        for name, label in ALIGNMENTS.items()
    ]


def compare_json(site: Site, request: Request) -> Response:
    """Answer `/api/compare`."""
    comparison = _requested_comparison(site, request)
    pairs = [_pair_data(pair) for pair in comparison.alignment.pairs]
    return JSONResponse({"a": comparison.a_key, "b": comparison.b_key, "scorer": comparison.scorer, "pairs": pairs})


def compare_csv(site: Site, request: Request) -> Response:
    """Answer `/api/compare.csv`: a row per pair."""
    comparison = _requested_comparison(site, request)
    rows = [_pair_data(pair) for pair in comparison.alignment.pairs]
    columns = ["at", "a", "b", "difference", "a_event_id", "b_event_id"]
    return csv_response("compare", columns, ([row[name] for name in columns] for row in rows))


def _requested_comparison(site: Site, request: Request) -> RenditionComparison:
    """The comparison that the query names; raises 404."""
    comparison = compare_renditions(site, request.query_params)
    if comparison is None:
        raise HTTPException(404, "Name two renditions of the history as `a` and `b`, each as STREAM/RENDITION.")
    return comparison


def _pair_data(pair: AlignedPair) -> dict[str, object]:
    return {
        "at": format_iso(pair.at),
        "a": pair.a,
        "b": pair.b,
        "difference": round(pair.difference, 4),
        "a_event_id": pair.a_id,
        "b_event_id": pair.b_id,
    }


# ---- from the history


def compare_renditions(site: Site, query: Mapping[str, str]) -> RenditionComparison | None:
    """Align the two renditions that a query names; None when the history holds no outcome of one of them."""
    rows = {_rendition_key(row): row for row in site.fleet.rows()}
    a, b = rows.get(query.get("a", "")), rows.get(query.get("b", ""))
    if a is None or b is None:
        return None
    align = query.get("align", "timeline")
    align = align if align in ALIGNMENTS else "timeline"
    shift = a.last_starts_at - b.last_starts_at if align == "ends" else timedelta()
    newest_at = a.last_starts_at if align == "ends" else max(a.last_starts_at, b.last_starts_at)
    time_range = parse_time_range(query, newest_at=newest_at, now=site.now())
    segment_seconds = min([row.last_duration_seconds for row in (a, b) if row.last_duration_seconds > 0], default=2.0)
    expected_segments = time_range.length.total_seconds() / segment_seconds
    limit = MAX_POINTS if expected_segments <= MAX_POINTS else RECENT_POINTS
    a_points = _points(site, a, time_range, shift=timedelta(), limit=limit)
    b_points = _points(site, b, time_range, shift=shift, limit=limit)
    scorers = scorer_names(chain(a_points, b_points)) or ["score"]
    scorer = query.get("scorer", "") if query.get("scorer") in scorers else scorers[0]
    if max(len(a_points), len(b_points)) < limit:
        tolerance = timedelta(seconds=segment_seconds / 2)
        alignment = align_segments(a_points, b_points, scorer, shift=shift, tolerance=tolerance)
        first_at = min((pair.at for pair in alignment.pairs), default=None)
        time_range, bucket_seconds = time_range.without_empty_start(first_at), 0.0
    else:
        alignment, bucket_seconds = _align_in_buckets(site, a, b, time_range, shift=shift, scorer=scorer)
    return RenditionComparison(
        a=a,
        b=b,
        range=time_range,
        scorer=scorer,
        scorers=scorers,
        align=align,
        shift=shift,
        alignment=alignment,
        bucket_seconds=bucket_seconds,
    )


def _align_in_buckets(
    site: Site, a: RenditionRow, b: RenditionRow, time_range: TimeRange, *, shift: timedelta, scorer: str
) -> tuple[Alignment, float]:
    """The alignment of a long range, and the length of its buckets in seconds."""
    begins = (time_range.begins_at, time_range.begins_at - shift)
    buckets = [
        [
            bucket
            for bucket in site.history.buckets(
                row.stream_id,
                begins_at=begins_at,
                ends_at=begins_at + time_range.length,
                count=MAX_BUCKETS,
                scorer=scorer,
            )
            if bucket.rendition == row.rendition
        ]
        for row, begins_at in zip((a, b), begins, strict=True)
    ]
    bucket_seconds = next(
        (bucket.seconds for bucket in chain(*buckets)), time_range.length.total_seconds() / MAX_BUCKETS
    )
    return align_buckets(buckets[0], buckets[1], begins_a=begins[0], begins_b=begins[1]), bucket_seconds


def _points(
    site: Site, row: RenditionRow, time_range: TimeRange, *, shift: timedelta, limit: int
) -> Sequence[TimelinePoint]:
    return site.history.points(
        row.stream_id,
        begins_at=time_range.begins_at - shift,
        ends_at=time_range.ends_at - shift,
        limit=limit,
        rendition=row.rendition,
    )


# ---- sentence and charts


def _difference_sentence(comparison: RenditionComparison, summary: DifferenceSummary | None) -> str:
    """The mean difference as a sentence, with the number of segments that were left out."""
    if summary is None:
        return "There is no moment in this time at which both have a score."
    b_leads = summary.mean >= 0
    ahead, behind = (comparison.b_key, comparison.a_key) if b_leads else (comparison.a_key, comparison.b_key)
    count = plural(summary.count, "period" if comparison.bucket_seconds else "pair")
    sentence = f"{ahead} is {abs(summary.mean):.2f} points ahead of {behind} on average over {count}"
    sentence += f" of {duration_words(comparison.bucket_seconds)}" if comparison.bucket_seconds else ""
    sentence += f"; 9 of 10 differences lie between {format_signed(summary.low)} and {format_signed(summary.high)}."
    alignment = comparison.alignment
    unpaired = alignment.unpaired_a + alignment.unpaired_b
    unscored = alignment.unscored_a + alignment.unscored_b
    left_out = [f"{plural(unpaired, 'segment')} without a partner"] if unpaired else []
    left_out += [f"{unscored} unscored"] if unscored else []
    return sentence + (f" Left out: {', '.join(left_out)}." if left_out else "")


def _hindrances(comparison: RenditionComparison) -> list[str]:
    """What keeps the segments of a comparison without pairs from pairing, and what to do."""
    alignment, hindrances = comparison.alignment, []
    for key, row, unpaired, unscored in (
        (comparison.a_key, comparison.a, alignment.unpaired_a, alignment.unscored_a),
        (comparison.b_key, comparison.b, alignment.unpaired_b, alignment.unscored_b),
    ):
        if not unpaired and not unscored:
            hindrances.append(
                f"{key} has no segment in this time; its newest one starts at {format_date_time(row.last_starts_at)}. "
                "Choose a longer time, or “newest with newest”."
            )
        elif unscored:
            what = "segment has" if unscored == 1 else "segments have"
            hindrances.append(
                f"{unscored} {what} no score of {comparison.scorer} in {key}; the page of the stream says why."
            )
    if alignment.unpaired_a and alignment.unpaired_b:
        hindrances.append(
            f"{plural(alignment.unpaired_a, 'segment')} of {comparison.a_key} and {alignment.unpaired_b} of "
            f"{comparison.b_key} start at other moments: no two of them are within half of a segment of each other. "
            "“Newest with newest” ignores the clock and aligns the ends of both."
        )
    return hindrances


def _scores_plot(comparison: RenditionComparison) -> Plot:
    time_range, pairs = comparison.range, comparison.alignment.pairs
    x, y = time_scale(time_range.begins_at, time_range.ends_at), vertical_scale(0, 100, height=200)
    gap = _max_joined_percent(comparison)
    a_line = line_path(((x(pair.at.timestamp()), y(pair.a)) for pair in pairs), max_step=gap)
    b_line = line_path(((x(pair.at.timestamp()), y(pair.b)) for pair in pairs), max_step=gap)
    return Plot(
        label=f"Scores of both by {comparison.scorer} over time, 0 to 100: {comparison.a_key} solid, "
        f"{comparison.b_key} dashed.",
        height=200,
        y_ticks=y.ticks(),
        x_ticks=time_ticks(time_range.begins_at, time_range.ends_at),
        shapes=[Shape(path=a_line, css_class="s c0"), Shape(path=b_line, css_class="s c1 d1")],
    )


def _difference_plot(comparison: RenditionComparison, summary: DifferenceSummary | None) -> Plot:
    time_range, pairs = comparison.range, comparison.alignment.pairs
    low, high = range_around_zero((pair.difference for pair in pairs), min_extent=2.0)
    x, y = time_scale(time_range.begins_at, time_range.ends_at), vertical_scale(low, high, height=180)
    zero_y = y(0.0)
    points = [(x(pair.at.timestamp()), y(pair.difference)) for pair in pairs]
    lines = [ReferenceLine(css_class="zero", y=zero_y)]
    if summary is not None:
        lines.append(ReferenceLine(css_class="mean", y=y(summary.mean), label=f"mean {format_signed(summary.mean)}"))
    return Plot(
        label=f"{comparison.b_key} minus {comparison.a_key} over time, in points; {comparison.b_key} is better above "
        "the zero line.",
        height=180,
        y_ticks=y.ticks(),
        x_ticks=time_ticks(time_range.begins_at, time_range.ends_at),
        shapes=[
            Shape(path=area_path([(at, min(value, zero_y), zero_y) for at, value in points]), css_class="up"),
            Shape(path=area_path([(at, zero_y, max(value, zero_y)) for at, value in points]), css_class="below"),
            Shape(path=line_path(points, max_step=_max_joined_percent(comparison)), css_class="s c0"),
        ],
        reference_lines=lines,
    )


def _max_joined_percent(comparison: RenditionComparison) -> float:
    """The largest distance, in percent of the width, at which two neighbours are still joined by a line."""
    pairs = comparison.alignment.pairs
    if len(pairs) < 3:
        return 100.0
    distances = sorted((later.at - earlier.at).total_seconds() for earlier, later in pairwise(pairs))
    median = distances[len(distances) // 2]
    return 100 * 3.5 * median / max(1.0, comparison.range.length.total_seconds())


def _pair_links(pairs: Sequence[AlignedPair]) -> list[dict[str, object]]:
    return [{"pair": pair, "url": frame_pair_path(pair.a_id, pair.b_id) if pair.a_id else None} for pair in pairs]


def _last(pairs: Sequence[AlignedPair], count: int) -> list[AlignedPair]:
    """The last `count` pairs, the last one first."""
    return list(reversed(pairs[-count:]))
