"""Writes a batch exactly once, whatever becomes of the producer that carries it."""

import asyncio
from collections.abc import Awaitable, Callable

from vqmon.errors import BrokerError, FencedError
from vqmon.transport.kafka.records import Batch, Transactions

FIRST_BACKOFF_SECONDS = 0.2
LAST_BACKOFF_SECONDS = 5.0


async def write_once(
    writer: Transactions,
    batch: Batch,
    *,
    before: int | None,
    committed: Callable[[], Awaitable[int | None]],
    broken: Callable[[BrokerError], None] = lambda error: None,
) -> None:
    """Write the batch, and after any error find out from the committed offset whether it is already there.

    `before` is the committed offset that the batch follows. Goes on until the batch is visible; raises FencedError when
    somebody else has moved the offset or taken over the id. `broken` is told of each error.
    """
    try:
        await writer.write(batch)
        return
    except FencedError:
        await writer.kill()
        raise
    except BrokerError as error:
        broken(error)
        await writer.kill()
    seconds = FIRST_BACKOFF_SECONDS
    while True:
        try:
            # Opening fences our own last transaction first: only then does the committed offset tell the truth.
            await writer.open()
            offset = await committed()
            if offset == batch.next_offset and offset != before:
                return
            if offset != before:
                raise FencedError(f"the committed offset is {offset}, neither {before} nor {batch.next_offset}")
            await writer.write(batch)
            return
        except FencedError:
            await writer.kill()
            raise
        except BrokerError as error:
            broken(error)
            await writer.kill()
        await asyncio.sleep(seconds)
        seconds = min(seconds * 2, LAST_BACKOFF_SECONDS)
