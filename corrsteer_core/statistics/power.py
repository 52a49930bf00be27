"""How many samples would show an effect: the power of McNemar's exact test.

Of n samples a share `p_pos` flips from failure to success and a share `p_neg` back. A measurement that shows nothing is
"inconclusive" rather than "nothing there" as long as an effect of the size seen would need more samples than it had.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.statistics.rates import FloatArray

_SPREAD = 8  # standard deviations of the number of flips that are summed over; the rest is below 1e-14


def mcnemar_power(p_pos: float, p_neg: float, n: int, alpha: float = 0.05) -> float:
    """Probability that McNemar's exact two-sided test of `n` samples has p < alpha.

    The number of flips m is Binomial(n, p_pos + p_neg), those up are Binomial(m, p_pos / (p_pos + p_neg)): the sum over
    m of the probability that the flips up are among those the test rejects. Duffy (1984), Biometrics 40:1005-1015.
    """
    _check(p_pos, p_neg, alpha)
    flips = p_pos + p_neg
    if flips == 0 or n < 1:
        return 0.0
    reach = _SPREAD * (math.sqrt(n * flips * (1 - flips)) + 2)
    m = np.arange(max(0, math.floor(n * flips - reach)), min(n, math.ceil(n * flips + reach)) + 1)
    return float(np.sum(binom.pmf(m, n, flips) * _rejected(m, p_pos / flips, alpha)))


def samples_needed(p_pos: float, p_neg: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The number of samples at which McNemar's exact test has `power`: n reaches it, n - 1 does not.

    None where the shares of flips are equal, which no number shows. The search starts from Connor's (1987, Biometrics
    43:207-211) approximation, `connor_samples`, which is some samples lower, since the exact test is the stricter one.
    (Power is not quite monotonic in n: a few samples fewer may reach it as well.)
    """
    _check(p_pos, p_neg, alpha)
    if not alpha < power < 1:
        raise CorrSteerError(f"Power must lie between alpha and 1, as in 0.8; found {power} with alpha {alpha}.")
    if p_pos == p_neg:
        return None
    below, above = 0, math.ceil(connor_samples(p_pos, p_neg, power, alpha))
    step = math.ceil(1 / abs(p_pos - p_neg))  # about what the exact test needs more
    while mcnemar_power(p_pos, p_neg, above, alpha) < power:
        below, above, step = above, above + step, 2 * step
    while above - below > 1:
        middle = (below + above) // 2
        if mcnemar_power(p_pos, p_neg, middle, alpha) < power:
            below = middle
        else:
            above = middle
    return above


def connor_samples(p_pos: float, p_neg: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """(z_{1 - alpha/2} sqrt(f) + z_power sqrt(f - d^2))^2 / d^2, f = p_pos + p_neg and d = p_pos - p_neg.

    Connor (1987), Biometrics 43:207-211: McNemar's test with the normal distribution. inf for d = 0.
    """
    _check(p_pos, p_neg, alpha)
    flips, difference = p_pos + p_neg, p_pos - p_neg
    if difference == 0:
        return math.inf
    spread = float(ndtri(1 - alpha / 2)) * math.sqrt(flips) + float(ndtri(power)) * math.sqrt(flips - difference**2)
    return spread**2 / difference**2


def _rejected(m: np.ndarray, share_up: float, alpha: float) -> FloatArray:
    """Probability, for each number of flips m, that twice the smaller tail of Binomial(m, 1/2) is below alpha."""
    fewer = binom.ppf(alpha / 2, m, 0.5)  # the smallest k whose tail is at least alpha / 2: too many by one
    fewer = np.where(2 * binom.cdf(fewer, m, 0.5) < alpha, fewer, fewer - 1)
    return np.where(fewer < 0, 0.0, binom.cdf(fewer, m, share_up) + binom.cdf(fewer, m, 1 - share_up))


def _check(p_pos: float, p_neg: float, alpha: float) -> None:
    if not (p_pos >= 0 and p_neg >= 0 and p_pos + p_neg <= 1 + 1e-12):
        raise CorrSteerError(f"Shares of flips must be at least 0 and at most 1 together; found {p_pos} and {p_neg}.")
    if not 0 < alpha < 1:
        raise CorrSteerError(f"Alpha must lie between 0 and 1, as in 0.05; found {alpha}.")
