"""A file of writes that a history could not take, in order, for the time after a restart."""

import base64
import fcntl
import json
import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from vqmon.core.alerts.annotations import MarkerKey, StreamEnd
from vqmon.core.alerts.state import (
    AlertKey,
    GroupKey,
    GroupSeries,
    GroupValuesKey,
    LadderKey,
    MutedAlertKey,
    PairSeries,
    RenditionSeries,
    RepeatBlockKey,
    Series,
    State,
    StateKey,
    TimelineKey,
)
from vqmon.core.timeline import Thumbnails
from vqmon.core.types import Alert, LaneCursor, Outcome
from vqmon.errors import StoreError, WireError
from vqmon.telemetry.logs import log_event
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.control_messages import encode_control_message, parse_control_message

log = logging.getLogger("vqmon.history")

_SOURCE = "vqmon:spool"
_OUTCOME_BYTES = 8_000
"""What an outcome without its thumbnails takes in memory, about."""

_MAGIC = b"vqmonspool1\n"
_FRAME = struct.Struct(">II")
"""The length of what follows, and its CRC-32."""

_KEYS: Mapping[str, Callable[..., StateKey]] = {
    "AlertKey": AlertKey,
    "TimelineKey": TimelineKey,
    "LadderKey": LadderKey,
    "GroupKey": GroupKey,
    "GroupValuesKey": GroupValuesKey,
    "MutedAlertKey": MutedAlertKey,
    "MarkerKey": MarkerKey,
    "RepeatBlockKey": RepeatBlockKey,
}
_SERIES: Mapping[str, Callable[..., Series]] = {
    "RenditionSeries": RenditionSeries,
    "PairSeries": PairSeries,
    "GroupSeries": GroupSeries,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryWrite:
    """What one transaction writes; see `History.publish`."""

    outcomes: Sequence[Outcome] = ()
    ends: Sequence[StreamEnd] = ()
    alerts: Sequence[Alert] = ()
    states: Mapping[StateKey, State | None] = field(default_factory=dict)
    cursors: Sequence[LaneCursor] = ()
    # by event id
    thumbnails: Mapping[str, Thumbnails] = field(default_factory=dict)
    queued_at: datetime | None = None
    # judged without what the history holds, as it could not be opened; to be judged again before it is written
    is_provisional: bool = False

    @property
    def size_bytes(self) -> int:
        """Roughly what this takes in memory."""
        pictures = sum(len(picture) for thumbnails in self.thumbnails.values() for _, picture in thumbnails)
        return pictures + _OUTCOME_BYTES * (len(self.outcomes) + len(self.alerts) + 1)


class Spool:
    """An append-only file of writes, each with its length and a checksum, flushed to the disk before `append` returns.

    `history` tells where the history is that they are for, and `identity` which one it is, as its database says; ""
    while that is not known. Those for a history that is neither are refused. Whoever appends or clears must be within
    `held`; others may read. Safe to use from several threads. Errors are StoreErrors.
    """

    def __init__(self, path: Path, *, history: str = "", identity: str = "") -> None:
        self._path = path
        self._history = history
        self._identity = identity
        self._handle = -1
        # a call that was cancelled goes on in its thread, beside the next one
        self._lock = threading.Lock()
        self.size_bytes = 0

    @property
    def path(self) -> Path:
        """The file, which need not exist."""
        return self._path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from this spool while the context lasts; StoreError when one of them holds it."""
        # not the spool itself, which is removed and made anew
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            # where no file can be made no spool can: outcomes wait in memory alone
            remedy = f"let vqmon write in {self._path.parent.absolute()}, or set daemon.state_folder"
            log.error(**log_event("history.spool_failed", error=f"{path}: {error.strerror}", remedy=remedy))
            yield
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                remedy = "stop it, or set daemon.state_folder to a folder of its own"
                raise StoreError(f"{self._path}: another vqmon uses this spool; {remedy}") from error
            except OSError as error:
                raise StoreError(f"{path}: cannot be locked: {error.strerror}; set daemon.state_folder") from error
            yield
        finally:
            os.close(handle)

    def read(self) -> Sequence[HistoryWrite]:
        """All writes, in order, without the last one when a kill has cut it short.

        Raises StoreError for a file that is damaged before its end, is no spool, or belongs to another history.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read: {error.strerror}") from error
        if not content:
            return []
        records, self.size_bytes = self._records(content)
        if not records:
            return []
        owner, *writes = records
        location, _, identity = owner.decode(errors="replace").partition("\n")
        if location != self._history and not (self._identity and identity == self._identity):
            raise self._refused("holds what belongs to another history; start vqmon once with that one")
        try:
            return [_decode(record) for record in writes]
        except (WireError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise self._refused(f"was written by another version of vqmon ({error}); start that one once") from error

    def append(self, write: HistoryWrite) -> None:
        """Write at the end of the file; raises StoreError, and then the file is as before."""
        record = _framed(_encode(write))
        with self._lock:
            try:
                if self._handle < 0:
                    self._open()
                data = record if self.size_bytes else _MAGIC + _framed(self._owner) + record
                try:
                    _write_all(self._handle, data, self.size_bytes)
                    os.fdatasync(self._handle)
                except OSError:
                    os.ftruncate(self._handle, self.size_bytes)
                    raise
            except OSError as error:
                raise StoreError(f"{self._path}: cannot be written: {error.strerror}") from error
            self.size_bytes += len(data)

    @property
    def _owner(self) -> bytes:
        return f"{self._history}\n{self._identity}".encode()

    def clear(self) -> None:
        """Empty and remove the file, when the history has taken everything."""
        with self._lock:
            self._close()
            self.size_bytes = 0
            try:
                with suppress(FileNotFoundError):
                    # one that cannot be removed would be written over newer states at the next start
                    _empty(self._path)
                self._path.unlink(missing_ok=True)
                _flush_folder(self._path.parent)
            except OSError as error:
                raise StoreError(f"{self._path}: cannot be removed: {error.strerror}") from error

    def close(self) -> None:
        """Close the file, which stays."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        """Open the file, without what a kill has cut short, or make it, so that a power failure does not undo that."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._handle, self.size_bytes)
            _flush_folder(self._path.parent)
        except OSError:
            self._close()
            raise

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _records(self, content: bytes) -> tuple[list[bytes], int]:
        """The contents of the frames, and where the last whole one ends."""
        if not content.startswith(_MAGIC[: len(content)]) and content.strip(b"\0"):
            raise self._refused("is no spool of vqmon")
        records: list[bytes] = []
        position = len(_MAGIC)
        while position + _FRAME.size <= len(content):
            length, checksum = _FRAME.unpack_from(content, position)
            end = position + _FRAME.size + length
            record = content[position + _FRAME.size : end]
            if end > len(content) or (zlib.crc32(record) != checksum and end == len(content)):
                break
            # a power failure may leave the length of the file without its bytes
            if length == 0 and not content[position:].strip(b"\0"):
                break
            if zlib.crc32(record) != checksum:
                raise self._refused(f"is damaged at byte {position}, after {max(0, len(records) - 1)} writes")
            records.append(record)
            position = end
        if position < len(content):
            log.warning(**log_event("history.spool_cut", file=self._path, bytes=len(content) - position))
        return records, position if records else 0

    def _refused(self, why: str) -> StoreError:
        remedy = "or move the file away: its outcomes are then missing, as the positions in playlists are behind them"
        return StoreError(f"{self._path}: {why}; {remedy}")


def _framed(record: bytes) -> bytes:
    return _FRAME.pack(len(record), zlib.crc32(record)) + record


def _write_all(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, offset)
        view, offset = view[count:], offset + count


def _empty(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(handle, 0)
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encode(write: HistoryWrite) -> bytes:
    document = {
        "outcomes": [cloudevents.encode_outcome(outcome, source=_SOURCE).decode() for outcome in write.outcomes],
        "ends": [encode_control_message(end, source=_SOURCE).decode() for end in write.ends],
        "alerts": [cloudevents.encode_alert(alert, source=_SOURCE).decode() for alert in write.alerts],
        "states": [cloudevents.encode_state(state).decode() for state in write.states.values() if state is not None],
        "deleted": [_pack_key(key) for key, state in write.states.items() if state is None],
        "cursors": [
            [cursor.lane, cursor.sequence, cursor.segment_key, cursor.ends_at.isoformat()] for cursor in write.cursors
        ],
        "thumbnails": {
            event_id: [[seconds, base64.b64encode(picture).decode()] for seconds, picture in thumbnails]
            for event_id, thumbnails in write.thumbnails.items()
        },
        "queued_at": None if write.queued_at is None else write.queued_at.isoformat(),
        "provisional": write.is_provisional,
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def _decode(record: bytes) -> HistoryWrite:
    document = json.loads(zlib.decompress(record))
    states = [cloudevents.parse_state(text) for text in document["states"]]
    ends = [parse_control_message(text.encode()) for text in document["ends"]]
    return HistoryWrite(
        outcomes=[cloudevents.parse_outcome(text) for text in document["outcomes"]],
        ends=[end for end in ends if isinstance(end, StreamEnd)],
        alerts=[cloudevents.parse_alert(text) for text in document["alerts"]],
        states={state.key: state for state in states} | {_unpack_key(key): None for key in document["deleted"]},
        cursors=[
            LaneCursor(lane=lane, sequence=sequence, segment_key=key, ends_at=datetime.fromisoformat(ends_at))
            for lane, sequence, key, ends_at in document["cursors"]
        ],
        thumbnails={
            event_id: [(seconds, base64.b64decode(picture)) for seconds, picture in thumbnails]
            for event_id, thumbnails in document["thumbnails"].items()
        },
        queued_at=None if document["queued_at"] is None else datetime.fromisoformat(document["queued_at"]),
        # absent in older spools
        is_provisional=document.get("provisional", False),
    )


def _pack_key(key: StateKey) -> Sequence[Any]:
    """The name of the kind of key, and its fields; a series among them likewise."""
    names = key._fields if isinstance(key, AlertKey) else [each.name for each in fields(key)]
    values = [getattr(key, name) for name in names]
    packed = [[type(value).__name__, *value] if type(value).__name__ in _SERIES else value for value in values]
    return [type(key).__name__, dict(zip(names, packed, strict=True))]


def _unpack_key(packed: Sequence[Any]) -> StateKey:
    name, values = packed
    unpacked = {
        field_name: _SERIES[value[0]](*value[1:]) if isinstance(value, list) else value
        for field_name, value in values.items()
    }
    return _KEYS[name](**unpacked)
