"""Everything that is found out about a ladder: curves, hulls, BD-rates, and the verdict on each scorer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from vqmon.core.evaluation.ladder.curves import BdRate, CurveResult, bd_rates, curve_results, hull_encodes
from vqmon.core.evaluation.ladder.encodes import Encode, Ladder
from vqmon.core.evaluation.ladder.trust import ScorerVerdict, judge_scorers


@dataclass(frozen=True, slots=True, kw_only=True)
class Hull:
    """The encodes of one codec that are on the convex hull of all its sizes by one subject, by rising rate."""

    subject: str
    codec: str
    encodes: tuple[Encode, ...]

    @property
    def ranges(self) -> str:
        """Which size is the best one up to which rate: "480p up to 620 kb/s, 1080p above"."""
        sizes = [list(group) for _, group in groupby(self.encodes, key=lambda encode: encode.lines)]
        steps = [f"{group[0].lines}p up to {group[-1].rate_kbps:,.0f} kb/s" for group in sizes[:-1]]
        return ", ".join([*steps, f"{sizes[-1][0].lines}p above" if steps else f"{sizes[-1][0].lines}p throughout"])


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderAnalysis:
    """A ladder and what it says; differences of up to `tolerance_points` of a scorer are taken for equal."""

    ladder: Ladder
    tolerance_points: float
    verdicts: Sequence[ScorerVerdict]
    curves: Sequence[CurveResult]
    hulls: Sequence[Hull]
    bd_rates: Sequence[BdRate]


def analyse_ladder(ladder: Ladder, *, tolerance_points: float) -> LadderAnalysis:
    """Analyse a ladder with one encode or more."""
    return LadderAnalysis(
        ladder=ladder,
        tolerance_points=tolerance_points,
        verdicts=judge_scorers(ladder, tolerance_points=tolerance_points),
        curves=curve_results(ladder),
        hulls=[
            Hull(subject=subject.name, codec=codec, encodes=tuple(hull_encodes(ladder, subject, codec)))
            for subject in ladder.subjects
            for codec in ladder.codecs
        ],
        bd_rates=bd_rates(ladder),
    )
