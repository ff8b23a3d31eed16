"""Means, proportions and comparisons of few values with their intervals: of episodes, seeds, or runs of tasks."""

from collections.abc import Callable, Sequence
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


def interquartile_mean(strata: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the middle half of all values together (Agarwal et al., 2021), a quarter cut off at either end.

    strata: one array [..., N_k] per task, of its runs; leading axes are kept.
    """
    from scipy.stats import trim_mean

    return trim_mean(np.concatenate(strata, axis=-1), 0.25, axis=-1)


def probability_of_improvement(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> np.ndarray:
    """Probability that a run of ours has more than one of theirs on the same task, a tie counting half.

    The mean over tasks (Agarwal et al., 2021).

    ours, theirs: one array [..., N_k] per task, of its runs; leading axes are kept.
    """
    wins = []
    for one, other in zip(ours, theirs, strict=True):
        more, equal = (f(one[..., :, None], other[..., None, :]) for f in (np.greater, np.equal))
        wins.append((more + 0.5 * equal).mean(axis=(-2, -1)))
    return np.mean(wins, axis=0)


def stratified_interval(
    statistic: Callable[..., np.ndarray],
    *groups: Sequence[np.ndarray],
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """The ends of the percentile interval of a statistic by the bootstrap that draws anew inside every stratum.

    Args:
        statistic: groups of strata with a leading axis [R, N_k] -> [R].
        groups: each with one array [N_k] per stratum, which is drawn from on its own.
        level: of the interval.
        resamples: R. The draws are the same in every call.

    Returns:
        (low, high), NaN where no stratum has two values, for then nothing varies.
    """
    if max(len(values) for strata in groups for values in strata) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    drawn = [[rng.choice(values, (resamples, len(values))) for values in strata] for strata in groups]
    low, high = np.quantile(statistic(*drawn), (0.5 - level / 2, 0.5 + level / 2))
    return float(low), float(high)
