"""A small memory of bytes, bounded in count and age."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256


class Recent:
    """Remembers the newest `max_count` bodies for `max_age_seconds`; places are kept as digests, never in clear."""

    def __init__(self, *, max_count: int, max_age_seconds: float, clock: Callable[[], float]) -> None:
        self._max_count = max_count
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._bodies: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def get(self, place: str) -> bytes | None:
        """What was put there, unless it is too old."""
        put_at, body = self._bodies.get(_digest(place), (float("-inf"), b""))
        return body if self._clock() - put_at < self._max_age_seconds else None

    def put(self, place: str, body: bytes) -> None:
        """Remember a body; the oldest one makes room."""
        self._bodies.pop(_digest(place), None)
        self._bodies[_digest(place)] = (self._clock(), body)
        while len(self._bodies) > self._max_count:
            self._bodies.popitem(last=False)


def _digest(place: str) -> bytes:
    return sha256(place.encode("utf-8", "surrogatepass")).digest()
