"""Which records of a partition are finished: up to one offset all of them, beyond it those that passed a late one."""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from vqmon.errors import WireError
from vqmon.transport.kafka.records import CommittedOffset

OVERTAKEN_KEY = "overtaken"
"""The key of `encode_overtaken` in the state topic; the keys of rules contain a `|`."""


NEXT_OFFSET_KEY = "next-offset"
"""The key of the committed offset in the state topic, as text: the group's own copy expires, and can be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a partition is finished; valid together with the states of the rules that were written with it."""

    # of the first record that is not finished: the offset to commit; None before the first commit
    next_offset: int | None
    # all records before this offset are finished, except those in `overtaken`; not below `next_offset`
    end_offset: int = 0
    # the unfinished records before `end_offset`, ascending; the first is `next_offset`
    overtaken: tuple[int, ...] = ()

    @property
    def metadata(self) -> str:
        """What is committed with the offset, and differs between two positions of the same offset; usually ""."""
        return sha256(encode_overtaken(self) or b"").hexdigest()[:16] if self.overtaken else ""


def encode_overtaken(position: Position) -> bytes | None:
    """Encode what lies beyond the committed offset for the state topic; None when nothing does."""
    if not position.overtaken:
        return None
    return json.dumps({"end": position.end_offset, "offsets": position.overtaken}, separators=(",", ":")).encode()


def parse_overtaken(stored: bytes | None, *, next_offset: int | None) -> Position:
    """The position at this committed offset, given the state of `OVERTAKEN_KEY`; raises WireError.

    Records that were overtaken before the committed offset count as finished or deleted.
    """
    if stored is None:
        return Position(next_offset=next_offset)
    try:
        document = json.loads(stored)
        end_offset, offsets = int(document["end"]), [int(offset) for offset in document["offsets"]]
    except (ValueError, KeyError, TypeError) as error:
        raise WireError(f"not a list of offsets: {error!r}") from error
    overtaken = tuple(offset for offset in sorted(offsets) if offset >= (next_offset or 0))
    if end_offset <= (next_offset or 0):
        return Position(next_offset=next_offset)
    return Position(next_offset=next_offset, end_offset=end_offset, overtaken=overtaken)


def restored_position(state: dict[str, bytes], committed: CommittedOffset | None) -> Position:
    """Take the position out of a state topic's values, given what the group has committed; raises WireError.

    The larger of the two offsets counts: both are written in one transaction, so the group's is smaller only when it
    has expired, or was deleted or set back by somebody. Reading such records again would repeat their outcomes.
    """
    overtaken, stored = state.pop(OVERTAKEN_KEY, None), state.pop(NEXT_OFFSET_KEY, None)
    committed_offset = committed.offset if committed else None
    try:
        stored_offset = None if stored is None else int(stored)
    except ValueError as error:
        raise WireError(f"not an offset: {error}") from error
    if stored_offset is not None and (committed_offset is None or committed_offset <= stored_offset):
        return parse_overtaken(overtaken, next_offset=stored_offset)
    position = parse_overtaken(overtaken, next_offset=committed_offset)
    if committed and committed.metadata != position.metadata:
        # Somebody has set the group's offset forward: what lies beyond it is wanted.
        return Position(next_offset=committed.offset)
    return position


class OffsetTracker:
    """Follows the records of a partition from their delivery until they are finished, in any order.

    An offset between two delivered ones holds no record: a marker, or a record that was compacted away.
    """

    def __init__(self, position: Position) -> None:
        # one after the last finished record
        self._end_offset = max(position.end_offset, position.next_offset or 0)
        self._resumed_end_offset = position.end_offset
        # overtaken records of an earlier run that were not delivered again yet
        self._expected = deque(position.overtaken)
        # delivered and not finished, in order
        self._unfinished: dict[int, None] = {}

    def deliver(self, offset: int) -> bool:
        """Note the next record; False when it was finished in an earlier run, and must be skipped."""
        self.skip_to(offset)
        is_expected = bool(self._expected) and self._expected[0] == offset
        if is_expected:
            self._expected.popleft()
        elif offset < self._resumed_end_offset:
            return False
        self._unfinished[offset] = None
        return True

    def skip_to(self, offset: int) -> None:
        """Note that no undelivered record before this offset is left; those that were expected have been deleted."""
        while self._expected and self._expected[0] < offset:
            self._expected.popleft()

    def position_after(self, finished: Sequence[int], *, up_to: int | None = None) -> Position:
        """The position once these delivered records are finished too; the tracker is not changed.

        `up_to` is an offset before which there is no record beyond the delivered ones.
        """
        end_offset = max(self._end_offset, *(offset + 1 for offset in finished), up_to or 0)
        done = set(finished)
        unfinished = [offset for offset in self._unfinished if offset not in done]
        overtaken = tuple(sorted((*self._expected, *unfinished)))
        overtaken = tuple(offset for offset in overtaken if offset < end_offset)
        if not overtaken:
            return Position(next_offset=end_offset)
        return Position(next_offset=overtaken[0], end_offset=end_offset, overtaken=overtaken)

    def finish(self, finished: Sequence[int], position: Position) -> None:
        """Note that these records were written together with this position."""
        for offset in finished:
            del self._unfinished[offset]
        self._end_offset = max(position.end_offset, position.next_offset or 0)
