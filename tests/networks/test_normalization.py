import jax.numpy as jnp
import numpy as np
import pytest

from networks.normalization import RunningStatistics


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_batches_give_the_statistics_of_everything(offset):
    rng = np.random.default_rng(0)
    batches = [offset + 3 * rng.normal(size=(n, 2, 5)) for n in (1, 7, 40)]
    statistics = RunningStatistics.create((5,))
    for batch in batches:
        statistics = statistics.update(jnp.asarray(batch, jnp.float32))
    everything = np.concatenate(batches).reshape(-1, 5)
    np.testing.assert_allclose(statistics.mean, everything.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics.variance, everything.var(0), rtol=1e-4)
    assert float(statistics.count) == len(everything)


def test_normalizes_and_clips():
    statistics = RunningStatistics.create(()).update(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(statistics.normalize(jnp.array([2.0, 3.0, 1e6]), 5.0), [0.0, 1.0, 5.0], atol=1e-6)
    np.testing.assert_allclose(statistics.scale(jnp.array([2.0, -1e6]), 5.0), [2.0, -5.0], rtol=1e-6)


def test_before_any_data_nothing_changes():
    x = jnp.array([-2.0, 0.5])
    np.testing.assert_allclose(RunningStatistics.create((2,)).normalize(x, 10.0), x, rtol=1e-6)
