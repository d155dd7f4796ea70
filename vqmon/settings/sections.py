"""The sections of the settings: each a frozen table with its limits."""

from collections.abc import Set
from datetime import time
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vqmon.core.alerts.state import StateRetention
from vqmon.core.types import Reference, Segment, public_url
from vqmon.errors import SettingsError
from vqmon.media.decode.protocol import CODECS, CONTAINERS
from vqmon.media.decode.sandbox.jail import Isolation
from vqmon.media.fetch.address_form import check_address_form
from vqmon.transport.history.backends.location import POSTGRES_SCHEMES, HistoryLocation, parse_location

PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(ge=1)]


def _check_network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network of IP addresses; write one like 10.0.0.0/8 or fd00::/8") from None
    return text


Network = Annotated[str, AfterValidator(_check_network)]

_KAFKA_NAME = r"^[A-Za-z0-9._-]{1,100}$"
_HARDWARE = r"^(cuda(:\d{1,3})?)?$"
HTTP_ADDRESS = r"^https?://"
_HOST = r"^(\*|(\*\.)?[^*/:\s]+|\[[0-9A-Fa-f:.]+\])$"

PATTERN_MEANINGS = {
    _KAFKA_NAME: "1 to 100 letters, digits, dots, underscores or hyphens",
    _HARDWARE: '"cuda", or a GPU by its number like "cuda:1"',
    HTTP_ADDRESS: "an address that begins with https:// or http://",
    _HOST: 'a host name without scheme and port, "*.example.org", or "*"',
}
"""Regular expression of a setting -> what it asks for, in words."""


class Section(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WatchedStream(Section):
    """One stream to watch: an HLS or DASH playlist."""

    # its name in events, alerts and pages; streams that share it are the arms of an experiment
    id: str = Field(min_length=1)
    # of the HLS or DASH playlist
    url: str = Field(min_length=1)
    # names of the renditions to take; none = all
    renditions: tuple[str, ...] = ()
    # labels of all its segments; `arm` names the arm of an experiment
    labels: dict[str, str] = Field(default_factory=dict)
    # address of each segment's reference, with {name}, {sequence} and {rendition}, or of a playlist; "" = none
    reference: str = ""
    # address of the initialization section of those references, with the same fields; "" = none
    reference_init: str = ""
    # of the playlist `reference`, or of `url` when that is empty: which rendition is the reference; "" = the largest
    reference_rendition: str = ""

    @field_validator("url")
    @classmethod
    def _can_be_fetched(cls, url: str) -> str:
        try:
            check_address_form(url)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return url

    @field_validator("reference", "reference_init")
    @classmethod
    def _is_template(cls, template: str) -> str:
        try:
            template.format(name="a", sequence=1, rendition="b")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(f"{template!r}: only {{name}}, {{sequence}} and {{rendition}} are filled in") from error
        return template

    @model_validator(mode="after")
    def _is_one_kind_of_reference(self) -> "WatchedStream":
        if self.reference_rendition and self.reference and not self.reference_playlist:
            raise ValueError(
                "reference_rendition: it names a rendition of a playlist, and `reference` is no playlist "
                "(its path ends with neither .m3u8 nor .mpd)"
            )
        if self.reference_playlist and self.reference_init:
            raise ValueError("reference_init: the playlist states it; leave it out")
        return self

    @property
    def arm(self) -> str:
        """The label `arm`, "" without one."""
        return self.labels.get("arm", "")

    @property
    def reference_playlist(self) -> str:
        """Address of the playlist that lists the references; "" when they have a template, or there are none."""
        if not self.reference:
            return self.url if self.reference_rendition else ""
        is_playlist = urlsplit(self.reference).path.lower().endswith((".m3u8", ".mpd"))
        return self.reference if is_playlist and "{" not in self.reference else ""

    def reference_of(self, segment: Segment) -> Reference | None:
        """The reference of a segment of this stream by the template."""
        if not self.reference or self.reference_playlist:
            return None
        fields = {
            "name": urlsplit(public_url(segment.url)).path.rsplit("/", 1)[-1],
            "sequence": segment.sequence,
            "rendition": segment.rendition.name.removesuffix(f"@{self.arm}"),
        }
        return Reference(
            url=self.reference.format(**fields),
            init_url=self.reference_init.format(**fields) if self.reference_init else None,
        )


class SourceSettings(Section):
    """Where segments come from."""

    kind: Literal["playlist", "folder", "kafka"] = "playlist"
    streams: tuple[WatchedStream, ...] = ()
    start: Literal["oldest", "newest"] = "oldest"
    stale_after_seconds: PositiveFloat | None = None
    partial_verdicts: bool = False
    folder: Path | None = None
    folder_stream_id: str = "folder"
    folder_settle_seconds: PositiveFloat = 2.0

    @model_validator(mode="after")
    def _is_complete(self) -> "SourceSettings":
        for id in self.shared_ids:
            arms = [stream.arm for stream in self.streams if stream.id == id]
            if "" in arms or len(set(arms)) < len(arms):
                raise ValueError(
                    f"streams: two share the id {id!r}: as arms of an experiment, give each another label `arm`; "
                    "otherwise give them different ids"
                )
        return self

    @property
    def shared_ids(self) -> Set[str]:
        """The ids of more than one stream, which are the arms of an experiment."""
        ids = [stream.id for stream in self.streams]
        return {id for id in ids if ids.count(id) > 1}


class KafkaSettings(Section):
    """The fleet form: segment messages from a topic, outcomes and alerts to topics."""

    bootstrap: tuple[str, ...] = Field(default=("127.0.0.1:9092",), min_length=1)
    group: str = Field(default="vqmon", pattern=_KAFKA_NAME)
    prefix: str = Field(default="vqmon", pattern=_KAFKA_NAME)
    partitions: PositiveInt = 12
    copies: PositiveInt = 3
    encrypted: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str = ""
    password_file: Path | None = None
    commit_seconds: float = Field(default=0.15, ge=0, le=10)
    max_waiting: int = Field(default=256, ge=1, le=2000)
    max_message_bytes: PositiveInt = 1_000_000
    max_media_bytes: PositiveInt = 512_000_000
    session_seconds: PositiveFloat = 20.0
    rebalance_seconds: PositiveFloat = 30.0
    patience_seconds: PositiveFloat = 30.0
    stalled_seconds: PositiveFloat = 120.0
    origin_wait_seconds: PositiveFloat = 60.0
    overtake_seconds: PositiveFloat = 2.0
    rejected_limit: float = Field(default=0.9, gt=0, le=1)
    when_lost: Literal["stop", "go_on"] = "stop"
    when_unreadable: Literal["stop", "go_on"] = "stop"
    when_too_large: Literal["stop", "go_on"] = "stop"

    @property
    def revoke_seconds(self) -> float:
        """What finishing may take of a partition that goes to somebody else: well within the rebalance."""
        return max(1.0, min(10.0, self.rebalance_seconds - 10.0))


class CredentialSettings(Section):
    """What one host wants to see before it serves: a request header, or a signed query."""

    # name of the header that holds the text of the file; "" = the text is the query of addresses that have none
    header: str = ""
    file: Path


class FetchSettings(Section):
    """What may be fetched, and how long it may take."""

    allowed_hosts: tuple[str, ...] = ()
    allowed_networks: tuple[Network, ...] = ()
    allow_http: bool = False
    allowed_ports: tuple[int, ...] = (443, 80)
    file_roots: tuple[Path, ...] = ()
    max_bytes: int = Field(default=64_000_000, ge=1, le=2**40)
    max_redirects: int = Field(default=3, ge=0, le=10)
    connect_seconds: PositiveFloat = 3.0
    first_byte_seconds: PositiveFloat = 5.0
    total_seconds: PositiveFloat = 20.0
    min_rate_bytes: int = Field(default=100_000, ge=0)
    retries: int = Field(default=2, ge=0, le=10)
    # by host name
    credentials: dict[str, CredentialSettings] = Field(default_factory=dict)


class DecodeSettings(Section):
    """How segments become pictures."""

    workers: int = Field(default=0, ge=0, le=256)
    sampling: Literal["exact", "keyframes"] = "exact"
    fps: float = Field(default=1.0, gt=0, le=240)
    hdr: Literal["tonemap", "refuse"] = "tonemap"
    isolation: Isolation = "best"
    socket: Path | None = None
    hardware: str = Field(default="", pattern=_HARDWARE)
    deadline_seconds: PositiveFloat = 10.0
    max_pixels: PositiveInt = 8_847_360
    max_still_pixels: PositiveInt = 50_331_648
    containers: tuple[str, ...] = Field(default=tuple(CONTAINERS), min_length=1)
    codecs: tuple[str, ...] = Field(default=CODECS, min_length=1)
    thumbnail_width: int = Field(default=416, ge=0, le=1920)
    heat_maps: bool = True

    @model_validator(mode="after")
    def _hardware_is_outside_the_jail(self) -> "DecodeSettings":
        if self.hardware and (self.isolation != "off" or self.socket is not None):
            raise ValueError(
                "hardware: CUDA opens devices and maps memory as it decodes, which the jail forbids; set isolation = "
                '"off" and no socket where every source is trusted, or leave hardware empty'
            )
        return self

    @field_validator("containers", "codecs")
    @classmethod
    def _can_be_decoded(cls, names: tuple[str, ...], context: ValidationInfo) -> tuple[str, ...]:
        offered = CONTAINERS if context.field_name == "containers" else CODECS
        if unknown := [name for name in names if name not in offered]:
            raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(offered)}")
        return names


class AudioSettings(Section):
    """Whether the sound of segments is measured."""

    enabled: bool = False


class SubtitlesSettings(Section):
    """Whether the subtitles that playlists offer are watched beside the pictures."""

    enabled: bool = False


class AlertSettings(Section):
    """Which conditions alert."""

    # none = the rules that come with vqmon
    rules: Path | None = None
    keep_ended_hours: PositiveFloat = 24.0
    keep_silent_hours: PositiveFloat = 168.0

    @model_validator(mode="after")
    def _check_order(self) -> "AlertSettings":
        if self.keep_ended_hours > self.keep_silent_hours:
            raise ValueError("keep_ended_hours: must not be above keep_silent_hours")
        return self

    @property
    def retention(self) -> StateRetention:
        """How long the states of renditions are kept."""
        return StateRetention(ended_seconds=3600 * self.keep_ended_hours, silent_seconds=3600 * self.keep_silent_hours)


class WebhookSettings(Section):
    """One webhook that receives alerts, with signed requests."""

    # where alerts are sent by POST
    url: str = Field(pattern=HTTP_ADDRESS)
    # the key that signs now, and then those that are on their way out
    secret_files: tuple[Path, ...] = ()


class WindowSettings(Section):
    """Planned maintenance: once, or every day; UTC."""

    # globs of stream ids
    streams: tuple[str, ...] = ("*",)
    # globs of names of renditions
    renditions: tuple[str, ...] = ("*",)
    # begin of a window that is there once
    begins: AwareDatetime | None = Field(default=None, alias="from")
    # its end
    until: AwareDatetime | None = None
    # begin of a window that is there every day
    daily_from: time | None = None
    # its end; earlier than `daily_from` = on the next day
    daily_until: time | None = None


class NotifySettings(Section):
    """The receivers of alerts and how they are notified."""

    alertmanagers: tuple[Annotated[str, Field(pattern=HTTP_ADDRESS)], ...] = ()
    token_file: Path | None = None
    ca_file: Path | None = None
    webhooks: dict[str, WebhookSettings] = Field(default_factory=dict)
    windows: dict[str, WindowSettings] = Field(default_factory=dict)
    severities: tuple[Literal["page", "ticket"], ...] = ("page", "ticket")
    labels: dict[str, str] = Field(default_factory=dict)
    carried_labels: tuple[str, ...] = ()
    public_url: str = ""
    runbook_url: str = ""
    source: str = "vqmon"
    resend_seconds: float = Field(default=60.0, ge=1, le=3600)
    max_age_seconds: PositiveFloat = 900.0
    keep_hours: PositiveFloat = 72.0
    timeout_seconds: PositiveFloat = 5.0
    allowed_networks: tuple[Network, ...] = ()
    path: Path = Path("vqmon-notify.db")


class HistorySettings(Section):
    """Where outcomes and alerts are stored, and for how long."""

    path: Path = Path("vqmon.db")
    # postgresql://user@host:port/database instead of the file; never with a password
    url: str = ""
    password_file: Path | None = None
    keep_days: PositiveFloat = 35.0
    keep_rollups_days: PositiveFloat = 35.0
    keep_alerts_days: PositiveFloat = 400.0
    keep_frames_of_segments: int = Field(default=200, ge=0)
    evidence_max_bytes: int = Field(default=200_000, ge=0)
    max_waiting_bytes: int = Field(default=256_000_000, ge=1_000_000)

    @property
    def location(self) -> HistoryLocation:
        """The database of `url`, else the file."""
        if not self.url:
            return self.path
        if not self.url.startswith(POSTGRES_SCHEMES):
            # Without what is there: it may hold a password.
            raise SettingsError("history.url: is no postgresql:// address; postgresql://user@host:5432/database")
        return parse_location(self.url, password_file=self.password_file)

    def at_location(self, place: str | Path | None) -> "HistorySettings":
        """The same at a file or postgresql:// address that a person named; None changes nothing."""
        if place is None:
            return self
        chosen = parse_location(place)
        is_file = isinstance(chosen, Path)
        return self.model_copy(update={"path": chosen, "url": ""} if is_file else {"url": str(chosen)})


class ExperimentSettings(Section):
    """Which encodings are held against each other."""

    # none = the file that comes with vqmon, which has no experiment
    path: Path | None = None
    media_bytes: int = Field(default=1_000_000_000, ge=0)
    clip_bytes: int = Field(default=1_000_000_000, ge=0)


class DaemonSettings(Section):
    """The daemon itself."""

    in_flight: int = Field(default=0, ge=0)
    # what outlives a kill of the daemon and is not in the history; none = beside the history's file
    state_folder: Path | None = None
    drain_seconds: PositiveFloat = 30.0
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=0, ge=0, le=65535)  # 0 = no health and metrics server
    # None = what is usual for each rendition
    slo_floor: float | None = Field(default=None, ge=0, le=100)
    slo_drop: float = Field(default=5.0, ge=0, le=100)


class MetricsSettings(Section):
    """Which streams have metrics of their own."""

    streams: tuple[str, ...] = ()
    renditions: tuple[str, ...] = ("*",)
    max_renditions: int = Field(default=100, ge=1, le=10_000)


class WebLimits(Section):
    """What clients of the pages may take up."""

    connections: int = Field(default=1000, ge=10, le=100_000)
    connections_per_client: int = Field(default=200, ge=10)
    live: PositiveInt = 100
    live_per_client: PositiveInt = 20
    request_seconds: float = Field(default=10.0, ge=1, le=3600)
    write_seconds: float = Field(default=20.0, ge=1, le=3600)
    body_bytes: int = Field(default=65_536, ge=4096)


class WebAuth(Section):
    """Sign-in by a reverse proxy, which names the user in headers."""

    user_header: str = Field(default="", pattern=r"^[A-Za-z0-9-]*$")
    groups_header: str = Field(default="", pattern=r"^[A-Za-z0-9-]*$")
    viewers: tuple[str, ...] = ("*",)
    voters: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_headers(self) -> "WebAuth":
        groups = [name for name in (*self.viewers, *self.voters, *self.operators) if name != "*"]
        if not self.user_header and (groups or self.groups_header or self.voters or self.operators):
            raise ValueError("user_header: set it too, e.g. to X-Forwarded-User; without it nobody signs in")
        named = [name for name in groups if not name.startswith("user:")]
        if named and not self.groups_header:
            raise ValueError(f"groups_header: set it too, as {named[0]!r} is a group; a user is 'user:{named[0]}'")
        return self


_PAGE_NAMES = (
    "streams",
    "segments",
    "alerts",
    "compare",
    "pairs",
    "experiments",
    "deployments",
    "api",
    "live",
    "static",
    "healthz",
    "readyz",
    "metrics",
)
"""First parts of the paths of pages."""


class WebSettings(Section):
    """The pages."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    title: str = "vqmon"
    allowed_hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = ()
    # the file of blind votes and of pictures of pairs; none = beside the history, or in the working folder
    reviews: Path | None = None
    allow_votes: bool = False
    root_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    # addresses and networks of the reverse proxies whose headers are believed
    trusted_proxies: tuple[str, ...] = ()
    auth: WebAuth = WebAuth()
    limits: WebLimits = WebLimits()

    @field_validator("root_path")
    @classmethod
    def _is_no_page(cls, root_path: str) -> str:
        if root_path.split("/")[1:2] in ([name] for name in _PAGE_NAMES):
            raise ValueError(f"a page has this name already; no root path begins with {', '.join(_PAGE_NAMES)}")
        return root_path

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    @model_validator(mode="after")
    def _has_proxies(self) -> "WebSettings":
        if self.auth.user_header and not self.trusted_proxies:
            raise ValueError(
                "trusted_proxies: name the address of the proxy, e.g. 127.0.0.1; otherwise anybody could send "
                f"the header {self.auth.user_header}"
            )
        return self


class LogSettings(Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    form: Literal["text", "json"] = "text"
