"""The work folder of a ladder: excerpt, encodes and values by name, so that an interrupted run continues.

Names hold a hash of everything that a file depends on: the clip's content and the settings; for values also scorers,
measures and versions. A file that is there is complete: it is written under another name first.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import file_digest, sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from vqmon.core.types import QualityEvent
from vqmon.errors import SettingsError, WireError
from vqmon.media.encode.codecs import CODECS, EncodeSettings
from vqmon.media.encode.process import EncodedClip, Excerpt
from vqmon.transport.wire import cloudevents
from vqmon.whole_files import write_problem

_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEncode:
    """An encode in the work folder."""

    file: Path
    rate_kbps: float
    width: int
    height: int


class WorkFolder:
    """Reads and writes the files of one clip's ladder; raises SettingsError where the folder cannot be written."""

    def __init__(self, folder: Path, *, clip: Path, seconds: float, start_seconds: float | None) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with clip.open("rb") as media:
                content = file_digest(media, "sha256").hexdigest()
        except OSError as error:
            raise SettingsError(f"{error.filename}: {error.strerror}") from error
        self._clip_key = _hash(content, seconds, start_seconds)

    @property
    def excerpt_file(self) -> Path:
        """The excerpt of the clip."""
        return self.folder / f"excerpt-{self._clip_key}.media"

    def find_excerpt(self) -> Excerpt | None:
        """The excerpt that an earlier run cut."""
        facts = _read_facts(self.excerpt_file.with_suffix(".json"), Excerpt, without=["media"])
        if facts is None or not self.excerpt_file.is_file():
            return None
        return Excerpt(media=self.excerpt_file.read_bytes(), **facts)

    def add_excerpt(self, excerpt: Excerpt) -> None:
        """Store an excerpt and its facts."""
        facts = asdict(excerpt)
        _write(self.excerpt_file, facts.pop("media"))
        _write(self.excerpt_file.with_suffix(".json"), json.dumps(facts).encode())

    def encode_name(self, settings: EncodeSettings) -> str:
        """The name of an encode without its suffix: codec, size, setting, and a hash of all that it depends on."""
        options = {**asdict(settings), **settings.encoder_options(), "encoder": CODECS[settings.codec].encoder}
        key = _hash(self._clip_key, json.dumps(options, sort_keys=True))
        setting = settings.setting.lower().replace(" ", "").replace("/", "p")
        altered = f"-soft{settings.soft_lines}" * bool(settings.soft_lines)
        altered += f"-sharpen{settings.sharpen:g}" * bool(settings.sharpen)
        altered += f"-noise{settings.noise}" * bool(settings.noise)
        return f"{settings.codec}-{settings.lines}p-{setting}{altered}-{key}"

    def find_encode(self, settings: EncodeSettings) -> StoredEncode | None:
        """The encode that an earlier run made."""
        file = self.folder / f"{self.encode_name(settings)}.mp4"
        facts = _read_facts(file.with_suffix(".json"), StoredEncode, without=["file"])
        return StoredEncode(file=file, **facts) if facts is not None and file.is_file() else None

    def add_encode(self, settings: EncodeSettings, encoded: EncodedClip) -> StoredEncode:
        """Store an encode and its facts."""
        file = self.folder / f"{self.encode_name(settings)}.mp4"
        facts = asdict(encoded)
        _write(file, facts.pop("media"))
        _write(file.with_suffix(".json"), json.dumps(facts).encode())
        return StoredEncode(file=file, **facts)

    def find_event(self, settings: EncodeSettings, conditions: str) -> QualityEvent | None:
        """What was observed of an encode under these conditions."""
        try:
            outcome = cloudevents.parse_outcome(self._event_file(settings, conditions).read_bytes())
        except (OSError, WireError):
            return None
        return outcome if isinstance(outcome, QualityEvent) else None

    def add_event(self, settings: EncodeSettings, conditions: str, event: QualityEvent) -> None:
        """Store what was observed of an encode."""
        _write(self._event_file(settings, conditions), cloudevents.encode_outcome(event, source="vqmon:ladder"))

    def _event_file(self, settings: EncodeSettings, conditions: str) -> Path:
        return self.folder / f"{self.encode_name(settings)}.{_hash(conditions)}.event.json"


def _hash(*facts: object) -> str:
    return sha256("\n".join(map(str, facts)).encode()).hexdigest()[:_HASH_DIGITS]


def _read_facts(file: Path, kind: type, *, without: Sequence[str]) -> Mapping[str, Any] | None:
    """The stored fields of a dataclass; None where they are not those of this version, so that they are made anew."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = {each.name for each in fields(kind)}.difference(without)
    return facts if isinstance(facts, dict) and set(facts) == names else None


def _write(file: Path, content: bytes) -> None:
    # a second run in the same folder writes under another name
    part = file.with_name(f"{file.name}.{token_hex(4)}.part")
    try:
        part.write_bytes(content)
        os.replace(part, file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SettingsError(f"{file}: {write_problem(error)}") from error
