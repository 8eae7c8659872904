"""Mean and spread over seeds, and whether two rows of a table differ by more than noise."""

import math
from typing import NamedTuple

import numpy as np

LEVEL = 0.95


class Measured(NamedTuple):
    """One quantity, measured once per seed.

    Attributes:
        values: one per seed, at least one.
    """

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return math.fsum(self.values) / self.n

    @property
    def deviation(self) -> float:
        """The sample standard deviation (divided by n - 1); NaN for one seed."""
        if self.n < 2:
            return math.nan
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (self.n - 1))


class Difference(NamedTuple):
    """Difference of two means with its confidence interval.

    Attributes:
        value: mean of the first minus mean of the second.
        margin: half the width of the 95 % interval; NaN if one side has only one seed.
    """

    value: float
    margin: float

    @property
    def separated(self) -> bool | None:
        """Whether the interval excludes 0; None if there is no interval."""
        return None if math.isnan(self.margin) else abs(self.value) > self.margin


def difference(first: Measured, second: Measured) -> Difference:
    """Return Welch's interval for the difference of two means of independent seeds.

    The two may have different spreads; the degrees of freedom are those of Welch and Satterthwaite.
    """
    value = first.mean - second.mean
    if min(first.n, second.n) < 2:
        return Difference(value, math.nan)
    parts = [m.deviation**2 / m.n for m in (first, second)]
    variance = sum(parts)
    if variance == 0.0:
        return Difference(value, 0.0)
    freedom = variance**2 / sum(
        part**2 / (m.n - 1) for part, m in zip(parts, (first, second), strict=True)
    )
    return Difference(value, t_quantile(freedom) * math.sqrt(variance))


def t_quantile(freedom: float, level: float = LEVEL) -> float:
    """Return t with P(|T| < t) = level, for Student's T of 1 to 1000 degrees of freedom.

    The degrees of freedom need not be whole. With T = sqrt(freedom) tan(a) the probability is the
    normalised integral of cos(a)^(freedom - 1) from 0: a smooth function on a bounded interval,
    which is inverted by bisection.
    """
    whole = math.sqrt(math.pi) / 2
    whole *= math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _integral(middle, freedom - 1) < level * whole:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _integral(end: float, power: float, intervals: int = 400) -> float:
    """Integrate cos(a)^power from 0 to `end` by Simpson's rule."""
    angles = np.linspace(0.0, end, intervals + 1)
    heights = np.cos(angles) ** power
    inner = 4 * heights[1:-1:2].sum() + 2 * heights[2:-1:2].sum()
    return float((heights[0] + inner + heights[-1]) * end / intervals / 3)
