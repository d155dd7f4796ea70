"""The data types of a segment's journey: Rendition, Segment, QualityEvent, SegmentFailure, Alert and their parts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal, Self
from urllib.parse import urlsplit

from vqmon.core.calibration import ScoreInterval
from vqmon.core.frames import (
    AUDIO_MEASUREMENTS,
    SIGNALS,
    SUBTITLE_PROBLEMS,
    UNMEASURED_AUDIO,
    AudioFacts,
    ClipSampling,
    DecodedSegment,
    Display,
    Fingerprint,
    MediaFacts,
    Pixels,
    Sampling,
    SubtitleFacts,
    TileGrid,
    View,
)
from vqmon.core.scores import (
    PROMOTION_REASONS,
    PROMOTION_SKIP_REASONS,
    UNSCORED_REFERENCE,
    HeatMap,
    Promotion,
    Provenance,
    ReferenceComparison,
    ReferencePairing,
    ReferenceScore,
    Score,
    ScorerFailure,
    ScorerIdentity,
    SignalSummary,
)
from vqmon.errors import REASONS, SegmentError, Stage

_MAX_PROMPT_CHARACTERS = 2000
"""Longest prompt of a generated picture."""


def check_prompt_length(text: str) -> None:
    """Raise ValueError when a prompt has more than MAX_PROMPT_CHARACTERS."""
    if len(text) > _MAX_PROMPT_CHARACTERS:
        raise ValueError(f"prompt: {len(text)} characters; at most {_MAX_PROMPT_CHARACTERS}")


__all__ = [
    "AD_BREAK_LABEL",
    "AUDIO_MEASUREMENTS",
    "PROMOTION_REASONS",
    "PROMOTION_SKIP_REASONS",
    "SIGNALS",
    "SUBTITLE_PROBLEMS",
    "UNMEASURED_AUDIO",
    "Alert",
    "AlertEvidence",
    "AudioAddress",
    "AudioFacts",
    "ByteRange",
    "ClipSampling",
    "CompanionShift",
    "DecodedSegment",
    "Display",
    "Encryption",
    "Fingerprint",
    "HeatMap",
    "LaneCursor",
    "LevelShift",
    "MediaAddress",
    "MediaFacts",
    "Mirror",
    "Outcome",
    "Pixels",
    "Promotion",
    "Provenance",
    "QualityEvent",
    "Reference",
    "ReferenceComparison",
    "ReferencePairing",
    "ReferenceScore",
    "RegressionCause",
    "Rendition",
    "Sampling",
    "Score",
    "ScoreInterval",
    "ScorerFailure",
    "ScorerIdentity",
    "Segment",
    "SegmentFailure",
    "Severity",
    "SignalSummary",
    "SubtitleFacts",
    "TileGrid",
    "View",
    "alert_id",
    "event_id",
    "failure_from_error",
    "public_url",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """A byte range of a resource: `length_bytes` bytes from `offset_bytes` on."""

    offset_bytes: int
    length_bytes: int

    def __post_init__(self) -> None:
        if self.offset_bytes < 0 or self.length_bytes <= 0:
            raise ValueError(f"not a byte range: {self.offset_bytes}+{self.length_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """How a segment is encrypted; only `AES-128` with a key URL can be decrypted."""

    method: str
    key_url: str | None = None
    # 16 bytes as hexadecimal digits
    iv_hex: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """One encoding of a Stream."""

    # the channel or title, as the viewer knows it
    stream_id: str
    # unique within the stream, e.g. "1080p"
    name: str
    # px, as announced; None = not known
    width: int | None = None
    # px, as announced
    height: int | None = None
    # as announced
    bitrate_kbps: float | None = None
    # as the playlist writes them (RFC 6381), e.g. "avc1.640028"
    codecs: str | None = None
    # of all its segments; a segment may override them
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.stream_id or not self.name:
            raise ValueError("a rendition needs a stream_id and a name")

    @property
    def key(self) -> str:
        return f"{self.stream_id}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaAddress:
    """Where media is that belongs to a segment and is not in it."""

    url: str
    # of `url`; None = all of it
    byte_range: ByteRange | None = None
    # of the initialization section, if there is one
    init_url: str | None = None
    # of `init_url`; None = all of it
    init_byte_range: ByteRange | None = None
    # None = not encrypted
    encryption: Encryption | None = None

    def __post_init__(self) -> None:
        if not self.url:
            raise ValueError("a reference, and sound, need a url")

    def without_secrets(self) -> Self:
        """The same without credentials, query and fragment of the addresses."""
        return replace(
            self,
            url=public_url(self.url),
            init_url=None if self.init_url is None else public_url(self.init_url),
            encryption=_public_encryption(self.encryption),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(MediaAddress):
    """The media that a segment is compared with: its source or mezzanine, or the same segment of another rendition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioAddress(MediaAddress):
    """The sound of a segment, where that is apart from the pictures."""

    # segments of sound that follow and belong to the same pictures, in order
    more: tuple[MediaAddress, ...] = ()
    # its begin and its end minus those of the pictures on the clock of the timestamps, as the playlists say; 0 = they
    # do not tell, or are equal
    starts_seconds: float = 0.0
    ends_seconds: float = 0.0
    # whether it was paired with the pictures by its media sequence number, as the playlists state no times
    is_numbered: bool = False

    def without_secrets(self) -> Self:
        """The same without credentials, query and fragment of the addresses."""
        public = MediaAddress.without_secrets(self)
        return replace(public, more=tuple(each.without_secrets() for each in self.more))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A further address of a segment's media, tried when the ones before it fail; ranges and key are the same."""

    url: str
    init_url: str | None = None

    def __post_init__(self) -> None:
        if not self.url:
            raise ValueError("a mirror needs a url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A reference to a few seconds of one Rendition; never the bytes."""

    rendition: Rendition
    # media sequence number, or any number that rises by one from segment to segment of a rendition
    sequence: int
    # of its media; in what is published without user part, query and fragment
    url: str
    # time of its first frame on the stream's timeline
    starts_at: datetime
    # as declared by the playlist, 0 when unknown
    duration_seconds: float = 0.0
    # of `url`; None = all of it
    byte_range: ByteRange | None = None
    # of the initialization section, if there is one
    init_url: str | None = None
    # of `init_url`; None = all of it
    init_byte_range: ByteRange | None = None
    # None = not encrypted
    encryption: Encryption | None = None
    # whether timestamps, encoding or content do not go on from the segment before
    is_discontinuity: bool = False
    # its own; those of the rendition hold besides
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    # what the generated pictures were asked to show
    prompt: str = ""
    # what it is compared with by the reference measures; None = it is scored without a reference
    reference: Reference | None = None
    # the same media at other addresses, in the order in which they are tried
    mirrors: tuple[Mirror, ...] = ()
    # its sound, where that is apart from the pictures; None = in the segment, or in what its playlist lists
    audio: AudioAddress | None = None

    def __post_init__(self) -> None:
        _need_utc(self.starts_at, "starts_at")
        check_prompt_length(self.prompt)
        if self.duration_seconds < 0:
            raise ValueError(f"negative duration: {self.duration_seconds}")

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + timedelta(seconds=self.duration_seconds)

    @property
    def all_labels(self) -> Mapping[str, str]:
        """The labels of the segment, and those of its rendition that it does not have itself."""
        return {**self.rendition.labels, **self.labels} if self.labels else self.rendition.labels

    @property
    def key(self) -> str:
        """Identifies the segment, also after a restart; without the query and credentials of its URL."""
        parts = urlsplit(self.url)
        resource = f"{parts.hostname or ''}{parts.path}"
        if parts.scheme == "data":
            resource = public_url(self.url)
        byte_offset = f"@{self.byte_range.offset_bytes}" if self.byte_range else ""
        return f"{self.rendition.key}/{self.sequence}/{resource}{byte_offset}"

    def addresses(self) -> "tuple[Segment, ...]":
        """The segment at each of its addresses, in the order in which they are tried; all have the media of `url`."""
        others = (replace(self, url=mirror.url, init_url=mirror.init_url) for mirror in self.mirrors)
        return (self, *others)

    def without_secrets(self) -> "Segment":
        """The same segment, with the same key, for the world: no address has credentials, query or fragment."""
        return replace(
            self,
            url=public_url(self.url),
            init_url=None if self.init_url is None else public_url(self.init_url),
            encryption=_public_encryption(self.encryption),
            mirrors=tuple(
                Mirror(url=public_url(mirror.url), init_url=mirror.init_url and public_url(mirror.init_url))
                for mirror in self.mirrors
            ),
            reference=self.reference and self.reference.without_secrets(),
            audio=self.audio and self.audio.without_secrets(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityEvent:
    """The verdict on an observed Segment."""

    # the same for the same segment and scorers, also in a replay
    id: str
    # what was observed
    segment: Segment
    # by the clock of the machine that observed it
    observed_at: datetime
    # one per scorer
    scores: tuple[Score, ...]
    # by name of the signal
    signals: Mapping[str, SignalSummary]
    # presentation times of the sampled frames, seconds after the segment's first frame
    times_seconds: tuple[float, ...]
    # thumbnails of the first and the last picture (32x18, luma, as hexadecimal digits), by which segments are compared
    edges: tuple[Fingerprint, Fingerprint]
    # of the decoded track
    media: MediaFacts
    # what produced the numbers
    provenance: Provenance
    # of scorers on trial: they are published, but no alert rule reads them
    shadow_scores: tuple[Score, ...] = ()
    # the largest difference between two scores of quality, 0..100; None with fewer than two
    disagreement: float | None = None
    # None where no heavy scorers are configured
    promotion: Promotion | None = None
    # of segments that have a reference, then measures of the segment alone
    references: tuple[ReferenceScore, ...] = ()
    reference_pairing: ReferencePairing | None = None
    # a key of UNSCORED_REFERENCE: why a segment that has a reference is not compared with it; the scores stay
    unscored_reference: str = ""
    unscored_reference_detail: str = ""
    # where in the sampled frames quality is lost, by measure; a measure that finds no loss has none
    heat_maps: tuple[HeatMap, ...] = ()
    # None where the sound is not measured
    audio: AudioFacts | None = None
    # a key of UNMEASURED_AUDIO: why there is no `audio` though it is asked for
    unmeasured_audio: str = ""
    # one per rendition of subtitles that the playlist offers; empty where they are not watched
    subtitles: tuple[SubtitleFacts, ...] = ()
    # the address that the media came from, where the segment has several; empty otherwise
    served_url: str = ""
    # the scorers that were asked and gave no score; none of them is in `scores` or `shadow_scores`
    scorer_failures: tuple[ScorerFailure, ...] = ()

    def __post_init__(self) -> None:
        is_compared = any(score.is_compared for score in self.references)
        if self.unscored_reference and (self.unscored_reference not in UNSCORED_REFERENCE or is_compared):
            raise ValueError(f"unscored_reference is unknown, or there are references: {self.unscored_reference!r}")
        for heat_map in self.heat_maps:
            if len(heat_map.frames) != len(self.times_seconds):
                raise ValueError(f"the heat map {heat_map.measure} has {len(heat_map.frames)} frames")

    def heat_maps_at(self, times_seconds: Sequence[float]) -> tuple[HeatMap, ...]:
        """The heat maps of the frames at these presentation times, in their order; without maps that have none."""
        index_at = {time: index for index, time in enumerate(self.times_seconds)}
        chosen = [
            replace(
                heat_map,
                frames=tuple(heat_map.frames[index_at[time]] if time in index_at else "" for time in times_seconds),
            )
            for heat_map in self.heat_maps
        ]
        return tuple(heat_map for heat_map in chosen if any(heat_map.frames))

    @property
    def subtitle_cues(self) -> Mapping[str, int]:
        """The cues of each rendition of subtitles that was read, by its name."""
        return {track.name: track.cues for track in self.subtitles if not track.problem}

    @property
    def subtitle_problems(self) -> Mapping[str, str]:
        """The keys of SUBTITLE_PROBLEMS of the renditions that were not read, by their names."""
        return {track.name: track.problem for track in self.subtitles if track.problem}

    @property
    def main_score(self) -> Score | None:
        """The score that stands for the segment, that of the first scorer; None when this scorer failed."""
        is_lost = any(failure.tier == "main" for failure in self.scorer_failures)
        return None if is_lost or not self.scores else self.scores[0]

    def reference_of(self, measure: str) -> ReferenceScore | None:
        """The value of a reference measure by its name."""
        return next((score for score in self.references if score.measure == measure), None)

    def score_of(self, scorer: str) -> Score | None:
        """The score by `name@version`, or by any version of `name`."""
        return next((score for score in self.scores if scorer in (score.scorer, score.scorer.split("@")[0])), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFailure:
    """A Segment that could not be observed: at which stage, and why."""

    # the same in a replay
    id: str
    # what could not be observed
    segment: Segment
    # by the clock of the machine that tried
    observed_at: datetime
    # where it failed
    stage: Stage
    # a key of errors.REASONS
    reason: str
    # the same as text for people
    detail: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason!r}")


Outcome = QualityEvent | SegmentFailure


AD_BREAK_LABEL = "ad_break"
"""The label of a segment within an ad break, as its playlist or its message tells; its value is "yes"."""


def event_id(segment: Segment, scorer_ids: tuple[str, ...]) -> str:
    """The id of the event about a segment and its prompt by these scorers (name@version); the same in a replay."""
    return _digest(segment.key, *sorted(scorer_ids), *(("prompt", segment.prompt) if segment.prompt else ()))


def failure_from_error(segment: Segment, error: SegmentError, *, observed_at: datetime) -> SegmentFailure:
    """The failure that is published for an error."""
    return SegmentFailure(
        id=_digest(segment.key, "unscored"),
        segment=segment,
        observed_at=observed_at,
        stage=error.stage,
        reason=error.reason,
        detail=error.detail,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCursor:
    """The position of a lane: the last segment whose outcome is in the history."""

    lane: str
    sequence: int
    segment_key: str
    # start of the next segment on the stream's timeline when the playlist does not state it
    ends_at: datetime


Severity = Literal["page", "ticket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvidence:
    """Why an alert was raised: the segment that triggered it and its values."""

    event_id: str
    # e.g. "lite@1 23.4 below 40"
    reading: str
    value: float | None
    threshold: float | None
    # presentation times of the worst frames in that segment, worst first
    worst_times_seconds: tuple[float, ...] = ()


RegressionCause = Literal["", "source", "encoder", "packaging", "scorer"]
"""The cause of a regression: the source, the encoder or enhancer, the packaging of one rendition, or the scorer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelShift:
    """A change point of a series: when its level changed, and by how much.

    `low`..`high` is the 95 % interval of `after - before`.
    """

    # the last moment at the level before
    at: datetime
    # means in points of 0..100; of a paired series, means of the difference
    before: float
    after: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _need_utc(self.at, "at")
        if self.low > self.high:
            raise ValueError(f"not an interval: {self.low}..{self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionShift:
    """A signal or another scorer that changed together with the alerting series: its means before and after."""

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule began or ceased to hold on one series; an alert keeps its id from open to resolved."""

    id: str
    rule: str
    # stream/rendition/scorer or signal
    series: str
    stream_id: str
    rendition: str
    severity: Severity
    state: Literal["open", "resolved"]
    # first segment for which the condition held
    began_at: datetime
    # when the rule fired: the segment's time, never the wall clock
    opened_at: datetime
    resolved_at: datetime | None
    summary: str
    evidence: AlertEvidence
    change: LevelShift | None = None
    # the largest shift first
    moved: tuple[CompanionShift, ...] = ()
    cause: RegressionCause = ""
    # id of the open alert that explains this one, which therefore sends no notification
    muted_by: str = ""
    # labels of segment and rendition when the alert opened
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if (self.state == "resolved") != (self.resolved_at is not None):
            raise ValueError("resolved_at must be set on a resolved alert, and only there")


def alert_id(rule: str, series: str, began_at: datetime) -> str:
    """The id of an alert; the same in a replay."""
    return _digest(rule, series, began_at.astimezone(UTC).isoformat())


_PUBLIC_DATA_URL = re.compile("data:,[0-9a-f]{32}")


def public_url(url: str) -> str:
    """A URL without user part, query and fragment; of a `data:` URL only a digest, as it is the content itself."""
    if url[:5].lower() == "data:":
        return url if _PUBLIC_DATA_URL.fullmatch(url) else f"data:,{_digest(url)}"
    public, *secret = re.split(r"[?#]", url, maxsplit=1)
    scheme, slashes, rest = public.partition("://")
    host, slash, path = rest.partition("/")
    if not slash and "@" in "".join(secret):
        # an unescaped question mark in a password
        return f"{scheme}{slashes}"
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def _public_encryption(encryption: Encryption | None) -> Encryption | None:
    if encryption is None or encryption.key_url is None:
        return encryption
    return replace(encryption, key_url=public_url(encryption.key_url))


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def _need_utc(moment: datetime, name: str) -> None:
    if moment.utcoffset() != timedelta(0):
        raise ValueError(f"{name} must be aware UTC, got {moment!r}")
