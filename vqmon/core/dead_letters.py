"""When too many records of a partition are rejected, draining them away must stop."""

from dataclasses import dataclass, replace

from vqmon.core.types import Alert

HALF_LIFE_WEIGHT = 0.98
"""Each record counts for 2 % of the share: about the latest hundred records decide."""

FORGOTTEN = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejections:
    """How a partition fares: the weighted share of rejected records, 0..1, and the alert that was raised about it."""

    share: float = 0.0
    alert: Alert | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share is 0..1, got {self.share}")

    def after_good(self) -> "Rejections":
        """With one more record that could be read."""
        share = self.share * HALF_LIFE_WEIGHT
        return self if self.share == 0 else replace(self, share=0.0 if share < FORGOTTEN else share)

    def after_rejected(self) -> "Rejections":
        """With one more record that was rejected."""
        return replace(self, share=self.share * HALF_LIFE_WEIGHT + 1 - HALF_LIFE_WEIGHT)

    def is_over(self, limit: float) -> bool:
        """Whether nearly everything is rejected: no further record may be drained away."""
        return self.share > limit
