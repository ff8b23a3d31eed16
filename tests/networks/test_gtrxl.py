"""GTrXL against its plain form, and what a query sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
from networks import gtrxl, plain_forms
from tests.networks.cases import Harness, assert_close, segment, zero_cotangent

MEMORY = 5
BATCH = (2,)


@pytest.fixture
def core(x64, monkeypatch):
    monkeypatch.setattr(gtrxl, "MAX_BLOCK", 8)
    settings = {"d_model": 6, "d_head": 4, "n_heads": 2, "memory_len": MEMORY}
    return Harness(networks.make_core("gtrxl", n_layers=2, **settings), jnp.float64)


def plain(core):
    return jax.jit(lambda params, *rest: plain_forms.gtrxl_apply(core.core, params, *rest))


@pytest.mark.parametrize("pieces", [[1] * 23, [23], [3, 20], [8, 8, 7], [1, 1, 21]], ids=str)
def test_is_the_plain_form(core, pieces):
    inputs, resets = segment(0, sum(pieces), BATCH, jnp.float64, 0.15)
    _, outputs = core.run(core.carry(BATCH), inputs, resets, pieces)
    state = plain_forms.gtrxl_initial_state(core.core, 2)
    expected = plain(core)(core.params, state, inputs, resets)[1]
    assert_close(outputs, expected, 1e-9)


def test_gradient_is_the_plain_forms(core):
    """At equal chunking: with respect to parameters and the segment's own inputs."""
    inputs, resets = segment(1, 20, BATCH, jnp.float64, 0.1)
    carry, _ = core.run(core.carry(BATCH), inputs[:9], resets[:9], [9])
    state = plain(core)(core.params, plain_forms.gtrxl_initial_state(core.core, 2), inputs[:9], resets[:9])[0]

    def loss(apply, memory):
        return jax.jit(
            jax.grad(lambda params, x: jnp.sum(jnp.sin(apply(params, memory, x, resets[9:])[1])), (0, 1))
        )(core.params, inputs[9:])

    expected = loss(lambda *args: plain_forms.gtrxl_apply(core.core, *args), state)
    assert_close(loss(core.core.apply, carry), expected, 1e-9)


@pytest.mark.parametrize("length", [1, 11])
def test_carry_gets_no_gradient(core, length):
    inputs, resets = segment(2, 9 + length, BATCH, jnp.float64, 0.0)
    carry, outputs = core.run(core.carry(BATCH), inputs[:9], resets[:9], [9])
    d_carry = jax.tree.map(zero_cotangent, carry)
    d_outputs = jnp.ones((length, *outputs.shape[1:]))
    gradient = core.pull(core.params, carry, inputs[9:], resets[9:], d_carry, d_outputs)[1]
    assert all(np.all(np.asarray(leaf) == 0) for leaf in gradient.rings)


@pytest.mark.parametrize("pieces", [[1] * 16, [16], [4, 12]], ids=str)
def test_query_sees_exactly_its_predecessors_and_itself(x64, monkeypatch, pieces):
    """One layer: the last output moves with the last M + 1 inputs and with no other."""
    monkeypatch.setattr(gtrxl, "MAX_BLOCK", 8)
    settings = {"d_model": 16, "d_head": 4, "n_heads": 2, "memory_len": MEMORY}
    core = Harness(networks.make_core("gtrxl", n_layers=1, **settings), jnp.float64)
    inputs, resets = segment(3, 16, (1,), jnp.float64, 0.0)
    last = core.run(core.carry((1,)), inputs, resets, pieces)[1][-1]
    moved = []
    for t in range(16):
        other = core.run(core.carry((1,)), inputs.at[t].multiply(-1.0), resets, pieces)[1][-1]
        moved.append(bool(jnp.any(other != last)))
    assert moved == [t >= 16 - (MEMORY + 1) for t in range(16)]


@pytest.mark.parametrize("turn", [1, 10**8 % MEMORY + 3])
def test_place_in_the_ring_means_nothing(core, turn):
    """After any number of steps, 10^8 too, the ring is one of these turns; outputs are the same."""
    inputs, resets = segment(4, 18, BATCH, jnp.float64, 0.1)
    carry, _ = core.run(core.carry(BATCH), inputs[:7], resets[:7], [7])
    turned = carry._replace(
        rings=tuple(jnp.roll(ring, turn, axis=1) for ring in carry.rings),
        head=(carry.head + turn) % MEMORY,
    )
    for pieces in ([1] * 11, [11]):
        expected = core.run(carry, inputs[7:], resets[7:], pieces)[1]
        assert_close(core.run(turned, inputs[7:], resets[7:], pieces)[1], expected, 1e-9)


def test_memory_is_linear_in_time():
    core = networks.make_core("gtrxl", n_layers=1, d_model=8, d_head=4, n_heads=2, memory_len=16)

    def memory(length):
        inputs, resets = jnp.zeros((length, 2, 4)), jnp.zeros((length, 2), bool)
        carry = core.initialize_carry((2,))
        params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
        gradient = jax.jit(jax.grad(lambda params, *rest: core.apply(params, *rest)[1].sum()))
        return gradient.lower(params, carry, inputs, resets).compile().memory_analysis().temp_size_in_bytes

    assert memory(2048) < 2.2 * memory(1024)
