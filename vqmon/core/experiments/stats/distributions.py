"""Normal, Student's t, binomial and chi-square probabilities and quantiles, to about 1e-12, without scipy."""

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300
_MANY_DEGREES = 1e5
"""From here on t is normal after one correction, to 1e-11."""


def normal_cdf(x: float) -> float:
    """P(Z <= x)."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def normal_quantile(p: float) -> float:
    """The x with P(Z <= x) = p; 0 < p < 1."""
    return _NORMAL.inv_cdf(p)


def t_cdf(x: float, degrees: float) -> float:
    """P(T <= x) for Student's t; as precise in both tails."""
    if math.isinf(x):
        return float(x > 0)
    if degrees > _MANY_DEGREES:
        return normal_cdf(x * (1 - 1 / (4 * degrees)) / math.sqrt(1 + x * x / (2 * degrees)))
    tail = 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + x * x))
    return tail if x <= 0 else 1 - tail


def t_two_sided(x: float, degrees: float) -> float:
    """P(|T| >= |x|)."""
    return min(1.0, 2 * t_cdf(-abs(x), degrees))


@lru_cache(maxsize=4096)
def t_quantile(p: float, degrees: float) -> float:
    """The x with P(T <= x) = p; 0 < p < 1, by bisection on the tail."""
    if p == 0.5:
        return 0.0
    if p > 0.5:
        return -t_quantile(1 - p, degrees)
    low = high = -1.0
    while t_cdf(low, degrees) > p:
        low *= 2
    high = low / 2 if low < -1 else 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if t_cdf(middle, degrees) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) of n trials that each succeed with probability p."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else incomplete_beta(n - k, k + 1, 1 - p)


def fair_coin(heads: int, tails: int) -> float:
    """Exact two-sided probability of a split at least as uneven, of a fair coin; 1 without a throw."""
    n = heads + tails
    return min(1.0, 2 * binomial_cdf(min(heads, tails), n, 0.5)) if n else 1.0


def fair_coin_anytime(heads: int, tails: int) -> float:
    """The same when the coin is looked at after every throw: the p of all looks together.

    One over the e-value of a head's probability that may be anything, evenly (Ville 1939, Robbins 1970).

    >>> fair_coin_anytime(7, 0), fair_coin_anytime(8, 0)
    (0.0625, 0.03515625)
    """
    throws = heads + tails
    ways = (throws + 1) * math.comb(throws, heads)
    return min(1.0, ways / (1 << throws))


def wilson(successes: float, n: int, *, alpha: float) -> tuple[float, float]:
    """The Wilson interval of a share (Wilson 1927); (0, 1) without a trial."""
    if n == 0:
        return 0.0, 1.0
    z = normal_quantile(1 - alpha / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def chi_square_tail(x: float, degrees: int) -> float:
    """P(X >= x) of chi-square: the upper incomplete gamma function Q(degrees/2, x/2)."""
    return _upper_gamma(degrees / 2, x / 2) if x > 0 else 1.0


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz; DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d)
            c = _off_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * value


def _off_zero(value: float) -> float:
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
        d = 1 / _off_zero(term * d + b)
        c = _off_zero(b + term / c)
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * value
