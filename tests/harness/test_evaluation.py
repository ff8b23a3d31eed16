"""Playing episodes to their end."""

import jax
import jax.numpy as jnp
import numpy as np

from algos.harness.evaluation import repeat_until
from tests.networks.test_batching import primitives


def test_repeating_until_done_and_to_a_limit_agree():
    """On a loop that stays as it is where it is done."""

    def count(start, limit):
        step = lambda x: jnp.where(x < 5, x + 1, x)  # noqa: E731
        return repeat_until(lambda x: x >= 5, step, start, limit)

    starts = jnp.arange(8)
    for limit in (None, 10):
        counted = jax.vmap(lambda x, limit=limit: count(x, limit))(starts)
        np.testing.assert_array_equal(counted, jnp.maximum(starts, 5))
    assert count(jnp.int32(0), 3) == 3
    names = primitives(jax.make_jaxpr(lambda x: count(x, None))(0).jaxpr)
    assert "while" in names and "scan" not in names
    names = primitives(jax.make_jaxpr(jax.vmap(lambda x: count(x, 10)))(starts).jaxpr)
    assert "scan" in names and not {"while", "cond"} & names
