"""Confidence intervals of means over few values: seeds, or episodes."""

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


def mean_and_interval(values: np.ndarray) -> dict[str, Any]:
    """Mean of values [N] and its 95 % interval as plain numbers, None where there is none."""
    mean, half = (float(x) for x in confidence_interval(np.asarray(values, float)))
    interval = None if np.isnan(half) else [mean - half, mean + half]
    return {"mean": None if np.isnan(mean) else mean, "interval": interval}
