"""One frozen tree of settings, read once from a TOML file and `VQMON_*` environment variables."""

import difflib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vqmon.errors import SettingsError

PLACES = (Path("vqmon.toml"), Path("/etc/vqmon/vqmon.toml"))
"""Where the settings file is looked for when neither `--config` nor `VQMON_CONFIG` names one."""

_TLS_FILES = (("kafka", "ca_file"), ("kafka", "cert_file"), ("kafka", "key_file"))
_STREAM_KEYS = ["id", "url", "renditions", "labels"]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WatchedStream(_Section):
    """One stream to watch: an HLS or DASH playlist."""

    id: str = Field(min_length=1)
    url: str = Field(min_length=1)
    # names of the renditions to take; none = all
    renditions: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)


class SourceSettings(_Section):
    """Where segments come from."""

    kind: Literal["playlist", "folder", "kafka"] = "playlist"
    streams: tuple[WatchedStream, ...] = ()
    start: Literal["oldest", "newest"] = "oldest"
    stale_after_seconds: Positive | None = None
    folder: Path | None = None
    folder_stream_id: str = "folder"
    folder_settle_seconds: Positive = 2.0

    @model_validator(mode="after")
    def _is_complete(self) -> "SourceSettings":
        ids = [stream.id for stream in self.streams]
        if len(set(ids)) != len(ids):
            raise ValueError(f"two streams share an id: {', '.join(sorted({i for i in ids if ids.count(i) > 1}))}")
        return self


class KafkaSettings(_Section):
    """The fleet form: segment messages from a topic, outcomes and alerts to topics."""

    bootstrap: tuple[str, ...] = ("127.0.0.1:9092",)
    group: str = Field(default="vqmon", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    prefix: str = Field(default="vqmon", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    partitions: Count = 12
    copies: Count = 3
    encrypted: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str = ""
    password_file: Path | None = None
    commit_seconds: float = Field(default=0.25, ge=0, le=10)
    max_waiting: int = Field(default=64, ge=1, le=2000)
    max_message_bytes: Count = 1_000_000
    max_media_bytes: Count = 512_000_000
    session_seconds: Positive = 20.0
    rebalance_seconds: Positive = 30.0
    patience_seconds: Positive = 30.0
    rejected_limit: float = Field(default=0.9, gt=0, le=1)
    when_lost: Literal["stop", "go_on"] = "stop"


class FetchSettings(_Section):
    """What may be fetched, and how long it may take."""

    allowed_hosts: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    allow_http: bool = False
    allowed_ports: tuple[int, ...] = (443, 80)
    file_roots: tuple[Path, ...] = ()
    max_bytes: int = Field(default=64_000_000, ge=1, le=2**40)
    max_redirects: int = Field(default=3, ge=0, le=10)
    connect_seconds: Positive = 3.0
    first_byte_seconds: Positive = 5.0
    total_seconds: Positive = 20.0
    min_rate_bytes: int = Field(default=100_000, ge=0)
    retries: int = Field(default=2, ge=0, le=10)


class DecodeSettings(_Section):
    """How segments become pictures."""

    workers: int = Field(default=0, ge=0, le=256)
    sampling: Literal["exact", "keyframes"] = "exact"
    fps: float = Field(default=1.0, gt=0, le=240)
    hdr: Literal["tonemap", "refuse"] = "tonemap"
    deadline_seconds: Positive = 10.0
    max_pixels: Count = 8_847_360
    thumbnail_width: int = Field(default=416, ge=0, le=1920)


class ScoringSettings(_Section):
    """Which scorers run, and where."""

    scorers: tuple[str, ...] = Field(default=("lite",), min_length=1)
    folders: tuple[Path, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)
    allow_noncommercial: bool = False


class AlertSettings(_Section):
    """Which conditions alert."""

    # none = the rules that come with vqmon
    rules: Path | None = None


class HistorySettings(_Section):
    """Where outcomes and alerts are kept, and for how long."""

    path: Path = Path("vqmon.db")
    keep_days: Positive = 35.0
    keep_frames_of_segments: int = Field(default=200, ge=0)
    evidence_max_bytes: int = Field(default=200_000, ge=0)


class DaemonSettings(_Section):
    """The daemon itself."""

    in_flight: int = Field(default=0, ge=0)
    drain_seconds: Positive = 30.0
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=0, ge=0, le=65535)  # 0 = no health and metrics server


class WebSettings(_Section):
    """The pages."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    title: str = "vqmon"
    allowed_hosts: tuple[Annotated[str, Field(pattern=r"^(\*|(\*\.)?[^*/:\s]+|\[[0-9A-Fa-f:.]+\])$")], ...] = ()


class LogSettings(_Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    form: Literal["text", "json"] = "text"


class Settings(BaseSettings):
    """Everything that can be set; `config/vqmon.toml` shows each with its default and why."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="VQMON_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment goes over the file, which comes in by the constructor.
        return env_settings, init_settings

    source: SourceSettings = SourceSettings()
    kafka: KafkaSettings = KafkaSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeSettings = DecodeSettings()
    scoring: ScoringSettings = ScoringSettings()
    alerts: AlertSettings = AlertSettings()
    history: HistorySettings = HistorySettings()
    daemon: DaemonSettings = DaemonSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @property
    def decode_workers(self) -> int:
        """As set, or one per core."""
        return self.decode.workers or cores()

    @property
    def in_flight(self) -> int:
        """As set, or two more than there are decoders: one in fetch, one in scoring."""
        return self.daemon.in_flight or self.decode_workers + 2


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings file, then the environment over it.

    The file is `path`, else what `VQMON_CONFIG` names, else the first of `PLACES` that exists, else none. Relative
    paths in the file are relative to the file. Raises SettingsError naming file, key and remedy.
    """
    file = path or (Path(os.environ["VQMON_CONFIG"]) if os.environ.get("VQMON_CONFIG") else None)
    if file is not None and not file.is_file():
        raise SettingsError(f"{file}: no such settings file")
    file = file or next((place for place in PLACES if place.is_file()), None)
    tree = _read_toml(file) if file else {}
    keys = sorted(known_keys())
    _refuse_unknown(_leaves(tree), keys, str(file))
    _refuse_unknown_environment(keys)
    try:
        return Settings(**tree)
    except ValidationError as error:
        raise SettingsError(_explain(error, str(file) if file else "environment")) from error
    except ValueError as error:
        raise SettingsError(f"environment: {error}; lists are JSON, e.g. '[\"foo\"]'") from error


def known_keys(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a settings file may hold, e.g. `decode.fps`."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from known_keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{file}: {error}") from error
    for section, name in (("source", "folder"), ("alerts", "rules"), ("history", "path"), *_TLS_FILES):
        if isinstance(tree.get(section), dict) and isinstance(tree[section].get(name), str):
            tree[section][name] = str(file.parent / tree[section][name])
    for section, name in (("fetch", "file_roots"), ("scoring", "folders")):
        if isinstance(tree.get(section), dict) and isinstance(tree[section].get(name), list):
            tree[section][name] = [str(file.parent / item) for item in tree[section][name]]
    return tree


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict) and f"{prefix}{name}" != "source.streams":
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _refuse_unknown(given: Iterator[str], keys: list[str], origin: str) -> None:
    for key in given:
        if key in Settings.model_fields:
            raise SettingsError(f"{origin}: {key}: must be a table, [{key}] with its settings below")
        if key not in keys:
            raise SettingsError(f"{origin}: unknown setting {key!r}{_nearest(key, keys)}")


def _refuse_unknown_environment(keys: list[str]) -> None:
    names = {f"VQMON_{key.replace('.', '__')}".upper(): key for key in keys}
    for name in os.environ:
        # Only VQMON_SECTION__KEY is a setting; VQMON_CONFIG and the like are not.
        if name.startswith("VQMON_") and "__" in name and name.upper() not in names:
            raise SettingsError(f"environment: unknown setting {name!r}{_nearest(name, list(names))}")


def _nearest(key: str, keys: list[str]) -> str:
    last = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6) or [k for k in keys if k.rsplit(".", 1)[-1] == last]
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(keys)}"


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{origin}: unknown setting {key!r}{_nearest(str(problem['loc'][-1]), _STREAM_KEYS)}")
            continue
        given = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
        lines.append(f"{origin}: {key}: {problem['msg']}{given}")
    return "\n".join(lines)
