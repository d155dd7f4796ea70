"""Whether a scorer can be trusted on one clip, in words: judged by what the encoder did and by reference measures.

A pair of encodes counts where its order is settled. Of one codec and size the higher rate is better, unless a reference
measure says the opposite. Other pairs are settled where all reference measures order them alike. A scorer that puts
the worse one of a settled pair above the better one by more than a tolerance must not be used for that purpose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from vqmon.core.evaluation.correlations import spearman
from vqmon.core.evaluation.ladder.curves import BdRate, Inversion, bd_rates
from vqmon.core.evaluation.ladder.encodes import AlteredForm, Encode, Ladder, Subject
from vqmon.plurals import plural

Use = Literal["rates", "sizes", "codecs", "sharpening", "noise"]
Answer = Literal["yes", "no", "unclear"]

_PURPOSES: dict[Use, str] = {
    "rates": "rates",
    "sizes": "sizes",
    "codecs": "codecs",
    "sharpening": "sharpened pictures",
    "noise": "noisy pictures",
}

_MIN_BD_PERCENT = 5.0
"""BD-rates nearer to 0 name no better codec."""

_MIN_SEEN_SHARE = 0.25
"""Of the settled pairs, those that a scorer must tell apart by more than the tolerance, or it hardly reacts."""

_MAX_RATE_RATIO = 1.25
"""Sizes are compared at rates that differ by no more than this."""

_UNSETTLED_CODECS = "the BD-rates of the reference measures differ in sign, are below 5 % or cannot be computed"

_Item = Encode | AlteredForm
_Pair = tuple[_Item, _Item]
"""(worse, better)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Whether a scorer can be used for one purpose on this clip, and why."""

    use: Use
    answer: Answer
    # ends a sentence: "its scores rise with the rate on all 6 curves"
    reason: str
    # settled pairs, and those of them that the scorer orders right
    pairs: int = 0
    right: int = 0
    # the largest one among the settled pairs, also when it is within the tolerance
    inversion: Inversion | None = None

    @property
    def purpose(self) -> str:
        """What the scorer is asked to compare: "sizes"."""
        return _PURPOSES[self.use]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a scorer orders all encodes of the ladder, compared with the reference measures."""

    # measure -> Spearman's rank correlation over all encodes
    rank_correlations: dict[str, float | None]
    # pairs of encodes that all measures order alike, and those of them that the scorer orders so too
    pairs: int
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A sentence of a verdict, with the answer that it gives."""

    answer: Answer
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerVerdict:
    """The findings about one scorer on this clip."""

    scorer: str
    findings: tuple[Finding, ...]
    agreement: Agreement

    @property
    def answer(self) -> Answer:
        """ "no" when it fails for one purpose or more, "unclear" when no purpose could be judged."""
        answers = {finding.answer for finding in self.findings}
        return "no" if "no" in answers else "yes" if "yes" in answers else "unclear"

    @property
    def statements(self) -> list[Statement]:
        """The verdict in words, what the scorer must not be used for first."""
        if not self.findings:
            text = f"Nothing can be said of {self.scorer} on this clip: there are no two encodes to compare."
            return [Statement(answer="unclear", text=text)]
        good = [finding for finding in self.findings if finding.answer == "yes"]
        statements = [
            Statement(
                answer="no",
                text=f"Do not use {self.scorer} to compare {finding.purpose} on this clip: {finding.reason}.",
            )
            for finding in self.findings
            if finding.answer == "no"
        ]
        if good:
            purposes = join_words([finding.purpose for finding in good])
            use = f"{self.scorer} can be trusted on this clip"
            if statements or "rates" not in {finding.use for finding in good}:
                use = f"{'It' if statements else self.scorer} can be used to compare {purposes}"
            statements.append(Statement(answer="yes", text=f"{use}: {'; '.join(each.reason for each in good)}."))
        statements += [
            Statement(
                answer="unclear",
                text=f"Whether {self.scorer} can be used to compare {finding.purpose} is not clear: {finding.reason}.",
            )
            for finding in self.findings
            if finding.answer == "unclear"
        ]
        return statements


def judge_scorers(ladder: Ladder, *, tolerance_points: float) -> list[ScorerVerdict]:
    """The verdict on every scorer; differences of up to `tolerance_points` are taken for equal."""
    rates = bd_rates(ladder)
    return [
        ScorerVerdict(
            scorer=scorer.name,
            findings=tuple(_Judge(ladder, scorer, tolerance_points).findings(rates)),
            agreement=_agreement(ladder, scorer),
        )
        for scorer in ladder.scorers
    ]


def join_words(words: Sequence[str]) -> str:
    """
    >>> join_words(["psnr", "ssim", "gmsd"])
    'psnr, ssim and gmsd'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _agreement(ladder: Ladder, scorer: Subject) -> Agreement:
    quality = {
        subject.name: np.array([subject.quality(encode.values[subject.name]) for encode in ladder.encodes])
        for subject in (scorer, *ladder.measures)
    }
    correlations = {
        measure.name: float(spearman(quality[scorer.name], quality[measure.name])) for measure in ladder.measures
    }
    pairs = list(_settled_pairs(ladder, combinations(ladder.encodes, 2)))
    return Agreement(
        rank_correlations={name: value if np.isfinite(value) else None for name, value in correlations.items()},
        pairs=len(pairs),
        right=sum(_difference(scorer, pair) > 0 for pair in pairs),
    )


def _difference(subject: Subject, pair: _Pair) -> float:
    """Quality of the better item minus that of the worse one."""
    worse, better = pair
    return subject.quality(better.values[subject.name]) - subject.quality(worse.values[subject.name])


def _settled_pairs(ladder: Ladder, pairs: Iterator[_Pair]) -> Iterator[_Pair]:
    """The pairs that all reference measures order alike, the worse item first; none without measures."""
    for pair in pairs:
        differences = [_difference(measure, pair) for measure in ladder.measures]
        if differences and min(differences) > 0:
            yield pair
        elif differences and max(differences) < 0:
            yield pair[1], pair[0]


class _Judge:
    """Judges one scorer for each purpose that the ladder has evidence about."""

    def __init__(self, ladder: Ladder, scorer: Subject, tolerance_points: float) -> None:
        self._ladder, self._scorer, self._tolerance = ladder, scorer, tolerance_points
        self._measures = join_words([measure.name for measure in ladder.measures])

    def findings(self, rates: Sequence[BdRate]) -> Iterator[Finding]:
        curves = self._ladder.curves()
        if any(len(encodes) > 1 for encodes in curves.values()):
            yield self._rates()
        if len({lines for _, lines in curves}) > 1:
            yield self._sizes()
        if len(self._ladder.codecs) > 1:
            yield self._codecs(rates)
        kinds = {form.kind for form in self._ladder.forms}
        if "sharpened" in kinds:
            yield self._sharpening()
        if "noise" in kinds:
            yield self._noise()

    def _rates(self) -> Finding:
        curves = [encodes for encodes in self._ladder.curves().values() if len(encodes) > 1]
        pairs: list[_Pair] = [
            pair
            for encodes in curves
            for pair in combinations(encodes, 2)
            if all(_difference(measure, pair) >= 0 for measure in self._ladder.measures)
        ]
        count = f"all {len(curves)} curves" if len(curves) > 1 else "the only curve"
        finding = self._finding(
            "rates",
            pairs,
            right=f"its scores rise with the rate on {count}",
            unsettled="the reference measures do not rise with the rate",
        )
        flat = self._flat_curve(curves)
        return replace(finding, answer="unclear", reason=flat) if finding.answer == "yes" and flat else finding

    def _flat_curve(self, curves: Sequence[Sequence[Encode]]) -> str:
        """On which curves all scores are equal within the tolerance, so that their order says nothing; "" for none."""
        spans = []
        for encodes in curves:
            values = [self._scorer.quality(encode.values[self._scorer.name]) for encode in encodes]
            spans.append((max(values) - min(values), f"{encodes[0].codec} {encodes[0].lines}p"))
        flat = [span for span in spans if span[0] <= self._tolerance]
        if not flat:
            return ""
        points, name = min(flat)
        count = f"{len(flat)} of {plural(len(curves), 'curve')}" if len(curves) > 1 else "the only curve"
        return (
            f"on {count} its scores span no more than the {self._tolerance:g} points that are taken for equal "
            f"({name}: {points:.1f})"
        )

    def _sizes(self) -> Finding:
        candidates = (
            (first, second)
            for first, second in combinations(self._ladder.encodes, 2)
            if first.codec == second.codec and first.lines != second.lines and _are_comparable(first, second)
        )
        return self._finding(
            "sizes",
            list(_settled_pairs(self._ladder, candidates)),
            right=f"it orders the sizes as {self._measures} do",
            unsettled="no two sizes at one setting or about one rate are ordered alike by all reference measures",
        )

    def _codecs(self, rates: Sequence[BdRate]) -> Finding:
        """By the BD-rates where all measures name the same better codec: of the hulls, and at each size."""
        settled, opposed, agreed = 0, [], []
        for test, lines in dict.fromkeys((rate.test, rate.lines) for rate in rates):
            percents = {rate.subject: rate.percent for rate in rates if (rate.test, rate.lines) == (test, lines)}
            measured = [percents[measure.name] for measure in self._ladder.measures]
            own = percents[self._scorer.name]
            sign = _common_sign(measured)
            if not sign or own is None:
                continue
            settled += 1
            pair = f"rate against {self._ladder.codecs[0]}{f' at {lines}p' if lines else ''}"
            shares = f"{own:+.0f} % by {self._scorer.name}, {_range_text(measured)} by {self._measures}"
            # at one size a curve has few points: only a clear contradiction counts
            if own * sign < (_MIN_BD_PERCENT if lines is None else -_MIN_BD_PERCENT):
                opposed.append(f"{test} needs another {pair}, {shares}")
            else:
                agreed.append(f"{test} {'saves' if sign < 0 else 'needs more'} {pair}, {shares}")
        return Finding(
            use="codecs",
            answer="no" if opposed else "yes" if settled else "unclear",
            # the hulls come first
            reason=(opposed or agreed or [_UNSETTLED_CODECS])[0],
            pairs=settled,
            right=len(agreed),
        )

    def _sharpening(self) -> Finding:
        forms = self._ladder.forms
        sharpened = [form for form in forms if form.kind == "sharpened"]
        candidates = ((form, other) for form in sharpened for other in forms if other.kind in ("soft", "source"))
        return self._finding(
            "sharpening",
            [pair for pair in _settled_pairs(self._ladder, candidates) if pair[0] in sharpened],
            right="sharpening a soft picture does not win",
            unsettled="by the reference measures, sharpening the soft picture does no harm",
            needs_difference=False,
        )

    def _noise(self) -> Finding:
        forms = [form for form in self._ladder.forms if form.kind in ("source", "noise")]
        by_amount = sorted(forms, key=lambda form: form.amount)
        pairs: list[_Pair] = [(more, less) for less, more in combinations(by_amount, 2)]
        return self._finding(
            "noise",
            pairs,
            right="noise does not win",
            unsettled="there are no noisy pictures",
            needs_difference=False,
        )

    def _finding(
        self, use: Use, pairs: Sequence[_Pair], *, right: str, unsettled: str, needs_difference: bool = True
    ) -> Finding:
        """Count the settled pairs, and find the worst one."""
        if not pairs:
            return Finding(use=use, answer="unclear", reason=unsettled)
        differences = [_difference(self._scorer, pair) for pair in pairs]
        lowest = int(np.argmin(differences))
        worse, better = pairs[lowest]
        fall = -differences[lowest]
        seen = sum(difference > self._tolerance for difference in differences)
        problem = ""
        if fall > self._tolerance:
            problem = _inversion_text(worse, better, fall)
        elif needs_difference and seen < _MIN_SEEN_SHARE * len(pairs):
            problem = f"it tells only {seen} of {len(pairs)} pairs apart by more than {self._tolerance:g} points"
        elif fall > 0:
            right += f", to within {self._tolerance:g} points (largest inversion {fall:.1f})"
        return Finding(
            use=use,
            answer="no" if problem else "yes",
            reason=problem or right,
            pairs=len(pairs),
            right=sum(difference > 0 for difference in differences),
            inversion=Inversion(worse=worse.name, better=better.name, amount=fall) if fall > 0 else None,
        )


def _are_comparable(first: Encode, second: Encode) -> bool:
    """Whether two sizes are what a ladder chooses between: of one setting, or of about one rate."""
    rates = sorted((first.rate_kbps, second.rate_kbps))
    return first.setting == second.setting or rates[1] <= _MAX_RATE_RATIO * rates[0]


def _inversion_text(worse: _Item, better: _Item, points: float) -> str:
    """Which item scores above which, in the fewest words: "480p scores 3.0 points above 720p at CRF 20 (h264)"."""
    first, second = worse.name, better.name
    if isinstance(worse, Encode) and isinstance(better, Encode) and worse.codec == better.codec:
        if worse.setting == better.setting:
            first, second = f"{worse.lines}p", f"{better.lines}p at {better.setting} ({better.codec})"
        elif worse.lines == better.lines:
            first, second = worse.setting, f"{better.setting} ({better.codec} {better.lines}p)"
    return f"{first} scores {points:.1f} points above {second}"


def _common_sign(percents: Sequence[float | None]) -> int:
    """-1 or 1 when all measures find that one codec saves rate; 0 when they do not."""
    if not percents or any(percent is None or abs(percent) < _MIN_BD_PERCENT for percent in percents):
        return 0
    signs = {1 if (percent or 0) > 0 else -1 for percent in percents}
    return signs.pop() if len(signs) == 1 else 0


def _range_text(percents: Sequence[float | None]) -> str:
    values = sorted(percent for percent in percents if percent is not None)
    low, high = f"{values[0]:+.0f}", f"{values[-1]:+.0f}"
    return f"{low} %" if low == high else f"{low} to {high} %"
