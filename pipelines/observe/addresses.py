"""Fetching of segments that have several addresses: the next one is tried where one fails."""

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from vqmon.core.types import MediaAddress, Segment
from vqmon.errors import FetchError
from vqmon.media.sources.media_playlist import PlaylistEntry

Fetch = Callable[[Segment], Coroutine[None, None, bytes]]

_AVOIDED_FOR = timedelta(seconds=60)
_MAX_AVOIDED = 1000
_MAX_TRIED = 3
"""Addresses of one segment, each within the limits of a fetch; the next segment begins with others."""


@dataclass(frozen=True, slots=True)
class FetchedMedia:
    """The bytes of a segment; `served_url` is where they came from, empty for a segment with one address."""

    media: bytes
    served_url: str = ""


def segment_at(segment: Segment, media: MediaAddress | PlaylistEntry) -> Segment:
    """Other media of a segment, its reference or sound, as a segment that can be fetched."""
    return replace(
        segment,
        url=media.url,
        byte_range=media.byte_range,
        init_url=media.init_url,
        init_byte_range=media.init_byte_range,
        encryption=media.encryption,
        reference=None,
        audio=None,
        mirrors=media.mirrors if isinstance(media, PlaylistEntry) else (),
    )


class AddressFailover:
    """Remembers for a minute which servers of a rendition failed, so that not every segment has to wait for them."""

    def __init__(self) -> None:
        self._avoided: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    async def fetch(self, segment: Segment, fetch: Fetch, now: Callable[[], datetime]) -> FetchedMedia:
        """Fetch from the first address that answers; raises FetchError with the first reason if none does."""
        if not segment.mirrors:
            return FetchedMedia(await fetch(segment))
        errors: list[FetchError] = []
        addresses = sorted(segment.addresses(), key=lambda located: self._is_avoided(located, now()))
        for located in addresses[:_MAX_TRIED]:
            try:
                media = await fetch(located)
            except FetchError as error:
                errors.append(error)
                self._avoid(located, now())
                continue
            return FetchedMedia(media, served_url=located.without_secrets().url)
        raise FetchError(errors[0].reason, "; ".join(error.detail for error in errors))

    def _is_avoided(self, segment: Segment, now: datetime) -> bool:
        return self._avoided.get(_server(segment), now) > now

    def _avoid(self, segment: Segment, now: datetime) -> None:
        self._avoided.pop(_server(segment), None)
        self._avoided[_server(segment)] = now + _AVOIDED_FOR
        while len(self._avoided) > _MAX_AVOIDED:
            self._avoided.popitem(last=False)


def _server(segment: Segment) -> tuple[str, str]:
    """The rendition, and the server and folder of its media."""
    parts = urlsplit(segment.url)
    return segment.rendition.key, f"{parts.netloc}{parts.path.rpartition('/')[0]}"
