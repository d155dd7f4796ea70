"""What a receiver of alerts is to the deliverer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from vqmon.core.alerts.notifications import Form, Notice
from vqmon.errors import DeliveryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to say: this alert is open, or is resolved."""

    notice: Notice
    word: Literal["open", "resolved"]


class Target(Protocol):
    """One receiver. `name` stays the same over restarts: what it was told is remembered by it."""

    @property
    def name(self) -> str: ...
    @property
    def form(self) -> Form: ...
    @property
    def max_backoff_seconds(self) -> float: ...
    async def tell(self, steps: Sequence[Step], *, now: datetime) -> Mapping[str, DeliveryError | None]:
        """Say all of it: alert id -> why it was refused, None when it was taken.

        At most one step per alert, oldest first; those without an answer are asked for again. Raises DeliveryError when
        the receiver takes nothing at all for now; what was taken until then may be said again.
        """
        ...
