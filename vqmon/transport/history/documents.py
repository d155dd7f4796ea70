"""The events themselves, out of the blocks that they are stored in."""

import heapq
import itertools
import zlib
from binascii import unhexlify
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from vqmon.core.types import Outcome
from vqmon.errors import StoreError
from vqmon.transport.history.rows import Layout, microseconds, packed_id
from vqmon.transport.wire import cloudevents

BLOCK_EVENTS = 64
"""Events in a block at most: one that is asked for costs the unpacking of all of its block."""

LEVEL = 1
"""Higher levels of zlib take three times the time for a tenth less room."""

_SMALL_WINDOW = 13
"""As a power of two, in bytes."""

_EDGES = b'"edges":["'
_CUT = b'"edges":[""]'
_BETWEEN = b'","'


def pack(documents: Sequence[bytes], dictionary: bytes | None) -> tuple[bytes, bytes]:
    """A block of one-line JSON documents: what is compressed, and the pictures beside it, half as long as in JSON.

    Fingerprints of pictures are hexadecimal digits that no compressor makes much smaller than four bits each, and
    they are half of an event: they are stored as bytes.
    """
    lines: list[bytes] = []
    pictures: list[bytes] = []
    for document in documents:
        line, picture = _cut(document)
        if not picture and _CUT in line:
            # Never by vqmon; what could not be told apart later stays whole, and an empty line says so.
            lines, pictures = [b"", *documents], []
            break
        lines.append(line)
        pictures.append(picture)
    packer = _packer(cut(dictionary) if dictionary else b"", sum(map(len, lines)))
    return packer.compress(b"\n".join(lines)) + packer.flush(), b"".join(pictures)


def unpack(body: bytes, pictures: bytes, dictionary: bytes | None) -> Sequence[bytes]:
    """The documents of a block, as they were."""
    unpacker = zlib.decompressobj(zdict=cut(dictionary)) if dictionary else zlib.decompressobj()
    try:
        lines = (unpacker.decompress(body) + unpacker.flush()).split(b"\n")
    except zlib.error as error:
        raise StoreError(f"a stored block of events is damaged: {error}") from error
    if lines and not lines[0]:
        return lines[1:]
    place, documents = 0, []
    for line in lines:
        document, place = _whole(line, pictures, place)
        documents.append(document)
    return documents


def cut(document: bytes) -> bytes:
    """A document without its pictures: what a dictionary is good for."""
    return _cut(document)[0]


def _packer(dictionary: bytes, length: int) -> "zlib._Compress":
    # A window that is no larger than it has to be is made in half the time.
    window = _SMALL_WINDOW if len(dictionary) + length < 1 << _SMALL_WINDOW else zlib.MAX_WBITS
    return zlib.compressobj(LEVEL, wbits=window, zdict=dictionary)


def _cut(document: bytes) -> tuple[bytes, bytes]:
    """The document with its pair of pictures taken out, and the pair as a length and bytes; empty when it has none."""
    begin = document.rfind(_EDGES) + len(_EDGES)
    # By single letters: that is what `find` is fast at.
    middle = document.find(b'"', begin)
    end = document.find(b'"', middle + len(_BETWEEN))
    half = middle - begin
    if begin < len(_EDGES) or half != end - middle - len(_BETWEEN) or half % 2:
        return document, b""
    if document[middle : middle + len(_BETWEEN)] != _BETWEEN or document[end : end + 2] != b'"]':
        return document, b""
    first, second = document[begin:middle], document[middle + len(_BETWEEN) : end]
    try:
        pair = unhexlify(first) + unhexlify(second)
    except ValueError:
        return document, b""
    if not pair or first != first.lower() or second != second.lower():
        return document, b""
    return document[:begin] + document[end:], len(pair).to_bytes(4, "big") + pair


def _whole(line: bytes, pictures: bytes, place: int) -> tuple[bytes, int]:
    at = line.rfind(_CUT)
    if at < 0:
        return line, place
    length = int.from_bytes(pictures[place : place + 4], "big")
    pair = pictures[place + 4 : place + 4 + length].hex().encode()
    half, at = len(pair) // 2, at + len(_EDGES)
    return line[:at] + pair[:half] + _BETWEEN + pair[half:] + line[at:], place + 4 + length


CHUNK_BLOCKS = 100
"""How many blocks are read at a time, so that no reader holds back a checkpoint for long: 10 MB at most."""

SORTED_AT_A_TIME = 4000
"""How many outcomes are held while they are brought into the order of their segments: some 60 MB."""

PLACES_AT_A_TIME = 200_000
"""How many places of outcomes are held over all renditions."""

FOREVER = (-(1 << 62), 1 << 62)


class Ask(Protocol):
    """Runs one SELECT and gives all its rows."""

    def __call__(self, sql: str, *values: Any) -> list[Any]: ...


class Layouts(dict[int, Layout]):
    """The layouts of a history by number, each asked for once."""

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, layout_id: int) -> Layout:
        names = self._ask("SELECT names FROM layout WHERE layout_id = ?", layout_id)[0][0]
        return self.setdefault(layout_id, Layout.of(names))


class Documents:
    """What reads whole events. `ask` may be called from several threads at once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._layouts = Layouts(ask)

    def outcome(self, event_id: str) -> Outcome | None:
        """One outcome, whole."""
        found = self._ask(
            "SELECT o.number, d.number, d.dictionary_id, d.body, d.pictures FROM outcome o, document d"
            " WHERE o.id = ? AND d.number <= o.number ORDER BY d.number DESC LIMIT 1",
            packed_id(event_id),
        )
        if not found:
            return None
        number, first, *block = found[0]
        return cloudevents.parse_outcome(self._unpacked(block)[number - first])

    def outcomes_in_order(
        self,
        *,
        stream_id: str = "",
        rendition: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        up_to: int = FOREVER[1],
    ) -> Iterator[Outcome]:
        """Outcomes in the order in which they were published, of segments that start within `since` <= start < `until`.

        Reads in chunks: what is published meanwhile comes too, and memory stays small. `after` and
        `up_to` leave out what was written up to, and after, a number.
        """
        for document in self.documents_in_order(
            stream_id=stream_id, rendition=rendition, since=since, until=until, after=after, up_to=up_to
        ):
            yield cloudevents.parse_outcome(document)

    def outcomes_by_time(
        self,
        *,
        wanted: Callable[[str, str], bool] = lambda stream_id, rendition: True,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Outcome]:
        """Outcomes in the order in which their segments start, whenever they were published.

        Of renditions for which `wanted(stream_id, name)`. Memory stays small, whatever the span.
        """
        begins = FOREVER[0] if since is None else microseconds(since)
        ends = FOREVER[1] if until is None else microseconds(until)
        found = self._rendition_ids("", "", columns="rendition_id, stream_id, name")
        chosen = [row[0] for row in found if wanted(row[1], row[2])]
        each = max(50, PLACES_AT_A_TIME // max(1, len(chosen)))
        order = heapq.merge(*(self._places(one, begins, ends, each) for one in chosen))
        while batch := [number for _, number in itertools.islice(order, SORTED_AT_A_TIME)]:
            parsed = self._parsed(sorted(batch))
            yield from (parsed.pop(number) for number in batch if number in parsed)

    def _places(self, rendition_id: int, begins: int, ends: int, each: int) -> Iterator[tuple[int, int]]:
        """(start, number) of a rendition's outcomes in order of both."""
        last = (begins, -1)
        while rows := self._ask(
            "SELECT starts_at, number FROM outcome WHERE rendition_id = ? AND (starts_at, number) > (?, ?)"
            " AND starts_at < ? ORDER BY starts_at, number LIMIT ?",
            *(rendition_id, *last, ends, each),
        ):
            yield from ((row[0], row[1]) for row in rows)
            last = (rows[-1][0], rows[-1][1])

    def _parsed(self, numbers: Sequence[int]) -> dict[int, Outcome]:
        """The outcomes with these rising numbers; what retention takes meanwhile is left out."""
        parsed: dict[int, Outcome] = {}
        first, last, lines = 0, -1, list[bytes]()
        for number in numbers:
            if number > last:
                rows = self._ask(
                    "SELECT number, last, dictionary_id, body, pictures FROM document WHERE number <= ?"
                    " ORDER BY number DESC LIMIT 1",
                    number,
                )
                if not rows or rows[0][1] < number:
                    continue
                (first, last, *block) = rows[0]
                lines = list(self._unpacked(block))
            parsed[number] = cloudevents.parse_outcome(lines[number - first])
        return parsed

    def documents_in_order(
        self,
        *,
        stream_id: str = "",
        rendition: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
        up_to: int = FOREVER[1],
    ) -> Iterator[bytes]:
        """The same as CloudEvents."""
        wanted = {row[0] for row in self._rendition_ids(stream_id, rendition)} if stream_id or rendition else None
        begins = FOREVER[0] if since is None else microseconds(since)
        ends = FOREVER[1] if until is None else microseconds(until)
        last = after
        while last < up_to and (chunk := self._chunk(last)):
            rows = self._ask(
                "SELECT number, rendition_id, starts_at FROM outcome WHERE number > ? AND number <= ? ORDER BY number",
                *(last, min(up_to, chunk[-1][1])),
            )
            numbers = [
                number
                for number, rendition_id, starts_at in rows
                if begins <= starts_at < ends and (wanted is None or rendition_id in wanted)
            ]
            yield from self._chosen(chunk, numbers)
            last = chunk[-1][1]

    def starts_after(self, after: int, *, limit: int) -> Sequence[tuple[int, int]]:
        """(number, start in microseconds since the epoch) of the oldest `limit` outcomes written after a number."""
        ask = "SELECT number, starts_at FROM outcome WHERE number > ? ORDER BY number LIMIT ?"
        return [(row[0], row[1]) for row in self._ask(ask, after, limit)]

    def _chunk(self, after: int) -> list[Any]:
        """The next blocks that hold anything after a number: (first, last, dictionary, body, pictures)."""
        # The number may lie within a block.
        begin = self._ask("SELECT max(number) FROM document WHERE number <= ?", after + 1)[0][0]
        return self._ask(
            "SELECT number, last, dictionary_id, body, pictures FROM document"
            " WHERE number >= ? AND last > ? ORDER BY number LIMIT ?",
            *(begin or 0, after, CHUNK_BLOCKS),
        )

    def _chosen(self, chunk: Sequence[Sequence[Any]], numbers: Sequence[int]) -> Iterator[bytes]:
        left = iter(numbers)
        number = next(left, None)
        for first, last, *block in chunk:
            lines: Sequence[bytes] = ()
            while number is not None and number <= last:
                lines = lines or self._unpacked(block)
                yield lines[number - first]
                number = next(left, None)

    def _rendition_ids(self, stream_id: str, rendition: str, *, columns: str = "rendition_id") -> list[Any]:
        return self._ask(
            f"SELECT {columns} FROM rendition WHERE ? IN (stream_id, '') AND ? IN (name, '') ORDER BY name",
            *(stream_id, rendition),
        )

    def _unpacked(self, block: Sequence[Any]) -> Sequence[bytes]:
        dictionary_id, body, pictures = block
        dictionary = None
        if dictionary_id is not None:
            found = self._ask("SELECT body FROM dictionary WHERE dictionary_id = ?", dictionary_id)
            dictionary = bytes(found[0][0])
        return unpack(bytes(body), bytes(pictures), dictionary)
