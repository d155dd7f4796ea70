"""Finds the sound of each segment of a stream whose playlist lists sound apart from the pictures."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from pipelines.observe.addresses import segment_at
from pipelines.observe.playlists.positions import (
    ERROR_SECONDS,
    CachedPlaylist,
    LocatedEntry,
    Position,
    Sleep,
    StreamPlaylist,
    find_when_listed,
)
from vqmon.core.types import AudioAddress, AudioFacts, MediaAddress, Segment
from vqmon.errors import SegmentError
from vqmon.media.sources.media_playlist import MediaPlaylist

_MAX_PARTS = 16
_MAX_SECONDS = 120.0
"""Sound in longer parts is not measured: each segment of pictures would cost all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateSound:
    """The segments of sound that belong to a segment of pictures, in order."""

    parts: tuple[Segment, ...]
    # begin and end on the clock of the timestamps, by the playlists, minus those of the pictures; 0 = they do not tell
    starts_seconds: float
    ends_seconds: float
    # whether it was paired by its number alone
    is_numbered: bool = False

    def is_plausible(self, facts: AudioFacts, *, seconds: float) -> bool:
        """Whether sound that was paired by its number is of the same time as pictures of so many seconds."""
        offset_seconds = facts.offset_seconds
        return not self.is_numbered or offset_seconds is None or abs(offset_seconds) <= seconds / 2

    def relative_to_playlists(self, facts: AudioFacts) -> AudioFacts:
        """The facts with the offsets by which timestamps differ from what the playlists say."""
        if facts.offset_seconds is None or facts.end_offset_seconds is None:
            return facts
        return replace(
            facts,
            offset_seconds=round(facts.offset_seconds - self.starts_seconds, 6),
            end_offset_seconds=round(facts.end_offset_seconds - self.ends_seconds, 6),
        )


def announced_sound(segment: Segment) -> SeparateSound | None:
    """The sound whose address is in the message of a segment."""
    audio = segment.audio
    if audio is None:
        return None
    return SeparateSound(
        parts=tuple(segment_at(segment, media) for media in (audio, *audio.more)),
        starts_seconds=audio.starts_seconds,
        ends_seconds=audio.ends_seconds,
        is_numbered=audio.is_numbered,
    )


def audio_address(sound: SeparateSound) -> AudioAddress:
    """Sound as the message of its segment states it."""
    first, *others = (_media_address(part) for part in sound.parts)
    return AudioAddress(
        url=first.url,
        byte_range=first.byte_range,
        init_url=first.init_url,
        init_byte_range=first.init_byte_range,
        encryption=first.encryption,
        more=tuple(others),
        starts_seconds=round(sound.starts_seconds, 6),
        ends_seconds=round(sound.ends_seconds, 6),
        is_numbered=sound.is_numbered,
    )


def _media_address(part: Segment) -> MediaAddress:
    return MediaAddress(
        url=part.url,
        byte_range=part.byte_range,
        init_url=part.init_url,
        init_byte_range=part.init_byte_range,
        encryption=part.encryption,
    )


class SoundPlaylist:
    """The sound that the playlist of a stream offers.

    It is paired with the pictures by the dates of both playlists where they have them, else by the time after the first
    segment where both have ended, else by the media sequence number.
    """

    def __init__(self, stream: StreamPlaylist, *, now: Callable[[], datetime], sleep: Sleep = asyncio.sleep) -> None:
        self._stream, self._now, self._sleep = stream, now, sleep
        # by rendition; None = its sound is in its own segments, or it has none
        self._playlists: dict[str, CachedPlaylist | None] = {}
        # by rendition: why its first load failed, and when
        self._failures: dict[str, tuple[SegmentError, datetime]] = {}

    async def find(self, segment: Segment) -> SeparateSound | None:
        """The sound of a segment; None when its playlist lists none apart from the pictures.

        Raises SegmentError("playlist") when it cannot be found.
        """
        playlist = await self._separate_playlist(segment.rendition.name)
        if playlist is None:
            return None
        position = await self._stream.position_of(segment)
        located = await find_when_listed(playlist, position, partial(_choose, position), sleep=self._sleep)
        if located is None:
            raise SegmentError("playlist", "the playlist of the sound lists nothing of this time and number")
        return _sound_of(segment, position, located)

    async def _separate_playlist(self, name: str) -> CachedPlaylist | None:
        """The playlist of a rendition's sound; None without one. An error stands as long as in `CachedPlaylist`."""
        if name not in self._playlists:
            if name in self._failures:
                error, failed_at = self._failures[name]
                if abs(self._now() - failed_at) < timedelta(seconds=ERROR_SECONDS):
                    raise error
            try:
                is_separate = await (await self._stream.opened()).load_audio(name, self._now()) is not None
            except SegmentError as error:
                self._failures[name] = error, self._now()
                raise
            self._playlists[name] = CachedPlaylist(partial(self._load, name), self._now) if is_separate else None
        return self._playlists[name]

    async def _load(self, name: str, now: datetime) -> MediaPlaylist:
        playlist = await (await self._stream.opened()).load_audio(name, now)
        if playlist is None:
            raise SegmentError("playlist", "the master playlist lists no sound for this rendition any more")
        return playlist


def _choose(position: Position, playlist: MediaPlaylist) -> list[LocatedEntry] | None:
    """The entries whose sound belongs to a segment; None when there are none, or one of them is missing."""
    located = position.covering_in(playlist)
    if not located or len(located) > _MAX_PARTS or any(each.entry.is_gap or each.entry.problem for each in located):
        return None
    if sum(each.entry.duration_seconds for each in located) > _MAX_SECONDS:
        return None
    return located


def _sound_of(segment: Segment, position: Position, located: list[LocatedEntry]) -> SeparateSound:
    first, last = located[0], located[-1]
    starts, ends = first.starts_seconds, last.starts_seconds
    clock_seconds = first.entry.media_offset_seconds - position.media_offset_seconds
    parts = [segment_at(segment, each.entry) for each in located]
    return SeparateSound(
        # one initialization section is enough for all that follow
        parts=tuple(
            replace(part, init_url=None) if number and part.init_url == parts[0].init_url else part
            for number, part in enumerate(parts)
        ),
        starts_seconds=clock_seconds + (starts or 0.0),
        ends_seconds=clock_seconds
        + (0.0 if ends is None else ends + last.entry.duration_seconds - position.duration_seconds),
        is_numbered=starts is None,
    )
