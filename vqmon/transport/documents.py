"""The events themselves, out of the blocks that they are stored in."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from vqmon.core.types import Outcome
from vqmon.transport import blocks, wire
from vqmon.transport.rows import Layout, microseconds, packed_id

CHUNK_BLOCKS = 100
"""How many blocks are read at a time, so that no reader holds back a checkpoint for long: 10 MB at most."""

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
        return wire.parse_outcome(self._unpacked(block)[number - first])

    def outcomes_in_order(
        self,
        *,
        stream_id: str = "",
        rendition: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
    ) -> Iterator[Outcome]:
        """Outcomes in the order in which they were published, of segments that start within `since` <= start < `until`.

        Reads in chunks: what is published meanwhile comes too, and memory stays small. `after` leaves out what was
        written up to that number.
        """
        for document in self.documents_in_order(
            stream_id=stream_id, rendition=rendition, since=since, until=until, after=after
        ):
            yield wire.parse_outcome(document)

    def documents_in_order(
        self,
        *,
        stream_id: str = "",
        rendition: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        after: int = 0,
    ) -> Iterator[bytes]:
        """The same as CloudEvents."""
        wanted = {row[0] for row in self._rendition_ids(stream_id, rendition)} if stream_id or rendition else None
        begins = FOREVER[0] if since is None else microseconds(since)
        ends = FOREVER[1] if until is None else microseconds(until)
        last = after
        while chunk := self._chunk(last):
            rows = self._ask(
                "SELECT number, rendition_id, starts_at FROM outcome WHERE number > ? AND number <= ? ORDER BY number",
                *(last, chunk[-1][1]),
            )
            numbers = [
                number
                for number, rendition_id, starts_at in rows
                if begins <= starts_at < ends and (wanted is None or rendition_id in wanted)
            ]
            yield from self._chosen(chunk, numbers)
            last = chunk[-1][1]

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
        return blocks.unpack(bytes(body), bytes(pictures), dictionary)
