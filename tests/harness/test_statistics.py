"""Intervals of means and of proportions, and what compares runs over several tasks."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from algos.harness.statistics import (
    interquartile_mean,
    mean_and_interval,
    pooled_mean_and_interval,
    probability_of_improvement,
    proportion_interval,
    stratified_interval,
)


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


def test_the_interquartile_mean_is_that_of_the_middle_half_of_all_runs_of_all_tasks():
    assert interquartile_mean([np.arange(8.0)]) == np.mean([2, 3, 4, 5])
    assert interquartile_mean([np.array([-1e9, 1.0]), np.array([3.0, 1e9])]) == 2  # neither end counts
    many = np.random.default_rng(0).normal(size=(3, 100_000))
    many[0] += many[0] ** 3  # still symmetric about 0, with far ends
    assert abs(interquartile_mean([*many])) < 0.01
    leading = interquartile_mean([many[:, :10], many[:, 10:14]])
    np.testing.assert_array_equal(leading, [interquartile_mean([each[:10], each[10:14]]) for each in many])


def test_the_probability_of_improvement_counts_pairs_and_ties_and_averages_tasks():
    a, b = np.array([1.0, 3.0]), np.array([2.0, 2.0, 0.0])
    assert probability_of_improvement([a], [b]) == pytest.approx(4 / 6)  # 1 > 0, 3 > all
    assert probability_of_improvement([b], [a]) == pytest.approx(1 - 4 / 6)
    assert probability_of_improvement([a], [a]) == 0.5
    assert probability_of_improvement([a, np.ones(2)], [b, np.zeros(5)]) == pytest.approx((4 / 6 + 1) / 2)
    rng = np.random.default_rng(0)
    ahead = probability_of_improvement([rng.normal(1, 1, 3000)], [rng.normal(0, 1, 3000)])
    assert ahead == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.02)


def test_the_bootstrap_of_a_mean_has_the_width_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(size=400)
    low, high = stratified_interval(lambda strata: strata[0].mean(axis=-1), [values])
    half = 1.96 * values.std() / np.sqrt(400)
    np.testing.assert_allclose((low, high), (values.mean() - half, values.mean() + half), atol=0.1 * half)


def test_the_bootstrap_draws_inside_every_stratum():
    """Tasks of which each is certain leave nothing to vary, however far they lie apart."""
    assert stratified_interval(interquartile_mean, [np.zeros(5), np.full(5, 9.0)]) == (4.5, 4.5)
    apart = [np.zeros(3)], [np.ones(4)]
    assert stratified_interval(probability_of_improvement, *apart) == (0, 0)
    assert np.isnan(stratified_interval(interquartile_mean, [np.zeros(1), np.ones(1)])).all()
