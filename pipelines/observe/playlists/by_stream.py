"""The playlists of the streams of the settings, and what belongs to a segment by the stream that it is of."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from pipelines.observe.playlists.positions import StreamPlaylist
from vqmon.core.types import Segment
from vqmon.settings.sections import WatchedStream

_Finder = TypeVar("_Finder")


class StreamPlaylists:
    """The streams of the settings, each with its playlist: one for reference, sound and subtitles together."""

    def __init__(self, streams: Iterable[tuple[WatchedStream, StreamPlaylist]]) -> None:
        # by id, then by arm where several streams share the id
        self._arms: dict[str, dict[str, tuple[WatchedStream, StreamPlaylist]]] = {}
        for stream, playlist in streams:
            self._arms.setdefault(stream.id, {})[stream.arm] = stream, playlist

    def finders(self, make: Callable[[WatchedStream, StreamPlaylist], _Finder]) -> "_Finders[_Finder]":
        """What `make` makes for each stream, by the segments of the stream."""
        return _Finders(
            {
                stream_id: {arm: (stream, make(stream, playlist)) for arm, (stream, playlist) in arms.items()}
                for stream_id, arms in self._arms.items()
            }
        )


class _Finders(Generic[_Finder]):
    """What belongs to the stream of a segment."""

    def __init__(self, arms: Mapping[str, Mapping[str, tuple[WatchedStream, _Finder]]]) -> None:
        self._arms = arms

    def find(self, segment: Segment) -> tuple[Segment, _Finder] | None:
        """The segment with its rendition named as in its playlist; None for a stream that the settings do not name."""
        arms = self._arms.get(segment.rendition.stream_id, {})
        only = next(iter(arms.values())) if len(arms) == 1 else None
        found = arms.get(segment.all_labels.get("arm", ""), only)
        if found is None:
            return None
        stream, finder = found
        name = segment.rendition.name.removesuffix(f"@{stream.arm}")
        return replace(segment, rendition=replace(segment.rendition, name=name)), finder
