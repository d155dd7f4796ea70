"""A ladder as data: the encodes of one clip, its altered forms, and the values that scorers and measures gave them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

AlterationKind = Literal["source", "soft", "sharpened", "noise"]
"""Nearly lossless forms of the clip: as it is, downscaled and upscaled, that one sharpened, and with noise added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A scorer or a reference measure; scorers give 0..100, higher is better."""

    name: str
    is_scorer: bool
    higher_is_better: bool = True
    # "points" of scorers, "dB" or "" of measures
    unit: str = "points"

    def quality(self, value: float) -> float:
        """The value with the sign that makes higher better."""
        return value if self.higher_is_better else -value


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """One rendition of the clip. `setting` names what the encoder was asked for: "CRF 26", "800 kb/s"."""

    codec: str
    lines: int
    setting: str
    # as measured
    rate_kbps: float
    # subject -> value on its own scale
    values: Mapping[str, float]

    @property
    def name(self) -> str:
        """For people: "h264 720p at CRF 26"."""
        return f"{self.codec} {self.lines}p at {self.setting}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlteredForm:
    """One altered form; `amount` is the weight of the unsharp mask or the strength of the noise, else 0."""

    kind: AlterationKind
    amount: float = 0.0
    values: Mapping[str, float]

    @property
    def name(self) -> str:
        """For people: "the soft picture sharpened by 1.5"."""
        return {
            "source": "the clip itself",
            "soft": "the soft picture",
            "sharpened": f"the soft picture sharpened by {self.amount:g}",
            "noise": f"the clip with noise of strength {self.amount:g}",
        }[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """All encodes and altered forms of one clip; each has a value of every subject."""

    subjects: Sequence[Subject]
    encodes: Sequence[Encode]
    forms: Sequence[AlteredForm] = ()

    def __post_init__(self) -> None:
        names = {subject.name for subject in self.subjects}
        items: list[Encode | AlteredForm] = [*self.encodes, *self.forms]
        for item in items:
            if missing := sorted(names - item.values.keys()):
                raise ValueError(f"{item.name} has no value of {', '.join(missing)}")

    @property
    def scorers(self) -> list[Subject]:
        """The subjects that are judged."""
        return [subject for subject in self.subjects if subject.is_scorer]

    @property
    def measures(self) -> list[Subject]:
        """The reference measures, by which scorers are judged."""
        return [subject for subject in self.subjects if not subject.is_scorer]

    @property
    def codecs(self) -> list[str]:
        """In the order of the encodes."""
        return list(dict.fromkeys(encode.codec for encode in self.encodes))

    def curves(self) -> dict[tuple[str, int], list[Encode]]:
        """(codec, lines) -> its encodes by rising rate."""
        curves: dict[tuple[str, int], list[Encode]] = {}
        for encode in sorted(self.encodes, key=lambda each: each.rate_kbps):
            curves.setdefault((encode.codec, encode.lines), []).append(encode)
        order = list(dict.fromkeys((encode.codec, encode.lines) for encode in self.encodes))
        return {key: curves[key] for key in order}
