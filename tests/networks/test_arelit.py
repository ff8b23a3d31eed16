"""AReLiT's rewritings against the released equations: folding, the integer phase, both forms, and memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
from networks import arelit, plain_forms
from tests.networks.cases import Harness, assert_close, segment, small

T, B, HEADS, D_HEAD, ETA = 21, 2, 3, 4, 2


def random_features(dtype, length=T):
    rng = np.random.default_rng(0)

    def normal(width):
        return jnp.asarray(rng.normal(size=(length, B, HEADS, width)), dtype)

    key, key_expansion, query, query_expansion = (jax.nn.relu(normal(w)) for w in (D_HEAD, ETA, D_HEAD, ETA))
    beta, gamma, gamma_expansion = (jax.nn.sigmoid(normal(w)) for w in (D_HEAD, D_HEAD, ETA))
    value = normal(D_HEAD)
    return arelit.Features(
        key, key_expansion, query, query_expansion, value, beta, gamma, gamma_expansion
    ), jnp.asarray(rng.random((length, B)) > 0.1, dtype)


def initial(r, dtype):
    core = networks.make_core("arelit", n_layers=1, n_heads=HEADS, d_head=D_HEAD, eta=ETA, r=r)
    return jax.tree.map(lambda x: x.astype(dtype), core.initialize_carry((B,)).layers[0])


@pytest.mark.parametrize(
    "r,form,length,most_kept",
    [
        *((r, "sequential", T, 0) for r in (1, 2)),
        *(pytest.param(r, "sequential", T, 0, marks=pytest.mark.slow) for r in (3, 6, 40)),
        pytest.param(1, "sequential", T, 2**23, marks=pytest.mark.slow),
        (7, "sequential", T, 2**23),
        (7, "associative", T, 0),
        (2, "associative", 1, 0),
    ],
)
def test_folded_is_unfolded(r, form, length, most_kept, x64, monkeypatch):
    """Outputs and gradients, over several chunks, in one and of one step, in both forms, with many oscillators."""
    monkeypatch.setattr(arelit, "CHUNK_LENGTH", {"sequential": 4, "associative": 8})
    monkeypatch.setattr(arelit, "MOST_KEPT", most_kept)
    features, keep = random_features(jnp.float64, length)
    n = jnp.broadcast_to(jnp.arange(2, length + 2)[:, None], (length, B))

    def folded(features):
        return arelit.attention(features, keep, n, initial(r, jnp.float64), r, form)[1]

    def plain(features):
        state = plain_forms.arelit_initial_state(B, HEADS, D_HEAD, ETA, r)
        return plain_forms.arelit_attention(features, keep, n, state, r)[1]

    assert_close(jax.jit(folded)(features), jax.jit(plain)(features), 1e-9)

    def gradient(run):
        return jax.jit(jax.grad(lambda features: jnp.sum(jnp.sin(run(features)))))(features)

    assert_close(gradient(folded), gradient(plain), 1e-9)


@pytest.mark.parametrize("start", [1, 2**24 + 1, 10**8, 10**9])
@pytest.mark.parametrize("r", [2, 3, 7])
def test_phase_is_exact_for_ever(r, start, x64):
    """Counting on from any step is the cosine of that step; in float32 n stops at 2^24."""
    features, keep = random_features(jnp.float64, length=3)
    keep = jnp.ones_like(keep)
    n = start + np.arange(1, 4)[:, None].repeat(B, 1)
    phase = jnp.asarray(n, jnp.int32)
    outputs = arelit.attention(features, keep, phase, initial(r, jnp.float64), r)[1]
    state = plain_forms.arelit_initial_state(B, HEADS, D_HEAD, ETA, r)
    expected = plain_forms.arelit_attention(features, keep, jnp.asarray(n, jnp.float64), state, r)[1]
    assert_close(outputs, expected, 1e-6)  # omega n itself is exact to 1e9 x 1e-16


def test_carried_phase_counts_every_step():
    core = Harness(small("arelit", r=7), jnp.float32)
    inputs, resets = segment(0, 5, (1,), jnp.float32)
    carry = core.carry((1,))._replace(phase=jnp.full((1,), 10**8, jnp.int32))
    for steps in (1, 5):
        after, _ = core.apply(core.params, carry, inputs[:steps], resets[:steps])
        assert after.phase.dtype == jnp.int32
        assert int(after.phase[0]) % 12 == (10**8 + steps) % 12


@pytest.mark.parametrize("r", [2, 7])
def test_carry_is_at_most_65_percent_of_the_released(r):
    core = networks.make_core("arelit", r=r)
    floats = sum(x.size for x in jax.tree.leaves(core.initialize_carry((1,))) if x.dtype == jnp.float32)
    released = 4 * (r * 4 * 64 * 4 + r * 4 * 64 + 4 * 64 * 4 + 1)
    assert floats <= 0.65 * released
    if r == 2:
        assert (floats, released) == (9216, 14340)


@pytest.mark.parametrize(
    "name,settings,state",
    [
        ("arelit", {"n_heads": 2, "d_head": 32, "eta": 16, "r": 7}, 2 * (4 * 16 * 32 + 4 * 32 + 16 * 32)),
        ("relit", {"n_heads": 2, "d_head": 128, "nu": 1}, 2 * 128 * 128),
    ],
)
def test_gradient_does_not_store_the_state_of_every_step(name, settings, state):
    core = networks.make_core(name, n_layers=1, d_model=8, d_ffc=8, **settings)
    batch = 4

    def memory(length):
        inputs, resets = jnp.zeros((length, batch, 4)), jnp.zeros((length, batch), bool)
        carry = core.initialize_carry((batch,))
        params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
        gradient = jax.jit(jax.grad(lambda params, *rest: core.apply(params, *rest)[1].sum()))
        return gradient.lower(params, carry, inputs, resets).compile().memory_analysis().temp_size_in_bytes

    per_step = (memory(768) - memory(256)) / 512
    assert per_step < 0.5 * state * batch * 4


def test_states_of_short_segments_are_not_made_again(monkeypatch):
    """The step's loop runs once forward and once back, with chunks once more, inside a loop over chunks."""
    features, keep = random_features(jnp.float32, 40)
    n = jnp.zeros((40, B), jnp.int32)

    def loops(most_kept):
        monkeypatch.setattr(arelit, "MOST_KEPT", most_kept)

        def scalar(features):
            return arelit.attention(features, keep, n, initial(2, jnp.float32), 2, "sequential")[1].sum()

        return jax.jit(jax.grad(scalar)).lower(features).as_text().count("stablehlo.while")

    floats = sum(x.size for x in initial(2, jnp.float32))
    assert loops(40 * floats) == 4 < loops(40 * floats - 1)  # two of the values, two of the matrices


def test_parameters_may_be_more_precise_than_memory_and_inputs(x64):
    core = small("arelit")
    for length in (1, 3):
        inputs, resets = segment(0, length, (2,), jnp.float32)
        carry = core.initialize_carry((2,))
        params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float64), params)
        carry = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, carry)
        assert jax.eval_shape(core.apply, params, carry, inputs, resets)[1].dtype == jnp.float64


@pytest.mark.parametrize("settings, bias", [({}, 2.0), ({"gate_bias": 0.5}, 0.5)])
def test_gates_start_as_closed_as_is_asked_for(settings, bias):
    core = arelit.AReLiT(n_layers=2, d_model=4, d_head=3, d_ffc=4, n_heads=1, eta=2, **settings)
    arguments = core.initialize_carry((1,)), jnp.zeros((1, 1, 2)), jnp.zeros((1, 1), bool)
    params = core.init(jax.random.key(0), *arguments)["params"]
    for layer in ("layers_0", "layers_1"):
        for gate in ("attention_gate", "ffc_gate"):
            np.testing.assert_array_equal(params[layer][gate]["bias"], bias)


def test_beta_starts_with_time_constants_up_to_the_horizon():
    def biases(horizon):
        core = arelit.AReLiT(n_layers=1, d_model=4, d_head=50, d_ffc=4, n_heads=3, eta=2, horizon=horizon)
        arguments = core.initialize_carry((1,)), jnp.zeros((1, 1, 2)), jnp.zeros((1, 1), bool)
        bias = core.init(jax.random.key(0), *arguments)["params"]["layers_0"]["kqvbg"]["bias"]
        return np.asarray(bias, np.float64).reshape(3, 5, 50)

    others, beta = np.delete(biases(100), 3, axis=1), biases(100)[:, 3]
    np.testing.assert_array_equal(others, 0.0)
    tau = 1 + np.exp(-beta)  # 1 / sigmoid
    np.testing.assert_allclose(tau, np.broadcast_to(np.geomspace(2, 100, 50), tau.shape), rtol=1e-4)
    for published in (1, 2):
        np.testing.assert_array_equal(biases(published), 0.0)
