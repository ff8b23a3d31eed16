"""Gated DeltaNet's rate of writing, which the official files leave below 1."""

import jax
import jax.numpy as jnp
import pytest

from networks.gated_deltanet import Memory, Mixer


@pytest.mark.parametrize("allow_neg_eigval", [True, False])
def test_a_rate_of_two_turns_the_memory_over(allow_neg_eigval):
    """Without decay and with nothing to write, I - beta k (x) k mirrors the memory at 2 and shrinks it at 1."""
    mixer = Mixer(n_heads=1, d_key=4, d_value=3, allow_neg_eigval=allow_neg_eigval)
    empty = mixer.initialize_carry((1,))
    carry = Memory(jax.random.normal(jax.random.key(0), empty.matrix.shape), empty.window)
    u, keep = jnp.ones((6, 1, 5)), jnp.ones((6, 1))
    params = mixer.init(jax.random.key(1), carry, u, keep)["params"]
    kernel = params["in"]["kernel"].at[:, 8:11].set(0.0).at[:, -2].set(10.0)  # v = 0 and beta at its largest
    params |= {"in": {"kernel": 100 * kernel}, "a_log": jnp.full(1, -30.0)}
    after, _ = mixer.apply({"params": params}, carry, u, keep)
    ratio = jnp.linalg.norm(after.matrix) / jnp.linalg.norm(carry.matrix)
    assert (abs(ratio - 1) < 1e-3) == allow_neg_eigval
