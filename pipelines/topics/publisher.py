"""Puts segment messages and notes on the topic: a packager's stand-in, and the way to score an archive."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipelines.fleet.worker import connection_of
from pipelines.service.wiring import as_url, fetch_policy, utc_now
from vqmon.core.alerts.annotations import End, Marker, end_of
from vqmon.core.types import Rendition, Segment, SegmentFailure
from vqmon.errors import FetchError, SettingsError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.playlist import DiscoveredSegments, discover_segments
from vqmon.settings.load import Settings
from vqmon.settings.sections import KafkaSettings
from vqmon.transport.kafka import (
    ClientConfig,
    IdempotentProducer,
    TopicNames,
    TopicSpec,
    check_topics,
    create_topics,
    topic_specs,
)
from vqmon.transport.kafka.records import Headers
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message
from vqmon.transport.wire.segment_messages import STRUCTURED_CONTENT_TYPE, encode_segment

BATCH = 500
PLAYLISTS = (".m3u8", ".mpd")


async def publish(
    settings: Settings,
    addresses: Sequence[str],
    *,
    stream_id: str,
    rendition: str = "",
    arm: str = "",
    prompt: str = "",
) -> tuple[int, int]:
    """Publish a message per segment that the addresses name now; gives how many, and how many could not be named.

    An address is an HLS or DASH playlist, a media file, or a folder of them. Files follow each other in the order of
    their names and are dated by their own time, so that publishing them again names the same segments. Behind the last
    segment of a rendition whose playlists will list no more comes its end.
    """
    async with Fetcher(fetch_policy(settings, named=addresses)) as fetcher:
        found = [await _listed(address, fetcher) for address in addresses]
    items = [item for one in found for item in one.items]
    named = [item for item in items if isinstance(item, Segment)]
    labelled = _labelled(_numbered(named), stream_id=stream_id, rendition=rendition, arm=arm)
    segments = [replace(segment, prompt=prompt) for segment in labelled]
    records = list(records_of(segments, over={rendition or name for name in over(found)}))
    topic = TopicNames.from_prefix(settings.kafka.prefix, settings.kafka.group).segments
    async with IdempotentProducer(connection_of(settings.kafka)) as publisher:
        for first in range(0, len(records), BATCH):
            await publisher.publish(topic, records[first : first + BATCH])
    return len(segments), len(items) - len(named)


def over(found: Sequence[DiscoveredSegments]) -> set[str]:
    """The renditions that no address will add to; of files more may follow."""
    ended = {name for one in found for name in one.ended_renditions}
    return ended - {name for one in found for name in map(_name_of, one.items) if name not in one.ended_renditions}


def _name_of(item: Segment | SegmentFailure) -> str:
    return (item if isinstance(item, Segment) else item.segment).rendition.name


def records_of(segments: Sequence[Segment], *, over: Collection[str]) -> Iterator[tuple[bytes, bytes, Headers]]:
    """Segment messages in order, with the end of each rendition that is over behind its last one."""
    last = {segment.rendition.name: place for place, segment in enumerate(segments)}
    for place, segment in enumerate(segments):
        yield (*encode_segment(segment, source="vqmon:publish"), (("content-type", STRUCTURED_CONTENT_TYPE),))
        name = segment.rendition.name
        if name in over and place == last[name]:
            yield _record_of(end_of(segment.rendition.stream_id, name, segment.ends_at, told_at=utc_now()))


def _record_of(end: End) -> tuple[bytes, bytes, Headers]:
    return end.stream_id.encode(), encode_control_message(end, source="vqmon:publish"), control_message_headers(end)


async def announce(settings: Settings, marker: Marker) -> int:
    """Put a marker on every partition of the segments topic; gives their number."""
    topic = TopicNames.from_prefix(settings.kafka.prefix, settings.kafka.group).segments
    async with IdempotentProducer(connection_of(settings.kafka)) as publisher:
        return await publisher.publish_to_all_partitions(
            topic, encode_control_message(marker, source="vqmon:deploy"), control_message_headers(marker)
        )


async def announce_end(settings: Settings, end: End) -> None:
    """Put an end behind the segments of its stream."""
    topic = TopicNames.from_prefix(settings.kafka.prefix, settings.kafka.group).segments
    async with IdempotentProducer(connection_of(settings.kafka)) as publisher:
        await publisher.publish(topic, [_record_of(end)])


async def create(settings: Settings) -> Sequence[str]:
    """Create the topics that are missing; gives their names."""
    connection, plans = _topics(settings.kafka)
    return await create_topics(connection, plans)


async def check(settings: Settings) -> Sequence[str]:
    """What is wrong with the topics; empty when all is well."""
    connection, plans = _topics(settings.kafka)
    return await check_topics(connection, plans)


def _topics(kafka: KafkaSettings) -> tuple[ClientConfig, Sequence[TopicSpec]]:
    names = TopicNames.from_prefix(kafka.prefix, kafka.group)
    plans = topic_specs(
        names, partitions=kafka.partitions, replication_factor=kafka.copies, max_message_bytes=kafka.max_message_bytes
    )
    return connection_of(kafka), plans


async def _listed(address: str, fetcher: Fetcher) -> DiscoveredSegments:
    if "://" in address or address.endswith(PLAYLISTS):
        try:
            return await discover_segments(as_url(address), fetcher=fetcher, now=utc_now())
        except FetchError as error:
            raise SettingsError(f"{address.split('?')[0]}: {error}") from error
    return DiscoveredSegments(items=_files_in(address))


def _files_in(address: str) -> Sequence[Segment]:
    place = Path(address)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [_of_file(file) for file in files if file.is_file() and not file.name.startswith(".")]
    if not found:
        raise SettingsError(f"{address}: no media file there")
    return found


def _of_file(file: Path) -> Segment:
    begins = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    rendition = Rendition(stream_id=file.parent.name or "files", name="file")
    return Segment(rendition=rendition, sequence=-1, url=as_url(str(file)), starts_at=begins)


def _numbered(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Files have no number of their own."""
    for number, segment in enumerate(segments):
        yield replace(segment, sequence=number) if segment.sequence < 0 else segment


def _labelled(segments: Iterable[Segment], *, stream_id: str, rendition: str, arm: str) -> Iterator[Segment]:
    for segment in segments:
        known = segment.rendition
        labels = {**known.labels, **({"arm": arm} if arm else {})}
        named = replace(known, stream_id=stream_id, name=rendition or known.name, labels=labels)
        yield replace(segment, rendition=named)
