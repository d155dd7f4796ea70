"""Which series stand together in a group."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vqmon.core.drops import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The series of one group of one scorer."""

    rule: str
    # e.g. encoder=pool-a; empty = all
    group: str
    # name without version
    scorer: str
    # keys of their states, sorted
    series: tuple[str, ...] = ()
    # stream/rendition of each
    places: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"&{self.rule}|{self.name}"

    @property
    def name(self) -> str:
        """The group as a series."""
        return f"{self.group or 'all'}/group/{self.scorer}"

    def only(self, pairs: list[tuple[str, str]]) -> "Members":
        """The same group with these series, given as state key and place."""
        pairs = sorted(pairs)
        return replace(self, series=tuple(key for key, _ in pairs), places=tuple(place for _, place in pairs))


def group_of(condition: Group, labels: Mapping[str, str]) -> str | None:
    """The group that labels put a series into; None when one of them is missing."""
    if any(name not in labels for name in condition.by):
        return None
    return ",".join(f"{name}={labels[name]}" for name in condition.by)
