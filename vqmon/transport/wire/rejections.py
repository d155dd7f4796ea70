"""When too large a share of a partition's records is rejected, so that the reader must stop rejecting them."""

from dataclasses import dataclass, replace

from vqmon.core.types import Alert

_DECAY = 0.98
"""Weight that each further record leaves to those before it: about the latest hundred records decide."""

NEGLIGIBLE_SHARE = 0.01
"""A smaller share counts as 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionRate:
    """The exponentially weighted share of rejected records of a partition, 0..1, and the alert raised about it."""

    share: float = 0.0
    alert: Alert | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share is 0..1, got {self.share}")

    def after_accepted(self) -> "RejectionRate":
        """The rate after one more record that could be parsed."""
        share = self.share * _DECAY
        return self if self.share == 0 else replace(self, share=0.0 if share < NEGLIGIBLE_SHARE else share)

    def after_rejected(self) -> "RejectionRate":
        """The rate after one more record that was rejected."""
        return replace(self, share=self.share * _DECAY + 1 - _DECAY)

    def exceeds(self, limit: float) -> bool:
        """Whether nearly all records are rejected: no further one may be sent to the rejected topic."""
        return self.share > limit
