"""What keeps the segments of two arms from pairing: no common source, no common time, or other cuts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vqmon.plurals import plural

_MIN_SHARE = 0.1
"""Of the segments of the smaller arm, at least as many must have a partner."""

_MAX_SOURCES = 10_000
_MAX_NAMED_SOURCES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindrance:
    """Why segments do not pair, and what to do."""

    text: str
    remedy: str


@dataclass(slots=True, kw_only=True)
class _ArmSegments:
    """The segments of one arm; moments are seconds since 1970 on the media timeline."""

    count: int = 0
    first_starts_at: float = 0.0
    last_starts_at: float = 0.0
    # attributes in `same` -> start of the newest segment; the first sources only
    newest_by_source: dict[tuple[str, ...], float] = field(default_factory=dict)


class PairingFacts:
    """Facts about the segments of all arms, added in the order of their starts."""

    def __init__(self) -> None:
        self._arms: dict[str, _ArmSegments] = {}
        # (earlier arm, later arm) -> the smallest distance of two segments of one source, in seconds
        self._gaps: dict[tuple[str, str], float] = {}
        # arm -> segments that have a partner of the control
        self.paired: Counter[str] = Counter()

    def add(self, arm: str, source: tuple[str, ...], starts_at_seconds: float) -> None:
        """Add a segment of an arm; `source` has its attributes in `same`."""
        segments = self._arms.setdefault(arm, _ArmSegments(first_starts_at=starts_at_seconds))
        segments.count += 1
        segments.last_starts_at = starts_at_seconds
        for other, others in self._arms.items():
            if other != arm and (newest := others.newest_by_source.get(source)) is not None:
                gap = starts_at_seconds - newest
                self._gaps[other, arm] = min(gap, self._gaps.get((other, arm), gap))
        if source in segments.newest_by_source or len(segments.newest_by_source) < _MAX_SOURCES:
            segments.newest_by_source[source] = starts_at_seconds

    def hindrance(self, arm: str, control: str, *, same: Sequence[str], tolerance_seconds: float) -> Hindrance | None:
        """What keeps the segments of an arm from pairing with the control's.

        None when enough of them pair, and when there are no segments at all.
        """
        missing = [name for name in (control, arm) if name not in self._arms]
        if len(missing) == 2:
            return None
        if missing:
            return Hindrance(
                text=f"the history has no segment of {missing[0]}",
                remedy="check the labels of the segments, and the patterns by which the experiment knows its arms",
            )
        one, two = self._arms[control], self._arms[arm]
        if self.paired[arm] >= _MIN_SHARE * min(one.count, two.count):
            return None
        counts = f"{self.paired[arm]} of {one.count} segments of {control} and {two.count} of {arm} pair"
        names = ", ".join(same)
        if not one.newest_by_source.keys() & two.newest_by_source.keys():
            return Hindrance(
                text=f"{counts}: they have no {names} in common: {control} has {_sources(one)}, {arm} has "
                f"{_sources(two)}",
                remedy="give both encodings of a content the same stream id, or name a label that they share in `same`",
            )
        if one.last_starts_at < two.first_starts_at or two.last_starts_at < one.first_starts_at:
            return Hindrance(
                text=f"{counts}: {control} runs from {_period(one)}, {arm} from {_period(two)}",
                remedy="segments pair by their time on the media timeline: let both arms run at the same time, or give "
                "them the time of the source (EXT-X-PROGRAM-DATE-TIME, availabilityStartTime, starts_at)",
            )
        gap = min(self._gaps.get((control, arm), float("inf")), self._gaps.get((arm, control), float("inf")))
        if gap <= tolerance_seconds:
            return _few_together(one, two, counts=counts, names=(control, arm))
        return Hindrance(
            text=f"{counts}: segments of one source start {gap:.3g} s apart or more, and `tolerance_seconds` is "
            f"{tolerance_seconds:g}",
            remedy="cut both arms at the same moments of the source, or raise `tolerance_seconds` to at most half of a "
            "segment",
        )


def _few_together(one: _ArmSegments, two: _ArmSegments, *, counts: str, names: tuple[str, str]) -> Hindrance:
    """Some segments start together, but most have no partner."""
    sources, periods = (one.newest_by_source, two.newest_by_source), (_period(one), _period(two))
    arms = ", ".join(
        f"{name} has {plural(len(each), 'source')} from {period}"
        for name, each, period in zip(names, sources, periods, strict=True)
    )
    return Hindrance(
        text=f"{counts}: the others are at times or of sources that one arm lacks, or several of an arm start at once; "
        f"{arms}, {len(sources[0].keys() & sources[1].keys())} in common",
        remedy="let both arms run on the same sources at the same time; where they have several renditions of one "
        "moment, name `rendition` or `height` in `same`",
    )


def _sources(segments: _ArmSegments) -> str:
    sources = sorted(" ".join(source) for source in segments.newest_by_source)
    named = ", ".join(sources[:_MAX_NAMED_SOURCES])
    return f"{named} and {len(sources) - _MAX_NAMED_SOURCES} more" if len(sources) > _MAX_NAMED_SOURCES else named


def _period(segments: _ArmSegments) -> str:
    first, last = (
        f"{datetime.fromtimestamp(at, UTC):%d %b %Y %H:%M:%S}"
        for at in (segments.first_starts_at, segments.last_starts_at)
    )
    return f"{first} to {last}"
