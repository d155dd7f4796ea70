"""The interface of a receiver of alerts, as the dispatcher uses it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from vqmon.core.alerts.reactions.notifications import QueuedAlert, ReceiverKind
from vqmon.errors import DeliveryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What a receiver is notified of: this alert is open, or is resolved."""

    queued: QueuedAlert
    state: Literal["open", "resolved"]

    @property
    def alert_id(self) -> str:
        return self.queued.alert.id


class Receiver(Protocol):
    """One receiver. Its name must survive restarts: the outbox remembers by it what the receiver was notified of."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> ReceiverKind: ...
    @property
    def max_backoff_seconds(self) -> float: ...
    async def notify(
        self, notifications: Sequence[Notification], *, now: datetime
    ) -> Mapping[str, DeliveryError | None]:
        """Deliver notifications, at most one per alert, oldest first; returns alert id -> the refusal, None if taken.

        Notifications without an answer are delivered again later. Raises DeliveryError when the receiver takes nothing
        for now; what it took before may be delivered again.
        """
        ...
