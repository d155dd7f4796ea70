"""Whole events of a history: the compressed blocks that hold them, and reading them in write order or by time."""

import heapq
import itertools
import zlib
from binascii import unhexlify
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.types import Outcome
from vqmon.errors import StoreError
from vqmon.transport.history.rows import from_microseconds, pack_event_id, to_microseconds
from vqmon.transport.wire import cloudevents

BLOCK_EVENTS = 64
"""Events in a block at most: reading one event unpacks its whole block."""

_COMPRESSION_LEVEL = 1
"""Higher levels of zlib take three times as long and save a tenth of the size."""

_SMALL_WINDOW_BITS = 13

_EDGES_BEGIN = b'"edges":["'
_EDGES_EMPTY = b'"edges":[""]'
_EDGES_BETWEEN = b'","'


def pack_block(documents: Sequence[bytes], dictionary: bytes | None) -> tuple[bytes, bytes]:
    """Compress one-line JSON documents; returns the compressed text and the picture fingerprints cut out of it.

    The fingerprints of an event's first and last picture are half of its JSON: hexadecimal digits, which no compressor
    makes much smaller than four bits each. They are stored as bytes instead.
    """
    lines: list[bytes] = []
    fingerprints: list[bytes] = []
    for document in documents:
        line, pair = _cut_fingerprints(document)
        if not pair and _EDGES_EMPTY in line:
            # vqmon never writes this; on reading it would look like a cut document. So the whole block stays uncut,
            # and an empty first line says so.
            lines, fingerprints = [b"", *documents], []
            break
        lines.append(line)
        fingerprints.append(pair)
    compressor = _compressor(without_fingerprints(dictionary) if dictionary else b"", sum(map(len, lines)))
    return compressor.compress(b"\n".join(lines)) + compressor.flush(), b"".join(fingerprints)


def unpack_block(body: bytes, fingerprints: bytes, dictionary: bytes | None) -> Sequence[bytes]:
    """The documents of a block, byte for byte; raises StoreError when the block is damaged."""
    decompressor = zlib.decompressobj(zdict=without_fingerprints(dictionary)) if dictionary else zlib.decompressobj()
    try:
        lines = (decompressor.decompress(body) + decompressor.flush()).split(b"\n")
    except zlib.error as error:
        raise StoreError(f"a stored block of events is damaged: {error}") from error
    if not decompressor.eof:
        raise StoreError("a stored block of events is damaged: it is cut off")
    if lines and not lines[0]:
        return lines[1:]
    position, documents = 0, []
    for line in lines:
        document, position = _insert_fingerprints(line, fingerprints, position)
        documents.append(document)
    if position != len(fingerprints):
        raise StoreError("a stored block of events is damaged: its fingerprints of pictures do not fit")
    return documents


def without_fingerprints(document: bytes) -> bytes:
    """The document as a compression dictionary: its picture fingerprints never repeat."""
    return _cut_fingerprints(document)[0]


def _compressor(dictionary: bytes, length: int) -> "zlib._Compress":
    # A window that is no larger than necessary takes half the time to set up.
    is_small = len(dictionary) + length < 1 << _SMALL_WINDOW_BITS
    return zlib.compressobj(
        _COMPRESSION_LEVEL, wbits=_SMALL_WINDOW_BITS if is_small else zlib.MAX_WBITS, zdict=dictionary
    )


def _cut_fingerprints(document: bytes) -> tuple[bytes, bytes]:
    """Cut the pair of fingerprints out; returns the rest, and the pair as length and bytes, empty when it has none."""
    begin = document.rfind(_EDGES_BEGIN) + len(_EDGES_BEGIN)
    # `find` is fastest for single bytes.
    middle = document.find(b'"', begin)
    end = document.find(b'"', middle + len(_EDGES_BETWEEN))
    half = middle - begin
    if begin < len(_EDGES_BEGIN) or half != end - middle - len(_EDGES_BETWEEN) or half % 2:
        return document, b""
    if document[middle : middle + len(_EDGES_BETWEEN)] != _EDGES_BETWEEN or document[end : end + 2] != b'"]':
        return document, b""
    first, last = document[begin:middle], document[middle + len(_EDGES_BETWEEN) : end]
    try:
        pair = unhexlify(first) + unhexlify(last)
    except ValueError:
        return document, b""
    if not pair or first != first.lower() or last != last.lower():
        return document, b""
    return document[:begin] + document[end:], len(pair).to_bytes(4, "big") + pair


def _insert_fingerprints(line: bytes, fingerprints: bytes, position: int) -> tuple[bytes, int]:
    """The opposite; returns the document and the position of the next pair."""
    begin = line.rfind(_EDGES_EMPTY)
    if begin < 0:
        return line, position
    end = position + 4 + int.from_bytes(fingerprints[position : position + 4], "big")
    pair = fingerprints[position + 4 : end].hex().encode()
    half, begin = len(pair) // 2, begin + len(_EDGES_BEGIN)
    return line[:begin] + pair[:half] + _EDGES_BETWEEN + pair[half:] + line[begin:], end


CHUNK_BLOCKS = 100
"""Blocks read by one query, 10 MB at most: a long query would hold back checkpoints."""

SORT_CHUNK_OUTCOMES = 4000
"""Outcomes in memory while they are sorted by the start of their segments: some 60 MB."""

_MERGE_BUFFER_ROWS = 200_000
"""Rows of (start, number) in memory while renditions are merged, over all of them."""

MIN_TIME, MAX_TIME = -(1 << 62), 1 << 62
"""Bounds of an open range of time or numbers; microseconds."""


class Documents:
    """Reads whole events by `query`, which runs a SELECT; as safe to use from several threads as that."""

    def __init__(self, query: Callable[..., list[Any]]) -> None:
        self._query = query

    def outcome(self, event_id: str) -> Outcome | None:
        rows = self._query(
            "SELECT o.number, d.number, d.dictionary_id, d.body, d.pictures FROM outcome o, document d"
            " WHERE o.id = ? AND d.number <= o.number ORDER BY d.number DESC LIMIT 1",
            pack_event_id(event_id),
        )
        if not rows:
            return None
        number, first, *block = rows[0]
        return cloudevents.parse_outcome(self._unpack(block)[number - first])

    def outcomes_in_write_order(
        self,
        *,
        stream_id: str = "",
        rendition: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        up_to: int = MAX_TIME,
    ) -> Iterator[Outcome]:
        """Outcomes in the order in which they were written, of segments with `since` <= start < `until`.

        Reads in chunks: memory stays small, and outcomes that are written meanwhile come too. Only those with a number
        in `after` < number <= `up_to`.
        """
        for document in self.documents_in_write_order(
            stream_id=stream_id, rendition=rendition, since=since, until=until, after=after, up_to=up_to
        ):
            yield cloudevents.parse_outcome(document)

    def documents_in_write_order(
        self,
        *,
        stream_id: str = "",
        rendition: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        up_to: int = MAX_TIME,
    ) -> Iterator[bytes]:
        """The same as CloudEvents, one line of JSON each."""
        rendition_ids = (
            {row[0] for row in rendition_rows(self._query, stream_id=stream_id, rendition=rendition)}
            if stream_id or rendition
            else None
        )
        begin, end = _range_of(since, until)
        last = after
        while last < up_to and (blocks := self._blocks_after(last)):
            rows = self._query(
                "SELECT number, rendition_id, starts_at FROM outcome WHERE number > ? AND number <= ? ORDER BY number",
                *(last, min(up_to, blocks[-1][1])),
            )
            numbers = [
                number
                for number, rendition_id, starts_at in rows
                if begin <= starts_at < end and (rendition_ids is None or rendition_id in rendition_ids)
            ]
            yield from self._documents_of(blocks, numbers)
            last = blocks[-1][1]

    def judge_inputs(
        self, *, stream_id: str = "", since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Outcome | StreamEnd]:
        """Outcomes, and the ends of renditions among them, in the order in which they were judged.

        Ends that are written while this runs are left out.
        """
        begin, end_before = _range_of(since, until)
        after = 0
        rows = self._query(
            "SELECT id, stream_id, rendition, at, why, number FROM ended WHERE number IS NOT NULL"
            " AND ? IN (stream_id, '') AND at >= ? AND at <= ? ORDER BY number",
            *(stream_id, begin, end_before),
        )
        for *columns, number in rows:
            yield from self.outcomes_in_write_order(
                stream_id=stream_id, since=since, until=until, after=after, up_to=number
            )
            yield end_from_row(columns)
            after = number
        yield from self.outcomes_in_write_order(stream_id=stream_id, since=since, until=until, after=after)

    def outcomes_by_start_time(
        self,
        *,
        select_rendition: Callable[[str, str], bool] = lambda stream_id, rendition: True,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Outcome]:
        """Outcomes in the order in which their segments start, whenever they were written.

        Only renditions for which `select_rendition(stream_id, rendition)`. Memory stays small, however long the range.
        """
        begin, end = _range_of(since, until)
        ids = [row[0] for row in rendition_rows(self._query) if select_rendition(row[1], row[2])]
        buffer_rows = max(50, _MERGE_BUFFER_ROWS // max(1, len(ids)))
        merged = heapq.merge(*(self._starts_and_numbers(id, begin, end, buffer_rows) for id in ids))
        while numbers := [number for _, number in itertools.islice(merged, SORT_CHUNK_OUTCOMES)]:
            outcomes = self._outcomes_by_number(sorted(numbers))
            yield from (outcomes.pop(number) for number in numbers if number in outcomes)

    def start_times_after(self, number: int, *, limit: int) -> Sequence[tuple[int, int]]:
        """(number, start in microseconds since the epoch) of the oldest `limit` outcomes written after a number."""
        select = "SELECT number, starts_at FROM outcome WHERE number > ? ORDER BY number LIMIT ?"
        return [(row[0], row[1]) for row in self._query(select, number, limit)]

    def _starts_and_numbers(
        self, rendition_id: int, begin: int, end: int, buffer_rows: int
    ) -> Iterator[tuple[int, int]]:
        """(start, number) of a rendition's outcomes, sorted."""
        last = (begin, -1)
        while rows := self._query(
            "SELECT starts_at, number FROM outcome WHERE rendition_id = ? AND (starts_at, number) > (?, ?)"
            " AND starts_at < ? ORDER BY starts_at, number LIMIT ?",
            *(rendition_id, *last, end, buffer_rows),
        ):
            yield from ((row[0], row[1]) for row in rows)
            last = (rows[-1][0], rows[-1][1])

    def _outcomes_by_number(self, numbers: Sequence[int]) -> dict[int, Outcome]:
        """The outcomes with these ascending numbers; those that retention deletes meanwhile are missing."""
        outcomes: dict[int, Outcome] = {}
        first, last, documents = 0, -1, list[bytes]()
        for number in numbers:
            if number > last:
                rows = self._query(
                    "SELECT number, last, dictionary_id, body, pictures FROM document WHERE number <= ?"
                    " ORDER BY number DESC LIMIT 1",
                    number,
                )
                if not rows or rows[0][1] < number:
                    continue
                (first, last, *block) = rows[0]
                documents = list(self._unpack(block))
            outcomes[number] = cloudevents.parse_outcome(documents[number - first])
        return outcomes

    def _blocks_after(self, number: int) -> list[Any]:
        """The next blocks that hold anything after a number: (first, last, dictionary_id, body, pictures)."""
        # The number may lie within a block.
        begin = self._query("SELECT max(number) FROM document WHERE number <= ?", number + 1)[0][0]
        return self._query(
            "SELECT number, last, dictionary_id, body, pictures FROM document"
            " WHERE number >= ? AND last > ? ORDER BY number LIMIT ?",
            *(begin or 0, number, CHUNK_BLOCKS),
        )

    def _documents_of(self, blocks: Sequence[Sequence[Any]], numbers: Sequence[int]) -> Iterator[bytes]:
        """The documents with these ascending numbers; blocks without one are not unpacked."""
        remaining = iter(numbers)
        number = next(remaining, None)
        for first, last, *block in blocks:
            documents: Sequence[bytes] = ()
            while number is not None and number <= last:
                documents = documents or self._unpack(block)
                yield documents[number - first]
                number = next(remaining, None)

    def _unpack(self, block: Sequence[Any]) -> Sequence[bytes]:
        dictionary_id, body, fingerprints = block
        dictionary = None
        if dictionary_id is not None:
            rows = self._query("SELECT body FROM dictionary WHERE dictionary_id = ?", dictionary_id)
            dictionary = bytes(rows[0][0])
        return unpack_block(bytes(body), bytes(fingerprints), dictionary)


def rendition_rows(query: Callable[..., list[Any]], *, stream_id: str = "", rendition: str = "") -> list[Any]:
    """(rendition_id, stream_id, name) by name; "" selects all streams or all names."""
    return query(
        "SELECT rendition_id, stream_id, name FROM rendition WHERE ? IN (stream_id, '') AND ? IN (name, '')"
        " ORDER BY name",
        *(stream_id, rendition),
    )


def end_from_row(row: Sequence[Any]) -> StreamEnd:
    """Turn a row (id, stream_id, rendition, at, why) of table `ended` into an end."""
    return StreamEnd(id=row[0], stream_id=row[1], rendition=row[2], at=from_microseconds(row[3]), why=row[4])


def _range_of(since: datetime | None, until: datetime | None) -> tuple[int, int]:
    return (
        MIN_TIME if since is None else to_microseconds(since),
        MAX_TIME if until is None else to_microseconds(until),
    )
