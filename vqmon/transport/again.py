"""Does again what may be done twice, until a server that is away takes it."""

import logging
import time
from collections.abc import Callable

from vqmon.errors import StoreUnreachableError
from vqmon.telemetry.logs import event

log = logging.getLogger("vqmon.history")

FIRST_SECONDS = 0.2
LAST_SECONDS = 5.0


def repeated(write: Callable[[], None], *, for_seconds: float, pause: Callable[[float], None] = time.sleep) -> None:
    """Run what may be run twice until the server takes it; the last StoreUnreachableError after `for_seconds`."""
    waited, seconds = 0.0, FIRST_SECONDS
    while True:
        try:
            write()
        except StoreUnreachableError as error:
            if waited >= for_seconds:
                raise
            if not waited:
                log.warning(**event("history.unreachable", error=error, patience_seconds=for_seconds))
        else:
            if waited:
                log.warning(**event("history.reachable", seconds=waited))
            return
        pause(seconds)
        waited += seconds
        seconds = min(seconds * 2, LAST_SECONDS)
