"""Writes segment messages, ends and markers to the segments topic: in place of a packager, or to score an archive."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipelines.observe.playlists.positions import StreamPlaylist
from pipelines.observe.playlists.sound import SoundPlaylist, audio_address
from pipelines.service.brokers import connection_of, topic_names, topic_specs_of
from pipelines.service.wiring import as_url, fetch_policy, utc_now
from vqmon.core.alerts.annotations import DeployMarker, StreamEnd, stream_end
from vqmon.core.types import Rendition, Segment, SegmentFailure
from vqmon.errors import FetchError, SegmentError, SettingsError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.playlist import DiscoveredSegments, discover_segments
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.kafka import IdempotentProducer, check_topics, create_topics
from vqmon.transport.kafka.records import Headers
from vqmon.transport.kafka.topics import required_acls, tool_options
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message
from vqmon.transport.wire.segment_messages import STRUCTURED_CONTENT_TYPE, encode_segment

log = logging.getLogger("vqmon.publish")

_BATCH_RECORDS = 500
_PLAYLIST_SUFFIXES = (".m3u8", ".mpd")

_UNNUMBERED = -1
"""The sequence of a file until all files are known."""

KeyValueHeaders = tuple[bytes, bytes, Headers]


async def publish_segments(
    settings: Settings,
    addresses: Sequence[str],
    *,
    stream_id: str,
    rendition: str = "",
    arm: str = "",
    prompt: str = "",
) -> tuple[int, int]:
    """Publish a message per segment; returns how many, and how many playlist entries could not become one.

    An address is an HLS or DASH playlist, a media file, or a folder of them. Files follow each other in the order of
    their names and carry their modification times, so that publishing them again names the same segments. After the
    last segment of a rendition whose playlists will list no more, its end is published.
    """
    async with Fetcher(fetch_policy(settings, named=addresses)) as fetcher:
        listings = [
            await _with_sound(address, await _list_segments(address, fetcher), fetcher) for address in addresses
        ]
    items = [item for listing in listings for item in listing.items]
    listed = [item for item in items if isinstance(item, Segment)]
    labelled = _with_labels(_with_sequences(listed), stream_id=stream_id, rendition=rendition, arm=arm)
    segments = [replace(segment, prompt=prompt) for segment in labelled]
    records = list(encode_records(segments, ended={rendition or name for name in ended_renditions(listings)}))
    topic = topic_names(settings.kafka).segments
    async with IdempotentProducer(connection_of(settings.kafka)) as publisher:
        for first in range(0, len(records), _BATCH_RECORDS):
            await publisher.publish(topic, records[first : first + _BATCH_RECORDS])
    return len(segments), len(items) - len(listed)


def ended_renditions(listings: Sequence[DiscoveredSegments]) -> set[str]:
    """Return the renditions to which no address will add segments; a rendition of files never counts as ended."""
    ended = {name for listing in listings for name in listing.ended_renditions}
    growing = {
        name
        for listing in listings
        for name in map(_rendition_name, listing.items)
        if name not in listing.ended_renditions
    }
    return ended - growing


def _rendition_name(item: Segment | SegmentFailure) -> str:
    return (item if isinstance(item, Segment) else item.segment).rendition.name


def encode_records(segments: Sequence[Segment], *, ended: Collection[str]) -> Iterator[KeyValueHeaders]:
    """Encode segment messages in order; after the last one of an ended rendition comes its end."""
    last_index = {segment.rendition.name: index for index, segment in enumerate(segments)}
    for index, segment in enumerate(segments):
        yield (*encode_segment(segment, source="vqmon:publish"), (("content-type", STRUCTURED_CONTENT_TYPE),))
        name = segment.rendition.name
        if name in ended and index == last_index[name]:
            yield _encode_end(stream_end(segment.rendition.stream_id, name, segment.ends_at, announced_at=utc_now()))


def _encode_end(end: StreamEnd) -> KeyValueHeaders:
    return end.stream_id.encode(), encode_control_message(end, source="vqmon:publish"), control_message_headers(end)


async def publish_marker(settings: Settings, marker: DeployMarker) -> int:
    """Write a deploy marker to every partition of the segments topic; returns how many partitions it has."""
    topic = topic_names(settings.kafka).segments
    async with IdempotentProducer(connection_of(settings.kafka)) as publisher:
        return await publisher.publish_to_all_partitions(
            topic, encode_control_message(marker, source="vqmon:deploy"), control_message_headers(marker)
        )


async def publish_end(settings: Settings, end: StreamEnd) -> int:
    """Write the end of a stream to every partition of the segments topic; returns how many partitions it has.

    The partition that a key belongs to depends on the partitioner of the producer that wrote the stream's segments.
    """
    topic = topic_names(settings.kafka).segments
    key, value, headers = _encode_end(end)
    async with IdempotentProducer(connection_of(settings.kafka)) as publisher:
        return await publisher.publish_to_all_partitions(topic, value, headers, key=key)


async def create_missing_topics(settings: Settings) -> Sequence[str]:
    """Create the topics of the settings that are missing; returns their names."""
    return await create_topics(connection_of(settings.kafka), topic_specs_of(settings.kafka))


async def topic_problems(settings: Settings) -> Sequence[str]:
    """Return what is wrong with the topics of the settings, a sentence each; empty when they match."""
    return [
        str(problem) for problem in await check_topics(connection_of(settings.kafka), topic_specs_of(settings.kafka))
    ]


def acl_commands(settings: Settings, *, principal: str) -> Sequence[str]:
    """Return the commands of Kafka's tool that allow each command of vqmon what it needs, under a comment each."""
    kafka = settings.kafka
    options = tool_options(connection_of(kafka))
    return [
        line
        for role, rules in required_acls(topic_names(kafka), kafka.group).items()
        for line in (f"# {role}", *(rule.command(principal, options) for rule in rules))
    ]


async def _list_segments(address: str, fetcher: Fetcher) -> DiscoveredSegments:
    if "://" in address or address.endswith(_PLAYLIST_SUFFIXES):
        try:
            return await discover_segments(as_url(address), fetcher=fetcher, now=utc_now())
        except FetchError as error:
            raise SettingsError(f"{address.split('?')[0]}: {error}") from error
    return DiscoveredSegments(items=_list_files(address))


async def _with_sound(address: str, listing: DiscoveredSegments, fetcher: Fetcher) -> DiscoveredSegments:
    """The segments with the addresses of their sound, where their playlist lists it apart from the pictures.

    Of each rendition whose sound cannot be found it is said once why; its segments are published without.
    """
    url = as_url(address)
    if not listing.is_playlist:
        return listing
    sound = SoundPlaylist(StreamPlaylist(url, fetcher=fetcher, now=utc_now), now=utc_now)
    items: list[Segment | SegmentFailure] = []
    failed: set[str] = set()
    for item in listing.items:
        if isinstance(item, Segment):
            try:
                found = await sound.find(item)
            except SegmentError as error:
                found, name = None, item.rendition.name
                if name not in failed:
                    failed.add(name)
                    log.warning(**log_event("sound.unavailable", rendition=name, segment=item.key, why=error.detail))
            item = replace(item, audio=audio_address(found)) if found else item
        items.append(item)
    return replace(listing, items=items)


def _list_files(address: str) -> Sequence[Segment]:
    path = Path(address)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    segments = [_segment_of(file) for file in files if file.is_file() and not file.name.startswith(".")]
    if not segments:
        raise SettingsError(f"{address}: there is no media file")
    return segments


def _segment_of(file: Path) -> Segment:
    modified_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    rendition = Rendition(stream_id=file.parent.name or "files", name="file")
    return Segment(rendition=rendition, sequence=_UNNUMBERED, url=as_url(str(file)), starts_at=modified_at)


def _with_sequences(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Number files by their position in the list; segments of playlists keep their media sequence numbers."""
    for index, segment in enumerate(segments):
        yield replace(segment, sequence=index) if segment.sequence < 0 else segment


def _with_labels(segments: Iterable[Segment], *, stream_id: str, rendition: str, arm: str) -> Iterator[Segment]:
    for segment in segments:
        listed = segment.rendition
        labels = {**listed.labels, **({"arm": arm} if arm else {})}
        renamed = replace(listed, stream_id=stream_id, name=rendition or listed.name, labels=labels)
        yield replace(segment, rendition=renamed)
