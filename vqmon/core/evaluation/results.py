"""What an evaluation finds out about scorers: statistics with intervals, by group, tests, outliers, reliability."""

from collections.abc import Mapping
from dataclasses import dataclass

from vqmon.core.evaluation.logistic import Logistic

STATISTICS: Mapping[str, str] = {
    "srcc": "Spearman's rank correlation",
    "plcc": "Pearson's linear correlation after the logistic mapping",
    "krcc": "Kendall's rank correlation, tau-b",
    "rmse": "root mean squared error after the logistic mapping, in units of the human scores",
    "pairwise_accuracy": "share of the pairs with different human scores that the scorer orders right",
}
"""Name -> meaning; all but `rmse` are better when higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A statistic and its 95 % bootstrap interval; None where the items do not determine it."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """The statistics of the items of one group; PLCC and RMSE after a logistic of its own."""

    group: str
    items: int
    # name of STATISTICS -> estimate
    statistics: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinGroups:
    """The mean of the groups' statistics, each group with the same weight."""

    # how many groups have enough items to count
    groups: int
    statistics: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Items with similar predictions: means, and the 95 % t interval of the mean human score."""

    items: int
    prediction: float
    # mean of the predictions after the logistic mapping
    mapped: float
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """An item on which scorer and people disagree."""

    item: str
    score: float
    prediction: float
    mapped: float
    # score - mapped: positive when people like it better than the scorer does
    residual: float
    # the residual in robust standard deviations (1.4826 x the median absolute residual)
    deviations: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerResult:
    """How well one scorer agrees with the human scores."""

    scorer: str
    logistic: Logistic
    statistics: Mapping[str, Estimate]
    by_group: tuple[GroupResult, ...]
    # None without groups
    within_groups: WithinGroups | None
    reliability: tuple[ReliabilityBin, ...]
    # the largest residuals first
    outliers: tuple[Outlier, ...]
    # share of the items whose residual is more than three robust standard deviations
    outlier_share: float
    # share of the items whose residual exceeds twice the standard error of their human score (VQEG's outlier ratio);
    # None where the standard errors are unknown
    outlier_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticTest:
    """The difference of one statistic between two scorers on the same items."""

    statistic: str
    # first - second
    difference: Estimate
    # two-sided, by the bootstrap of the difference
    p_bootstrap: float | None
    # p_bootstrap after Holm's correction for all pairs of scorers
    p_holm: float | None
    # two-sided, by Williams' t test of dependent correlations; only of srcc and plcc
    p_williams: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTests:
    """Whether two scorers differ."""

    first: str
    second: str
    tests: tuple[StatisticTest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The evaluation of scorers on the items that all of them scored."""

    items: int
    groups: int
    # contents that were resampled as a whole; 0 when items were resampled
    resampled_contents: int
    draws: int
    scorers: tuple[ScorerResult, ...]
    comparisons: tuple[PairedTests, ...]

    def srcc_losses(self) -> dict[str, float | None]:
        """By how much the SRCC of each other scorer is lower than that of the first; below 0 where it is higher.

        None where one of the two is not determined: predictions that are all equal have no rank correlation.
        """
        first, *others = ((result.scorer, result.statistics["srcc"].value) for result in self.scorers)
        return {scorer: None if first[1] is None or value is None else first[1] - value for scorer, value in others}
