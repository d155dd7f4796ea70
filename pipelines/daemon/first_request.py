"""The first request of `vqmon watch`: refuses an address that can never be followed, before anything is stored."""

from pipelines.service.wiring import fetch_policy
from vqmon.errors import DecodeError, FetchError, NoHistoryError, SettingsError, StoreError, UnknownHostError
from vqmon.media.decode.bitstream.containers.detection import detect_demuxer
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.fetch.ssrf_policy import redact_url
from vqmon.media.sources.loader import SNIFF_BYTES, detect_kind
from vqmon.settings.load import Settings
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history

_FINAL_REASONS = frozenset({"refused", "not_found", "file"})
"""Why a fetch fails for good, as far as can be said at the first request."""

_FINAL_STATUSES = ("status 401", "status 403")


async def check_first_request(settings: Settings) -> None:
    """Fetch the start of every stream once; raises SettingsError for one that is no playlist, or not there.

    A server that does not answer or is overloaded is no error, as it is waited for; nor is a stream of which the
    history has segments, because its address did work.
    """
    async with Fetcher(fetch_policy(settings)) as fetcher:
        for stream in settings.source.streams:
            if not _was_followed(settings.history.location, stream.id):
                await _check_address(stream.url, fetcher)


async def _check_address(url: str, fetcher: Fetcher) -> None:
    try:
        start = await fetcher.get_start(url, max_bytes=SNIFF_BYTES)
    except FetchError as error:
        is_final = error.reason in _FINAL_REASONS or isinstance(error, UnknownHostError)
        if is_final or error.detail.endswith(_FINAL_STATUSES):
            raise SettingsError(f"{error.detail}{_remedy(error)}") from None
        return
    # a packager may have created the file and not yet written it
    if not start.body or detect_kind(start.body) != "other":
        return
    raise SettingsError(f"{redact_url(url).removeprefix('file://')}: {_describe_content(start.body)}")


def _describe_content(body: bytes) -> str:
    """What a document is that is no playlist, and which command takes it."""
    try:
        container = detect_demuxer(body)
    except DecodeError as error:
        if error.reason != "not_media":
            return f"media, not an HLS or DASH playlist ({error.detail})"
        return f"neither an HLS playlist nor a DASH MPD: {error.detail}"
    name = "MP4" if container == "mov" else container
    return f"a media file ({name}), not an HLS or DASH playlist; score it with `vqmon score`"


def _remedy(error: FetchError) -> str:
    if error.reason == "file":
        return "; `vqmon watch` takes an HLS or DASH playlist, `vqmon init` a folder, `vqmon score` media files"
    if error.reason == "not_found":
        return ": the server has no such playlist; check the address"
    return ": the server refuses access" if error.reason == "http_status" else ""


def _was_followed(location: HistoryLocation, stream_id: str) -> bool:
    """Whether the history has segments of a stream; reading creates no history."""
    try:
        with open_history(location, mode="read") as history:
            return bool(history.queries.cursors(stream_id))
    except NoHistoryError:
        return False
    except StoreError:
        # of an earlier version, or damaged: opening it for writing upgrades it, or says what is wrong
        return True
