"""Opens the parts that every whole needs, in the order of the journey."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Unpack
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

import vqmon
from pipelines.observe.observer import FindReference, FindSound, FindSubtitles, Observer
from pipelines.observe.open_scorers import open_scorer_tiers
from pipelines.observe.playlists.by_stream import StreamPlaylists
from pipelines.observe.playlists.partial_verdicts import PartialObserver
from pipelines.observe.playlists.positions import StreamPlaylist
from pipelines.observe.playlists.references import ReferencePlaylist
from pipelines.observe.playlists.sound import SeparateSound, SoundPlaylist, announced_sound
from pipelines.observe.playlists.subtitles import SubtitlePlaylists
from pipelines.observe.scoring_tiers import AdditionalFrames, OtherMedia, RecordStage, Scorer, ScoringCascade
from pipelines.service.history_thread import HistoryThread
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.experiments.definition import Experiment
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import DecodedSegment, LaneCursor, Reference, ReferenceComparison, Segment, SubtitleFacts, View
from vqmon.errors import SettingsError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool, ReferenceMedia
from vqmon.media.decode.sandbox.jail import PROTECTIONS
from vqmon.media.fetch.address_form import check_address_form
from vqmon.media.fetch.credentials import HostCredential
from vqmon.media.fetch.fetcher import Fetcher, FetchPolicy
from vqmon.media.fetch.ssrf_policy import decode_url_path
from vqmon.media.reference.libvmaf.program import FfmpegProgram, ProgramError
from vqmon.media.sources.playlist import FolderSource, PlaylistSource
from vqmon.scoring.runtime.devices import select_gpus
from vqmon.scoring.scorers.registry import builtin_folder, runtime_versions, scorer_noise
from vqmon.settings.experiments_file import parse_experiments
from vqmon.settings.load import Settings
from vqmon.settings.rules_file import parse_rules
from vqmon.settings.scoring import ScoringSettings
from vqmon.settings.sections import (
    AudioSettings,
    DecodeSettings,
    NotifySettings,
    SourceSettings,
    SubtitlesSettings,
    WatchedStream,
)
from vqmon.telemetry.metrics import Meters
from vqmon.transport.recovery.spool import HistoryWrite, Spool
from vqmon.transport.secrets import read_secret

_DENSITY = 4
"""So many times as many frames are scored where the sampled ones disagree."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_observer(
    settings: Settings,
    *,
    fetcher: Fetcher,
    meters: Meters | None = None,
    max_samples: int = 600,
    on_stage: RecordStage = lambda stage, seconds: None,
) -> AsyncIterator[Observer]:
    """Open decoder processes and scorers; they close with the context. `on_stage` hears how long each stage took."""
    meters = meters or Meters()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(decoder_pool(settings, meters=meters, max_samples=max_samples))
        _report_isolation(pool, meters)
        tiers = await stack.enter_async_context(open_scorer_tiers(settings.scoring, meters=meters))
        request = settings.scoring.reference_request(picture_sides=tiers.picture_sides)

        async def decode(media: bytes, views: tuple[View, ...], **others: Unpack[OtherMedia]) -> DecodedSegment:
            reference = None
            if request is not None and "reference" in others:
                reference = ReferenceMedia(media=others["reference"], request=request)
            options = {**_decode_options(settings), "sound_media": others.get("sound", b"")}
            return await pool.decode(media, views=views, reference=reference, **options)

        record_stage = partial(_record_stage, meters, on_stage)
        yield Observer(
            fetch=fetcher.fetch,
            cascade=ScoringCascade(
                decode=decode,
                scorers=tiers.scorers,
                shadows=tiers.shadows,
                heavy=tiers.heavy,
                takes_references=request is not None,
                additional_frames=_additional_frames(settings, pool),
                learned_measures=tiers.learned_measures,
                record_stage=record_stage,
                count_failure=partial(_count_scorer_failure, meters),
            ),
            sampling=settings.decode.sampling,
            versions={**pool.versions, **await _versions(settings.scoring)},
            now=utc_now,
            record_stage=record_stage,
            **_finders(settings, fetcher),
            located_drop_frames=settings.scoring.located_frames,
            partial=_partial_observer(settings, fetcher, pool, tiers.scorers[0]),
        )


def _additional_frames(settings: Settings, pool: DecoderPool) -> AdditionalFrames | None:
    """More frames of segments whose frames disagree; None where that is not asked for, or all are key pictures."""
    limit_points = settings.scoring.standard_error_points
    if not limit_points or settings.decode.sampling == "keyframes":
        return None

    async def decode(media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        decode = settings.decode
        return await pool.decode(media, views=views, fps=decode.fps, density=_DENSITY, hdr=decode.hdr, signals=())

    return AdditionalFrames(decode=decode, limit_points=limit_points)


def _partial_observer(
    settings: Settings, fetcher: Fetcher, pool: DecoderPool, scorer: Scorer
) -> PartialObserver | None:
    """Observes segments that are being made, where that is asked for; pictures are sampled part by part."""
    if not settings.source.partial_verdicts:
        return None
    only_pictures = {
        "thumbnail_width": 0,
        "with_heat_maps": False,
        "with_audio": False,
        "sampling": "exact",
        "measures": (),
    }
    options = {**_decode_options(settings), **only_pictures}

    async def decode(media: bytes, views: tuple[View, ...], fps: float, from_seconds: float) -> DecodedSegment:
        fps = max(fps, settings.decode.fps)
        return await pool.decode(media, views=views, **{**options, "fps": fps, "from_seconds": from_seconds})

    return PartialObserver(
        fetch=fetcher.fetch, fetch_growing=fetcher.fetch_growing, decode=decode, scorer=scorer, now=utc_now
    )


async def _versions(scoring: ScoringSettings) -> Mapping[str, str]:
    """Versions besides those of the decoder, by library."""
    return {"vqmon": version("vqmon"), **await libvmaf_versions(scoring), **runtime_versions(scoring.used_devices)}


def _report_isolation(pool: DecoderPool, meters: Meters) -> None:
    for protection in PROTECTIONS:
        meters.set("vqmon.decoder.isolation", int(protection in pool.isolation.in_force), protection=protection)


def _record_stage(meters: Meters, on_stage: RecordStage, stage: str, seconds: float) -> None:
    meters.record("vqmon.stage.duration", seconds, stage=stage)
    on_stage(stage, seconds)


def _count_scorer_failure(meters: Meters, scorer: str, reason: str) -> None:
    meters.count("vqmon.scorer.failed", scorer=scorer, reason=reason)


def _decode_options(settings: Settings) -> Mapping[str, Any]:
    """What of the settings is asked of every decode."""
    decode = settings.decode
    return {
        "sampling": decode.sampling,
        "fps": decode.fps,
        "hdr": decode.hdr,
        "thumbnail_width": decode.thumbnail_width,
        "with_heat_maps": decode.heat_maps,
        "with_audio": settings.audio.enabled,
        "measures": settings.scoring.measures,
    }


async def libvmaf_versions(scoring: ScoringSettings) -> Mapping[str, str]:
    """Versions of the ffmpeg program and its libvmaf, after a comparison by each of its measures; none without them.

    Raises SettingsError for a program that is not there or lacks one of the measures.
    """
    names = scoring.libvmaf_references
    if not names:
        return {}
    try:
        return await FfmpegProgram(scoring.ffmpeg).verify(names)
    except ProgramError as error:
        raise SettingsError(f"{error} (scoring.references has {', '.join(names)})") from None


@asynccontextmanager
async def open_picture_decoder(
    settings: Settings, *, width_px: int, max_samples: int = 600
) -> AsyncIterator[Callable[[bytes], Coroutine[None, None, Thumbnails]]]:
    """Open decoder processes for the pictures of media, without scorers; they close with the context.

    The function that it yields gives (seconds, JPEG) of each sampled frame, `width_px` wide; smaller ones are not
    enlarged. It raises SegmentError.
    """
    async with decoder_pool(settings, max_samples=max_samples) as pool:

        async def decode(media: bytes) -> Thumbnails:
            decoded = await pool.decode(
                media,
                views=(),
                sampling=settings.decode.sampling,
                fps=settings.decode.fps,
                hdr=settings.decode.hdr,
                thumbnail_width=width_px,
                signals=(),
            )
            return list(zip(decoded.times_seconds, decoded.thumbnails, strict=False))

        yield decode


def _finders(settings: Settings, fetcher: Fetcher) -> dict[str, Any]:
    """What finds the reference, the sound and the subtitles of a segment, as arguments of Observer."""
    playlists = StreamPlaylists(
        (stream, StreamPlaylist(as_url(stream.url), fetcher=fetcher, now=utc_now)) for stream in settings.source.streams
    )
    return {
        "find_reference": _stream_references(playlists, fetcher),
        "find_sound": _segment_sound(settings.audio, playlists),
        "find_subtitles": _segment_subtitles(settings.subtitles, playlists, fetcher),
    }


def _stream_references(playlists: StreamPlaylists, fetcher: Fetcher) -> FindReference:
    """The reference of each segment, by the settings of its stream."""

    def make(stream: WatchedStream, playlist: StreamPlaylist) -> FindReference:
        if not stream.reference_playlist:
            return partial(_stated_reference, stream)
        url, rendition = as_url(stream.reference_playlist), stream.reference_rendition
        return ReferencePlaylist(url, stream=playlist, rendition=rendition, fetcher=fetcher, now=utc_now).find

    finders = playlists.finders(make)

    async def find_reference(segment: Segment) -> Reference | ReferenceComparison | None:
        found = finders.find(segment)
        return await found[1](found[0]) if found else None

    return find_reference


async def _stated_reference(stream: WatchedStream, segment: Segment) -> Reference | None:
    return stream.reference_of(segment)


def _segment_sound(audio: AudioSettings, playlists: StreamPlaylists) -> FindSound:
    """The sound of each segment whose message, or whose playlist, has it apart from the pictures."""
    finders = playlists.finders(lambda stream, playlist: SoundPlaylist(playlist, now=utc_now).find)

    async def find_sound(segment: Segment) -> SeparateSound | None:
        if not audio.enabled:
            return None
        announced, found = announced_sound(segment), finders.find(segment)
        return await found[1](found[0]) if found and announced is None else announced

    return find_sound


def _segment_subtitles(
    subtitles: SubtitlesSettings, playlists: StreamPlaylists, fetcher: Fetcher
) -> FindSubtitles | None:
    """The subtitles of each segment whose stream has a playlist; None where they are not watched."""
    if not subtitles.enabled:
        return None
    finders = playlists.finders(
        lambda stream, playlist: SubtitlePlaylists(playlist, fetch=fetcher.fetch, now=utc_now).find
    )

    async def find_subtitles(segment: Segment) -> tuple[SubtitleFacts, ...]:
        found = finders.find(segment)
        return await found[1](found[0]) if found else ()

    return find_subtitles


def decoder_pool(settings: Settings, *, meters: Meters | None = None, max_samples: int = 600) -> DecoderPool:
    """The decoder processes of the settings, not yet started; those that are replaced are counted."""
    select_gpus(settings.scoring.devices if settings.decode.hardware else (), os.environ)  # for all of them alike
    limits = DecodeLimits(
        deadline_seconds=settings.decode.deadline_seconds,
        # A worker may be busy for a whole deadline, with others before us.
        wait_seconds=max(120.0, 3 * settings.decode.deadline_seconds),
        max_pixels=settings.decode.max_pixels,
        max_still_pixels=settings.decode.max_still_pixels,
        max_samples=max_samples,
        containers=settings.decode.containers,
        codecs=settings.decode.codecs,
    )
    return DecoderPool(
        settings.decode_workers,
        limits=limits,
        isolation=settings.decode.isolation,
        on_replace=None if meters is None else partial(_count_replacement, meters),
        program=FfmpegProgram(settings.scoring.ffmpeg) if settings.scoring.ffmpeg else None,
        socket_path=settings.decode.socket,
        hardware=settings.decode.hardware,
    )


def _count_replacement(meters: Meters, reason: str) -> None:
    meters.count("vqmon.decoder.replaced", reason=reason)


def fetch_policy(settings: Settings, *, named: Sequence[str] = ()) -> FetchPolicy:
    """What may be fetched: the settings, and the hosts and files that a person named on the command line."""
    fetch = settings.fetch
    hosts, networks, roots = list(fetch.allowed_hosts), list(fetch.allowed_networks), list(fetch.file_roots)
    allow_http, ports = fetch.allow_http, list(fetch.allowed_ports)
    if settings.source.kind == "folder" and settings.source.folder is not None:
        roots.append(settings.source.folder)
    for address in named:
        check_address_form(address)
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname:
            hosts.append(parts.hostname)
            networks += _own_network(parts.hostname)
            allow_http = allow_http or parts.scheme == "http"
            ports += [parts.port] if parts.port else []
        elif parts.scheme == "file" or "://" not in address:
            place = Path(os.path.realpath(decode_url_path(parts.path) if parts.scheme == "file" else address))
            roots.append(place if place.is_dir() else place.parent)
    return FetchPolicy(
        allowed_hosts=tuple(hosts),
        allowed_networks=tuple(networks),
        allow_http=allow_http,
        allowed_ports=tuple(ports),
        file_roots=tuple(roots),
        max_redirects=fetch.max_redirects,
        connect_seconds=fetch.connect_seconds,
        first_byte_seconds=fetch.first_byte_seconds,
        total_seconds=fetch.total_seconds,
        min_rate_bytes=fetch.min_rate_bytes,
        max_bytes=fetch.max_bytes,
        retries=fetch.retries,
        credentials=tuple(
            HostCredential(
                host=host.lower(),
                header=credential.header,
                secret=read_secret(credential.file, setting=f"fetch.credentials.{host}.file"),
            )
            for host, credential in fetch.credentials.items()
        ),
    )


def _own_network(host: str) -> list[str]:
    """The network of a host that was named as an address or as this machine."""
    if host == "localhost":
        return ["127.0.0.0/8", "::1/128"]
    try:
        address = ip_address(host)
    except ValueError:
        return []
    return [f"{address}/{address.max_prefixlen}"]


def load_rules(settings: Settings, *, scorers: Sequence[str] | None = None) -> tuple[AlertRule, ...]:
    """The alert rules of the settings, else those that come with vqmon.

    A rule of the owner that names a scorer which is not among the ids `scorers` is refused; a shipped one sleeps.
    """
    file = settings.alerts.rules or default_file("rules.toml")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SettingsError(f"alerts.rules: {file}: cannot be read: {reason}") from error
    return parse_rules(
        text,
        origin=str(file),
        scorers=scorers if settings.alerts.rules else None,
        learned_measures=settings.scoring.learned_references,
        noise=stated_noise(settings.scoring),
    )


def stated_noise(scoring: ScoringSettings) -> dict[str, float]:
    """Scorer id -> standard deviation of its noise in points, of the scorers of the settings that state it."""
    return scorer_noise((*scoring.scorers, *scoring.heavy), [builtin_folder(), *scoring.folders])


def default_file(name: str) -> Path:
    """A settings file that comes with vqmon: inside the wheel, else in the checkout."""
    package = Path(vqmon.__file__).parent
    inside = package / "files" / "config" / name
    return inside if inside.is_file() else package.parent / "config" / name


def load_experiments(path: Path | None) -> tuple[Experiment, ...]:
    """The experiments in the file at `path`, or in the default file; raises SettingsError."""
    file = path or default_file("experiments.toml")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SettingsError(f"experiments.path: {file}: cannot be read: {reason}") from error
    return parse_experiments(text, origin=str(file))


def state_file(settings: Settings, suffix: Literal["in-flight", "media", "spool"]) -> Path:
    """A file, or a folder, that outlives the process: in `daemon.state_folder`, else beside the history's file."""
    history = settings.history
    name = "vqmon" if history.url or settings.source.kind == "kafka" else history.path.name
    return (settings.daemon.state_folder or history.path.parent) / f"{name}.{suffix}"


def open_spool(settings: Settings, *, identity: str = "") -> Spool:
    """The spool of the history of the settings; two histories may share a folder for states, but no spool.

    One with the same `identity` at another place keeps its spool; "" while it cannot be opened.
    """
    location = settings.history.url or os.path.realpath(settings.history.path)
    return Spool(state_file(settings, "spool"), history=location, identity=identity)


class _SeenSegments:
    """The keys of the segments that have an outcome, in the history or in what it could not take yet."""

    def __init__(self, thread: HistoryThread, unwritten: Sequence[HistoryWrite]) -> None:
        self._thread = thread
        self._stored: Container[str] | None = thread.history.seen_segments() if thread.is_open else None
        self._unwritten = {outcome.segment.key for write in unwritten for outcome in write.outcomes}

    def __contains__(self, segment_key: object) -> bool:
        if self._stored is None:
            # whoever asks waits until the history is open
            self._stored = self._thread.history.seen_segments()
        return segment_key in self._unwritten or segment_key in self._stored


def open_sources(
    settings: Settings,
    *,
    fetcher: Fetcher,
    thread: HistoryThread,
    stop: asyncio.Event,
    unwritten: Sequence[HistoryWrite] = (),
) -> Sequence[tuple[str, PlaylistSource | FolderSource]]:
    """The id and the source of every stream, each going on where the history says that it stopped.

    `unwritten` is what the history could not take yet: its cursors are newer. While the history is not open nothing
    else is known, and a folder is not to be read. Streams that share an id are arms of an experiment: the names of
    their renditions end with `@ARM`.
    """
    source = settings.source
    if source.kind == "folder":
        if source.folder is None:
            raise SettingsError('source.folder: kind = "folder" needs the folder to watch')
        folder_source = FolderSource(
            source.folder,
            stream_id=source.folder_stream_id,
            now=utc_now,
            stop=stop,
            seen=_SeenSegments(thread, unwritten),
            settle_seconds=source.folder_settle_seconds,
        )
        return [(source.folder_stream_id, folder_source)]
    cursors = {cursor.lane: cursor for write in unwritten for cursor in write.cursors}
    if not source.streams:
        raise SettingsError("source.streams: nothing to watch; run `vqmon init URL`, or use `vqmon watch URL`")
    stored = [thread.history.queries.cursors(stream.id) if thread.is_open else {} for stream in source.streams]
    resumes = [{**stream_cursors, **cursors} for stream_cursors in stored]
    return _playlist_sources(source, resumes, fetcher=fetcher, stop=stop)


def _playlist_sources(
    source: SourceSettings, resumes: Sequence[Mapping[str, LaneCursor]], *, fetcher: Fetcher, stop: asyncio.Event
) -> Sequence[tuple[str, PlaylistSource]]:
    """The id and the playlist of every stream, with its cursors."""
    # arms of one content must begin together, however long each playlist takes to arrive
    opened_at = utc_now()
    return [
        (
            stream.id,
            PlaylistSource(
                as_url(stream.url),
                stream_id=stream.id,
                fetcher=fetcher,
                now=utc_now,
                stop=stop,
                resume=resume,
                renditions=stream.renditions,
                start=source.start,
                opened_at=opened_at,
                stale_after_seconds=source.stale_after_seconds,
                labels=stream.labels,
                rendition_suffix=f"@{stream.arm}" if stream.id in source.shared_ids else "",
                on_warning=lambda text: log.warning("playlist of %s", text),
            ),
        )
        for stream, resume in zip(source.streams, resumes, strict=True)
    ]


def settings_for_watch(settings: Settings, address: str, *, stream_id: str, history: str | Path | None) -> Settings:
    """The settings for following one playlist that a person named."""
    url = as_url(address)
    policy = fetch_policy(settings, named=[address])
    source = SourceSettings(
        streams=(WatchedStream(id=stream_id or _stream_name_of(url), url=url),),
        partial_verdicts=settings.source.partial_verdicts,
    )
    fetch = settings.fetch.model_copy(
        update={
            "allowed_hosts": policy.allowed_hosts,
            "allowed_networks": policy.allowed_networks,
            "allow_http": policy.allow_http,
            "allowed_ports": policy.allowed_ports,
            "file_roots": policy.file_roots,
        }
    )
    history_settings = settings.history.at_location(history)
    # Somebody watches the terminal: no receiver is notified.
    changes = {"source": source, "fetch": fetch, "history": history_settings, "notify": NotifySettings()}
    if not settings.audio.model_fields_set:
        changes["audio"] = AudioSettings(enabled=True)
    if not settings.subtitles.model_fields_set:
        changes["subtitles"] = SubtitlesSettings(enabled=True)
    return settings.model_copy(update=changes)


log = logging.getLogger("vqmon.playlists")

_SCORER_DEADLINE_SECONDS = 86_400.0
_SCORE_DEADLINE_SECONDS = 600.0
"""How long `vqmon score` lets one file decode: a whole clip instead of a few seconds, and no stream that waits."""


SCORE_MAX_SAMPLES = 3_600
"""How many frames of one file `vqmon score` looks at: an hour at one per second."""


def settings_for_score(
    settings: Settings,
    *,
    scorers: Sequence[str] = (),
    measures: Sequence[str] = (),
    sampling: str | None = None,
    max_bytes: int | None = None,
    deadline_seconds: float | None = None,
) -> Settings:
    """The settings with what a person chose on the command line.

    The default deadline of decoding becomes that of whole clips, and that of scoring a day: a person waits for the
    scorers, however long the slowest one takes. Raises SettingsError for measures that need a reference or are unknown.
    """
    if deadline_seconds is None and settings.decode.deadline_seconds == DecodeSettings().deadline_seconds:
        deadline_seconds = _SCORE_DEADLINE_SECONDS
    # who names scorers wants these, also such as are on trial otherwise
    chosen_scorers = {"scorers": tuple(scorers), "shadows": (), "heavy": ()}
    scoring = settings.scoring.model_copy(update=chosen_scorers if scorers else {})
    if measures:
        try:
            scoring = ScoringSettings.model_validate({**dict(scoring), "measures": tuple(measures)})
        except ValidationError as error:
            raise SettingsError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    if scoring.deadline_seconds == ScoringSettings().deadline_seconds:
        scoring = scoring.model_copy(update={"deadline_seconds": _SCORER_DEADLINE_SECONDS})
    chosen = {"sampling": sampling, "deadline_seconds": deadline_seconds}
    decode = settings.decode.model_copy(update={key: value for key, value in chosen.items() if value})
    fetch = settings.fetch.model_copy(update={"max_bytes": max_bytes} if max_bytes else {})
    return settings.model_copy(update={"scoring": scoring, "decode": decode, "fetch": fetch})


def _stream_name_of(url: str) -> str:
    """A stream's name out of its address: the last telling part of the path, else the host.

    >>> _stream_name_of("https://cdn.example.org/news-1/master.m3u8?token=x")
    'news-1'
    """
    parts = urlsplit(url)
    dull = ("master", "index", "playlist", "manifest", "media", "main", "prog_index", "stream")
    telling = [part for part in (Path(unquote(p)).stem for p in parts.path.split("/")) if part and part not in dull]
    return telling[-1] if telling else parts.hostname or "stream"


def as_url(address: str) -> str:
    """A path becomes a file: address; addresses stay."""
    if "://" in address:
        return address
    return Path(os.path.abspath(address)).as_uri()
