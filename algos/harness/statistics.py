"""Confidence intervals of means and proportions over few values: seeds, or episodes."""

from typing import Any

import numpy as np


def confidence_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the leading axis and the half width of its interval by Student's t, for values [N, ...].

    NaN marks a value that is missing. The half width is NaN where fewer than two values are there, and so is
    the mean where none is.
    """
    from scipy.special import stdtrit  # quantiles of Student's t

    count = np.sum(~np.isnan(values), axis=0)
    mean = np.nansum(values, axis=0) / np.where(count, count, np.nan)
    freedom = np.where(count > 1, count - 1, np.nan)
    variance = np.nansum((values - mean) ** 2, axis=0) / freedom
    return mean, stdtrit(freedom, 0.5 + level / 2) * np.sqrt(variance / np.where(count, count, np.nan))


def proportion_interval(successes: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """The ends of Wilson's interval for a proportion (Wilson, 1927): not empty at 0 of n and n of n."""
    from scipy.special import ndtri  # quantiles of the normal distribution

    z, share = float(ndtri(0.5 + level / 2)), successes / count
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, center - half), min(1.0, center + half)


def mean_and_interval(values: np.ndarray) -> dict[str, Any]:
    """Mean of values [N] and its 95 % interval as plain numbers, None where there is none.

    Values that are all 0 or 1 are a proportion and get Wilson's interval, others Student's.
    """
    values = np.asarray(values, float)
    mean, half = (float(x) for x in confidence_interval(values))
    if values.size and np.isin(values, (0.0, 1.0)).all():
        return {"mean": mean, "interval": [*proportion_interval(float(values.sum()), values.size)]}
    interval = None if np.isnan(half) else [mean - half, mean + half]
    return {"mean": None if np.isnan(mean) else mean, "interval": interval}


def pooled_mean_and_interval(values: np.ndarray) -> dict[str, Any]:
    """Mean of the seeds' means of values [S, E] and its 95 % interval.

    Student's over the seeds' means, for the episodes of one seed share its parameters. Of a proportion at least as
    wide as Wilson's over all episodes: seeds that all succeed always have equal means and are not certain.
    """
    values = np.asarray(values, float)
    if len(values) == 1:
        return mean_and_interval(values[0])
    of_means = mean_and_interval(values.mean(axis=1))
    if not np.isin(values, (0.0, 1.0)).all():
        return of_means
    mean, half = (float(x) for x in confidence_interval(values.mean(axis=1)))
    low, high = proportion_interval(float(values.sum()), values.size)
    return {"mean": mean, "interval": [max(0.0, min(low, mean - half)), min(1.0, max(high, mean + half))]}
