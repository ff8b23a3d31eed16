"""ReLiT: its feature maps at the edges, its delta rule and resets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import plain_forms, relit
from tests.networks.cases import Harness, assert_close, segment, small


@pytest.mark.parametrize("rule", relit.UpdateRule.__args__)
def test_no_rule_leaks_over_episodes(rule, x64):
    """The carry after a reset is that of a fresh start; the released delta rule keeps the old state."""
    core = Harness(small("relit", update_rule=rule), jnp.float64)
    inputs, resets = segment(0, 8, (2,), jnp.float64, 0.0)
    resets = resets.at[4].set(True)
    fresh = core.run(core.carry((2,)), inputs[4:], resets[4:], [4])
    assert_close(core.run(core.carry((2,)), inputs, resets, [8])[0], fresh[0], 1e-9)
    assert_close(core.run(core.carry((2,)), inputs, resets, [1] * 8)[1][4:], fresh[1], 1e-9)


@pytest.mark.parametrize("rule", relit.UpdateRule.__args__)
def test_attention_is_its_plain_form(rule, x64):
    """Outputs, memory and gradients, over several chunks, the last one not full, with resets."""
    length, batch, heads, d_head, nu = 11, 2, 3, 4, 2
    rng, width = np.random.default_rng(0), d_head * nu

    def normal(width):
        return jnp.asarray(rng.normal(size=(length, batch, heads, width)))

    keep = jnp.asarray(rng.random((length, batch)) > 0.2, jnp.float64)
    key, query, value = normal(width), normal(width), normal(d_head)
    names = relit.gate_projections(rule, "eluplus1", d_head, nu)
    gates = {gate.name: normal(gate.width) for gate in names}
    if rule == "mega":
        widths = {"beta": d_head, "beta_damp": d_head, "gamma": width, "gamma_damp": width}
        gates = {name: normal(width) for name, width in widths.items()}

    def folded(key, query, value, gates):
        carry = relit.LayerCarry(jnp.zeros((batch, heads, d_head, width)), jnp.zeros((batch, heads, width)))
        return relit.attention(("eluplus1", rule, nu), carry, keep, [key], [query], value, gates)

    def plain(key, query, value, gates):
        key, query = jax.nn.elu(key) + 1, jax.nn.elu(query) + 1
        gates = jax.tree.map(jax.nn.sigmoid, gates)
        state = plain_forms.relit_initial_state(batch, heads, d_head, width)
        return plain_forms.relit_attention(rule, key, query, value, gates, keep, state)

    def outputs_and_gradients(run):
        def scalar(*args):
            return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(run(*args)))

        both = jax.jit(lambda *args: (jax.tree.leaves(run(*args)), jax.grad(scalar, (0, 1, 2, 3))(*args)))
        return both(key, query, value, gates)

    assert_close(outputs_and_gradients(folded), outputs_and_gradients(plain), 1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_unit_of_zero_is_zero_with_a_finite_gradient(epsilon):
    value, pull = jax.vjp(lambda x: relit.unit(x, epsilon), jnp.zeros(3))
    np.testing.assert_array_equal(value, 0.0)
    assert np.all(np.isfinite(pull(jnp.ones(3))[0]))
    np.testing.assert_allclose(np.linalg.norm(relit.unit(jnp.array([3.0, 4.0]))), 1.0, rtol=1e-6)


def test_dpfp_is_products_of_rolled_halves():
    y = jnp.array([1.0, -2.0])
    u = np.array([1.0, 0.0, 0.0, 2.0])
    expected = np.concatenate([u * np.roll(u, 1), u * np.roll(u, 2)])
    np.testing.assert_array_equal(relit.feature_map("dpfp", 2, [y]), expected)
    assert relit.feature_width("dpfp", 2, 2) == len(expected)
