"""What a ladder is made of: the encodes and the altered forms of an excerpt, from the options of the command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vqmon.core.evaluation.ladder.encodes import AlterationKind
from vqmon.errors import SettingsError
from vqmon.media.encode.codecs import CODECS, EncodeSettings

_MAX_LINES = 1080
"""The largest size by default; larger ones take minutes to encode."""

_MIN_LINES = 64
_SIZE_STEPS = (1.0, 2 / 3, 4 / 9)
_SHARPEN = (0.7, 1.5, 3.0)
_NOISE = (6, 14, 30)
_NEARLY_LOSSLESS = 18
_MAX_FORM_SECONDS = 2.0
"""Noise at hardly any loss takes hundreds of megabits per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderOptions:
    """What a person chose; empty sequences stand for the defaults."""

    codecs: Sequence[str] = ("h264", "av1")
    rate_count: int = 4
    # codec -> its constant qualities
    qualities: Mapping[str, Sequence[int]] = field(default_factory=dict)
    # target rates instead of qualities
    rates_kbps: Sequence[int] = ()
    # lines
    sizes: Sequence[int] = ()
    seconds: float = 4.0
    # None = the middle of the clip
    start_seconds: float | None = None
    # whether sharpened and noisy pictures are made too
    has_altered_forms: bool = True

    def __post_init__(self) -> None:
        for codec in (*self.codecs, *self.qualities):
            if codec not in CODECS:
                raise SettingsError(f"there is no codec {codec!r} for a ladder; one of {', '.join(CODECS)}")
        for codec, qualities in self.qualities.items():
            lowest, highest = CODECS[codec].lowest, CODECS[codec].highest
            if not qualities or not all(lowest <= quality <= highest for quality in qualities):
                raise SettingsError(f"--quality: those of {codec} are from {lowest} to {highest}")
            if codec not in self.codecs:
                raise SettingsError(f"--quality: {codec} is not among the codecs; add --codec {codec}")
        if self.qualities and self.rates_kbps:
            raise SettingsError("--quality and --kbps exclude each other: name qualities or target rates")
        if not all(10 <= rate <= 1_000_000 for rate in self.rates_kbps):
            raise SettingsError("--kbps: target rates are from 10 to 1000000 kb/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedForm:
    """An altered form, and how it is made."""

    kind: AlterationKind
    amount: float
    settings: EncodeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderPlan:
    """All that is to be encoded and measured."""

    encodes: Sequence[EncodeSettings]
    forms: Sequence[PlannedForm]

    @property
    def all_settings(self) -> list[EncodeSettings]:
        """The settings of encodes and forms."""
        return [*self.encodes, *(form.settings for form in self.forms)]


def plan_ladder(options: LadderOptions, *, clip_lines: int) -> LadderPlan:
    """The encodes and forms of a clip with so many lines; raises SettingsError for a size that it cannot give."""
    sizes = list(dict.fromkeys(options.sizes)) or default_sizes(clip_lines)
    for lines in sizes:
        if not _MIN_LINES <= lines <= clip_lines or lines % 2:
            raise SettingsError(
                f"--sizes: {lines} lines cannot be made of a clip of {clip_lines} lines; "
                f"name even numbers from {_MIN_LINES} to {clip_lines}"
            )
    encodes = [
        settings
        for codec in dict.fromkeys(options.codecs)
        for lines in sizes
        for settings in _rates(codec, lines, options)
    ]
    forms = _altered_forms(max(sizes), min(options.seconds, _MAX_FORM_SECONDS)) if options.has_altered_forms else []
    return LadderPlan(encodes=encodes, forms=forms)


def default_sizes(clip_lines: int) -> list[int]:
    """The lines of the clip, at most 1080, and two thirds and four ninths of them: 1080, 720, 480.

    >>> default_sizes(1080), default_sizes(288)
    ([1080, 720, 480], [288, 192, 128])
    """
    top = min(clip_lines - clip_lines % 2, _MAX_LINES)
    sizes = dict.fromkeys(round(top * step / 2) * 2 for step in _SIZE_STEPS)
    return [lines for lines in sizes if lines >= _MIN_LINES] or [top]


def _rates(codec: str, lines: int, options: LadderOptions) -> list[EncodeSettings]:
    if options.rates_kbps:
        return [
            EncodeSettings(codec=codec, lines=lines, seconds=options.seconds, rate_kbps=rate)
            for rate in sorted(set(options.rates_kbps), reverse=True)
        ]
    qualities = options.qualities.get(codec) or CODECS[codec].qualities(options.rate_count)
    return [
        EncodeSettings(codec=codec, lines=lines, seconds=options.seconds, quality=quality)
        for quality in sorted(set(qualities))
    ]


def _altered_forms(lines: int, seconds: float) -> list[PlannedForm]:
    """The clip nearly without loss; a soft upscale of half its lines and this one sharpened; noise."""
    clean = EncodeSettings(codec="h264", lines=lines, seconds=seconds, quality=_NEARLY_LOSSLESS)
    soft = replace(clean, soft_lines=max(16, round(lines / 4) * 2))
    return [
        PlannedForm(kind="source", amount=0.0, settings=clean),
        PlannedForm(kind="soft", amount=0.0, settings=soft),
        *(PlannedForm(kind="sharpened", amount=weight, settings=replace(soft, sharpen=weight)) for weight in _SHARPEN),
        *(PlannedForm(kind="noise", amount=float(level), settings=replace(clean, noise=level)) for level in _NOISE),
    ]
