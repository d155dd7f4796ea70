"""Low-latency HLS (RFC 8216bis 6.2.5): reloads that wait for the next part, and playlists without what is known."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit, urlunsplit

from vqmon.errors import SegmentError
from vqmon.media.sources.media_playlist import DeliveryDirectives, MediaPlaylist, PlaylistEntry, add_seconds

# A server may take a part's duration to answer, and must do so before a fetch counts as stalled.
_MAX_PART_SECONDS = 3.0
_MIN_RELOAD_SECONDS = 0.1
_MAX_REFUSALS = 2


def reload_seconds(delivery: DeliveryDirectives) -> float | None:
    """Seconds from the start of one reload to the next, which the server makes wait for the next part.

    Half a part, should it answer at once; None where it cannot wait.
    """
    if not delivery.can_block or not 0 < delivery.part_seconds <= _MAX_PART_SECONDS:
        return None
    return max(delivery.part_seconds / 2, _MIN_RELOAD_SECONDS)


class LowLatencyReloads:
    """The reloads of one media playlist: each asks for the next part, and only for what is new."""

    def __init__(self) -> None:
        self._previous: MediaPlaylist | None = None
        self._loaded_at: datetime | None = None
        self._refusals = 0

    def url(self, url: str, now: datetime) -> str:
        """The URL of the next reload, with the delivery directives that the last answer offered."""
        delivery = self._previous.delivery if self._previous else None
        if delivery is None or reload_seconds(delivery) is None or self._refusals >= _MAX_REFUSALS:
            return url
        directives = {"_HLS_msn": str(delivery.next_sequence), "_HLS_part": str(delivery.next_part)}
        if self._loaded_at and abs(now - self._loaded_at) < timedelta(seconds=delivery.skip_until_seconds / 2):
            directives["_HLS_skip"] = "YES"
        parts = urlsplit(url)
        query = "&".join(text for text in (parts.query, urlencode(directives)) if text)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))

    def complete(self, playlist: MediaPlaylist, now: datetime) -> MediaPlaylist:
        """The playlist with the segments that it leaves out; raises SegmentError("playlist") for unknown ones."""
        delivery = playlist.delivery
        if delivery is not None and (count := delivery.skipped_segments):
            if self._previous is None:
                # nobody asked for it, as in a recorded playlist: the rest is listed
                warning = f"EXT-X-SKIP: {count} segments are left out, and no playlist before this one lists them"
                playlist = replace(playlist, warnings=(*playlist.warnings, warning))
            else:
                playlist = _merge(self._previous, playlist, delivery)
        self._previous, self._loaded_at = playlist, now
        return playlist

    def refuse(self) -> None:
        """A reload with directives failed: ask for the whole playlist, and soon do without directives."""
        self._previous = None
        self._refusals += 1


def _merge(previous: MediaPlaylist, delta: MediaPlaylist, delivery: DeliveryDirectives) -> MediaPlaylist:
    """A delta update with the segments that it skips, taken from the playlist before it (6.2.5.1)."""
    count = delivery.skipped_segments
    end = delta.entries[0].sequence if delta.entries else delivery.next_sequence
    known = [entry for entry in previous.entries if end - count <= entry.sequence < end]
    if len(known) != count:
        raise SegmentError("playlist", f"EXT-X-SKIP: {count - len(known)} of {count} segments are not known")
    entries = [*known, *_continue(known[-1], delta.entries, has_keys=delivery.has_keys)]
    opened = delta.open_entry
    if opened is not None and not delivery.has_keys and entries[-1].encryption is not None:
        # encrypted by a key that the update does not repeat
        opened = None
    if opened is not None:
        opened = replace(opened, parts=tuple(_continue(entries[-1], opened.parts, has_keys=True)))
    return replace(delta, entries=entries, open_entry=opened)


def _continue(last: PlaylistEntry, entries: Sequence[PlaylistEntry], *, has_keys: bool) -> Iterator[PlaylistEntry]:
    """The entries with what tags before the skipped segments say about them: initialization section, key and time."""
    for entry in entries:
        if entry.init_url is None:
            entry = replace(
                entry,
                init_url=last.init_url,
                init_reference=last.init_reference,
                init_byte_range=last.init_byte_range,
            )
        if not has_keys and last.encryption is not None:
            is_derived = last.encryption.iv_hex == f"{last.sequence:032x}"
            iv = f"{entry.sequence:032x}" if is_derived else last.encryption.iv_hex
            entry = replace(entry, encryption=replace(last.encryption, iv_hex=iv))
        if entry.starts_at is None and last.starts_at is not None:
            entry = replace(entry, starts_at=add_seconds(last.starts_at, last.duration_seconds))
        yield entry
        last = entry
