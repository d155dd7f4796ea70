"""Labels the outcomes of segments that lie in an ad break which splice messages in the media have announced."""

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from vqmon.core.types import AD_BREAK_LABEL, Outcome, QualityEvent

_MAX_RENDITIONS = 10_000
_MAX_BREAKS = 16
_TOLERANCE = timedelta(seconds=0.5)
"""A segment that begins so shortly before a break, or before its end, counts as behind that moment."""

_MAX_BREAK = timedelta(hours=1)
"""A break without an end is over after this time, so that a lost message does not mute a stream for ever."""

_Outcome = TypeVar("_Outcome", bound=Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Break:
    begins_at: datetime
    ends_at: datetime


class AdBreakLabels:
    """The breaks of each rendition; outcomes of a rendition are given in their order.

    What was announced is forgotten when the process ends: after a restart the rest of a break has no label.
    """

    def __init__(self) -> None:
        self._breaks: OrderedDict[str, tuple[_Break, ...]] = OrderedDict()

    def label(self, outcome: _Outcome) -> _Outcome:
        """The outcome, with the label `ad_break` if its segment begins within a break."""
        segment = outcome.segment
        key = segment.rendition.key
        breaks = self._breaks.get(key, ())
        if isinstance(outcome, QualityEvent) and outcome.media.splices:
            breaks = _with_cues(breaks, outcome)
        elif not breaks:
            return outcome
        breaks = tuple(each for each in breaks if each.ends_at > segment.starts_at)[-_MAX_BREAKS:]
        self._store(key, breaks)
        is_inside = any(each.begins_at - _TOLERANCE <= segment.starts_at < each.ends_at - _TOLERANCE for each in breaks)
        if not is_inside or AD_BREAK_LABEL in segment.all_labels:
            return outcome
        return replace(outcome, segment=replace(segment, labels={**segment.labels, AD_BREAK_LABEL: "yes"}))

    def _store(self, key: str, breaks: tuple[_Break, ...]) -> None:
        self._breaks.pop(key, None)
        if breaks:
            self._breaks[key] = breaks
        if len(self._breaks) > _MAX_RENDITIONS:
            self._breaks.popitem(last=False)


def _with_cues(breaks: tuple[_Break, ...], event: QualityEvent) -> tuple[_Break, ...]:
    # at one moment what ends comes first: between two ads the break goes on
    for cue in sorted(event.media.splices, key=lambda cue: (cue.at_seconds, cue.begins)):
        at = event.segment.starts_at + timedelta(seconds=cue.at_seconds)
        if cue.begins:
            length = min(timedelta(seconds=cue.seconds) or _MAX_BREAK, _MAX_BREAK)
            # messages are repeated before the splice
            breaks = tuple(each for each in breaks if abs(each.begins_at - at) > _TOLERANCE)
            breaks = (*breaks, _Break(begins_at=at, ends_at=at + length))
        else:
            # not one that begins then or later: that was announced earlier than this end
            breaks = tuple(
                replace(each, ends_at=min(each.ends_at, at)) if each.begins_at < at - _TOLERANCE else each
                for each in breaks
            )
    return tuple(each for each in breaks if each.ends_at > each.begins_at)
