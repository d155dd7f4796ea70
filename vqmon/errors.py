"""Every error that vqmon raises on purpose.

    VqmonError
      SettingsError       a setting, rule or manifest file is wrong; the message names file, key and remedy
        NoHistoryError      there is no history yet that could be read
      ScorerError         a scorer bundle cannot be trusted or loaded
        UnknownScorerError  no bundle has the name that was given
      WireError           bytes from outside do not follow the schema
      StoreError          the history cannot be opened, read or written
        StoreUnreachableError   its server does not answer; what was being written may be there or not
        StoreRefusedError   it is not ours to write: of another program or a newer vqmon, or another vqmon writes it
      DeliveryError       a receiver of alerts cannot be reached, or does not take them
      BrokerError         a Kafka broker cannot be reached, or what it did is not known
        FencedError         somebody else has taken over
        RecordsDeletedError   records were deleted before they were read
      RecordTooLargeError a record is larger than its Kafka topic takes
      SegmentError        one segment cannot be observed; becomes a SegmentFailure
        FetchError          its bytes cannot be had
          UnknownHostError    the name of its host has no address
        DecodeError         its bytes cannot be turned into pictures
        ScoreError          its pictures cannot be scored

Two fates only: a `SegmentError` becomes a published outcome, and so does an unexpected error while a segment is
observed, as `internal`; any other error ends the process, with exit code 4 when it is a `StoreError`, as no setting is
wrong then, else with 2.
"""

import sys
from collections.abc import Collection
from typing import ClassVar, Literal

Stage = Literal["source", "fetch", "decode", "score"]

REASONS: dict[str, str] = {
    # source: what the playlist itself says
    "gap": "the playlist marks this segment as missing (EXT-X-GAP)",
    "encrypted": "the segment is encrypted in a way that cannot be undone here",
    "stale": "the playlist stopped announcing new segments",
    "playlist": "the playlist cannot be fetched or understood",
    "skipped": "the segment left the playlist before it could be taken",
    "overloaded": "vqmon could not take the segment before it left the playlist, as the machine cannot keep up",
    "message": "the segment message does not follow the schema",
    "duplicate": "the same segment was announced before, and has its verdict",
    # fetch
    "refused": "the address is not allowed by the fetch policy",
    "not_found": "the server says that the segment does not exist",
    "http_status": "the server answered with an error",
    "unreachable": "no connection to the server",
    "timeout": "the deadline passed",
    "too_large": "more bytes than allowed",
    "too_slow": "the transfer rate stayed under the minimum",
    "origin_away": "the origin served no segment of this stream, or none at all, for as long as it is waited for",
    "file": "the local file cannot be read",
    "resources": "this machine has no open file, thread or memory left to fetch it with",
    "key": "the decryption key cannot be had or does not fit",
    # decode
    "empty": "there are no bytes",
    "not_media": "the bytes are no media container that is allowed",
    "no_video": "there is no video track",
    "no_frames": "not one picture could be decoded",
    "corrupt": "the media is damaged beyond use",
    "missing_init": "the initialization section is missing",
    "unsupported_codec": "the codec is not allowed or not built in",
    "too_many_pixels": "the pictures are larger than allowed",
    "too_long": "the segment holds more than allowed",
    "hdr": "the pictures are HDR and the settings say not to tone-map",
    "colour": "the colours of the pictures are coded in a way that cannot be shown",
    "crashed": "the decoder process died",
    "worker": "no decoder process could be started",
    "poison": "the segment broke its decoder process twice, or ended vqmon itself twice",
    # score
    "out_of_memory": "the device has too little memory",
    "scorer_failed": "the scorer gave an error or no finite number",
    "no_prompt": "every scorer here needs the prompt of a generated picture, and the segment says none: "
    "say `prompt` in its message, or add a scorer that needs none",
    "outcome_too_large": "the outcome is larger than its Kafka topic takes, and the settings say to go on without it",
    # any
    "internal": "an unexpected error within vqmon",
}
"""Every reason code and what it means; codes are part of the event schema and only ever added to."""


def install_extra(extra: str) -> str:
    """The command that installs an extra where vqmon is installed; another pip would look for vqmon elsewhere."""
    return f"{sys.executable} -m pip install 'vqmon[{extra}]'"


MEMORY_REMEDY = (
    "give vqmon more (MemoryMax of its unit, the limit of its container, ulimit -v), end other processes, or use a "
    "smaller scorer, such as lite_fast"
)
"""What to do about too little memory at a start."""


class VqmonError(Exception):
    """Anything that vqmon raises on purpose."""


class SettingsError(VqmonError):
    """A setting is wrong; the message names the file, the key and the remedy."""


class NoHistoryError(SettingsError):
    """There is no history yet that could be read."""


class ScorerError(VqmonError):
    """A scorer bundle cannot be trusted or loaded."""


class UnknownScorerError(ScorerError):
    """No bundle has the name that was given; `name` is that."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"unknown scorer {name!r}; {detail}")
        self.name = name


class WireError(VqmonError):
    """Bytes from outside do not follow the schema."""


class StoreError(VqmonError):
    """The history cannot be opened, read or written."""


class StoreUnreachableError(StoreError):
    """The server of the history does not answer; whether the last transaction is there is not known."""


class StoreRefusedError(StoreError):
    """The history is not ours to write, and waiting does not help: somebody must name another, or stop its writer."""


class DeliveryError(VqmonError):
    """A receiver of alerts cannot be reached, or does not take them.

    `reason` is one word for counting: unreachable, timeout, busy, refused or gone. `retry_after_seconds` is what the
    receiver asked for.
    """

    def __init__(self, reason: str, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class BrokerError(VqmonError):
    """A Kafka broker cannot be reached, or it is not known what it did."""


class FencedError(BrokerError):
    """Somebody else has taken over; nothing more may be written here."""


class RecordsDeletedError(BrokerError):
    """The next records of some partitions were deleted before they were read."""

    def __init__(self, partitions: Collection[int]) -> None:
        super().__init__(f"records of partitions {sorted(partitions)} were deleted before they were read")
        self.partitions = frozenset(partitions)


class RecordTooLargeError(VqmonError):
    """A record is larger than its topic takes; nothing of its transaction was written.

    `written_for` is the input record that it was written for, as topic/partition/offset; empty when it is none.
    """

    def __init__(self, *, topic: str, partition: int | None, size_bytes: int, written_for: str = "") -> None:
        source = f" for {written_for}" if written_for else ""
        where = "" if partition is None else f" (partition {partition})"
        super().__init__(
            f"a record of {size_bytes} bytes{source} is larger than topic {topic}{where} takes: "
            f"raise max.message.bytes of {topic}"
        )
        self.topic = topic
        self.size_bytes = size_bytes
        self.written_for = written_for


class SegmentError(VqmonError):
    """One segment cannot be observed.

    `reason` is a key of `REASONS`; `detail` is for people and never holds credentials or query strings.
    """

    stage: ClassVar[Stage] = "source"

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        super().__init__(f"{reason}: {detail or REASONS[reason]}")
        self.reason = reason
        self.detail = detail or REASONS[reason]


class FetchError(SegmentError):
    """The segment's bytes cannot be had."""

    stage = "fetch"


class UnknownHostError(FetchError):
    """The name of the segment's host has no IP address; `reason` is unreachable, as the name server may be away."""


class DecodeError(SegmentError):
    """The segment's bytes cannot be turned into pictures."""

    stage = "decode"


class ScoreError(SegmentError):
    """The segment's pictures cannot be scored."""

    stage = "score"
