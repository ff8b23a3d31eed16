"""What trainers share of a rollout's metrics."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from algos.harness.trainer import episode_metrics


def transitions(terminated, truncated, **info):
    return SimpleNamespace(terminated=jnp.array(terminated), truncated=jnp.array(truncated), info=info)


def test_means_are_over_the_episodes_that_ended():
    metrics = episode_metrics(transitions(
        [[True, False], [False, False]], [[False, False], [False, True]],
        episode_return=jnp.array([[1.0, 50.0], [60.0, 4.0]]), note=jnp.zeros((2, 2)),
    ))  # fmt: skip
    assert metrics.keys() == {"episodes", "episode_return"}
    assert metrics["episodes"] == 2 and metrics["episode_return"] == 2.5


def test_means_over_no_episodes_are_no_number():
    none = [[False], [False]]
    metrics = episode_metrics(transitions(none, none, episode_return=jnp.ones((2, 1))))
    assert metrics["episodes"] == 0 and np.isnan(metrics["episode_return"])


def test_sums_of_many_lengths_do_not_overflow():
    lengths = jnp.full((1, 4), 2**30, jnp.int32)
    metrics = episode_metrics(transitions([[True] * 4], [[False] * 4], episode_length=lengths))
    assert metrics["episode_length"] == 2**30
