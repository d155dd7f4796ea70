"""Distribution functions and quantiles of the normal, t, binomial and chi-square distributions, to about 1e-12.

Written here because the core may import numpy, but not scipy.
"""

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300
_NORMAL_DEGREES_OF_FREEDOM = 1e5
"""With more degrees of freedom, the t distribution is normal after one correction, to 1e-11."""


def normal_cdf(x: float) -> float:
    """P(Z <= x)."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def normal_quantile(p: float) -> float:
    """The x with P(Z <= x) = p; 0 < p < 1."""
    return _NORMAL.inv_cdf(p)


def t_cdf(x: float, degrees_of_freedom: float) -> float:
    """P(T <= x) of Student's t distribution; equally precise in both tails."""
    if math.isinf(x):
        return float(x > 0)
    if degrees_of_freedom > _NORMAL_DEGREES_OF_FREEDOM:
        return normal_cdf(x * (1 - 1 / (4 * degrees_of_freedom)) / math.sqrt(1 + x * x / (2 * degrees_of_freedom)))
    tail = 0.5 * _regularized_incomplete_beta(
        degrees_of_freedom / 2, 0.5, degrees_of_freedom / (degrees_of_freedom + x * x)
    )
    return tail if x <= 0 else 1 - tail


def t_two_sided_p(t: float, degrees_of_freedom: float) -> float:
    """The two-sided p-value P(|T| >= |t|) of a t statistic."""
    return min(1.0, 2 * t_cdf(-abs(t), degrees_of_freedom))


@lru_cache(maxsize=4096)
def t_quantile(p: float, degrees_of_freedom: float) -> float:
    """The x with P(T <= x) = p; 0 < p < 1, by bisection on the tail."""
    if p == 0.5:
        return 0.0
    if p > 0.5:
        return -t_quantile(1 - p, degrees_of_freedom)
    low = high = -1.0
    while t_cdf(low, degrees_of_freedom) > p:
        low *= 2
    high = low / 2 if low < -1 else 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if t_cdf(middle, degrees_of_freedom) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) of the binomial distribution: n trials, each with success probability p."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else _regularized_incomplete_beta(n - k, k + 1, 1 - p)


def sign_test_p(successes: int, failures: int) -> float:
    """The two-sided p-value of the exact sign test (binomial test at 1/2), for one look; 1 without a trial."""
    n = successes + failures
    return min(1.0, 2 * binomial_cdf(min(successes, failures), n, 0.5)) if n else 1.0


def anytime_sign_test_p(successes: int, failures: int) -> float:
    """The p-value of a sign test that may be evaluated after every trial: it holds at all looks together.

    One over the e-value of the uniform mixture over all success probabilities (Ville 1939, Robbins 1970).

    >>> anytime_sign_test_p(7, 0), anytime_sign_test_p(8, 0)
    (0.0625, 0.03515625)
    """
    trials = successes + failures
    return min(1.0, (trials + 1) * math.comb(trials, successes) / (1 << trials))


def wilson_interval(successes: float, n: int, *, alpha: float) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927), as (low, high); (0, 1) without a trial."""
    if n == 0:
        return 0.0, 1.0
    z = normal_quantile(1 - alpha / 2)
    proportion = successes / n
    centre = (proportion + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def chi_square_upper_tail(x: float, degrees_of_freedom: int) -> float:
    """P(X >= x) of the chi-square distribution: the incomplete gamma function Q(degrees_of_freedom / 2, x / 2)."""
    return _upper_gamma(degrees_of_freedom / 2, x / 2) if x > 0 else 1.0


def _regularized_incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz; DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _regularized_incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _nonzero(1 + term * d)
            c = _nonzero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _upper_gamma(a: float, x: float) -> float:
    """Q(a, x): a series for its complement below a + 1, a continued fraction above (DLMF 8.11.4, 8.9.2)."""
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        k = a
        while abs(term) > abs(total) * 1e-17:
            k += 1
            term *= x / k
            total += term
        return 1 - front * total
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    value = d
    for i in range(1, 10_000):
        term = -i * (i - a)
        b += 2
        d = 1 / _nonzero(term * d + b)
        c = _nonzero(b + term / c)
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * value
