"""The baselines of the benchmark compute what the cores compute; tests/networks compares the others."""

import jax
import jax.numpy as jnp
import numpy as np

import networks
from networks import plain_forms


def test_cached_keys_and_values_give_gtrxls_outputs():
    core = networks.make_core("gtrxl", n_layers=2, d_model=8, d_head=4, n_heads=2, memory_len=5)
    inputs = jax.random.normal(jax.random.key(0), (20, 3, 6))
    resets = jax.random.bernoulli(jax.random.key(1), 0.1, (20, 3))
    carry = core.initialize_carry((3,))
    params = core.init(jax.random.key(2), carry, inputs, resets)
    params = jax.tree.map(lambda x: x + 0.1, params)
    _, expected = jax.jit(core.apply)(params, carry, inputs, resets)
    cache, outputs = plain_forms.gtrxl_initial_cache(core, 3), []
    for t in range(20):
        cache, output = plain_forms.gtrxl_cached_step(core, params, cache, inputs[t : t + 1], resets[t : t + 1])
        outputs.append(output)
    np.testing.assert_allclose(jnp.concatenate(outputs), expected, atol=1e-5)
