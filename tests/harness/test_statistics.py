"""Intervals of means and of proportions."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from algos.harness.statistics import mean_and_interval, pooled_mean_and_interval, proportion_interval


@pytest.mark.parametrize("successes, count", [(0, 3), (2, 2), (7, 10), (99, 100), (500, 500)])
def test_the_interval_of_a_proportion_is_wilsons(successes, count):
    expected = binomtest(successes, count).proportion_ci(method="wilson")
    np.testing.assert_allclose(proportion_interval(successes, count), (expected.low, expected.high), atol=1e-12)


def test_it_covers_a_rate_near_one_where_students_does_not():
    rate, count = 0.99, 100
    chances = binom(count, rate).pmf(np.arange(count + 1))
    covered = [low <= rate <= high for low, high in (proportion_interval(k, count) for k in range(count + 1))]
    assert chances[covered].sum() > 0.9


def test_values_of_zero_and_one_are_a_proportion_and_others_are_not():
    assert mean_and_interval(np.ones(2))["interval"] == [*proportion_interval(2, 2)]
    assert mean_and_interval(np.array([0.5, 1.0, 1.5]))["interval"][1] > 2  # Student's


def test_the_interval_over_seeds_holds_the_episodes_and_the_differences_between_seeds():
    certain = pooled_mean_and_interval(np.ones((5, 100)))
    assert certain["mean"] == 1 and certain["interval"] == [*proportion_interval(500, 500)]
    split = np.ones((4, 100))
    split[:2] = 0
    low, high = pooled_mean_and_interval(split)["interval"]
    assert low == 0 and high == 1  # four seeds that disagree tell little, however many episodes they play
