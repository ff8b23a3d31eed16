"""Cores whose memory decays number by number: how they start, what no parameter may do to them, their edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
from networks import blocks, ffm, lru, memory_trace, mingru, rtu
from tests.networks.cases import INPUT_WIDTH, floats, segment, small


def started(module, d, dtype=jnp.float32, seed=0):
    """Parameters of a mixer for inputs of width d."""
    x, keep = jnp.zeros((1, 1, d), dtype), jnp.ones((1, 1), dtype)
    init = jax.jit(lambda key: module.init(key, module.initialize_carry((1,)), x, keep)["params"])
    return init(jax.random.key(seed))


def decays(params):
    return np.exp(-np.exp(np.asarray(params["nu_log"], np.float64)))


def test_mingru_starts_with_time_constants_up_to_its_horizon():
    bias = started(mingru.Mixer(4, 50, horizon=100), 4)["bias_z"]
    tau = 1 / np.asarray(jax.nn.sigmoid(bias), np.float64)
    assert tau.min() == pytest.approx(2, rel=1e-4) and tau.max() == pytest.approx(100, rel=1e-4)
    np.testing.assert_allclose(np.diff(np.log(tau)), np.log(50) / 49, rtol=1e-3)
    for horizon in (1, 2):
        np.testing.assert_array_equal(started(mingru.Mixer(4, 5, horizon), 4)["bias_z"], 0.0)


def test_lru_starts_uniformly_in_a_ring():
    n, ring = 4000, dict(r_min=0.5, r_max=0.9, max_phase=1.5)
    params = started(lru.DiagonalSSM(n, functools.partial(lru.lru_system, n=n, **ring)), 3)
    radius, phase = decays(params), np.exp(params["theta_log"])
    assert 0.5 <= radius.min() < 0.51 and 0.89 < radius.max() <= 0.9
    assert np.mean(radius**2) == pytest.approx((0.5**2 + 0.9**2) / 2, abs=0.01)
    assert 0 < phase.min() < 0.01 and 1.49 < phase.max() <= 1.5
    np.testing.assert_allclose(np.exp(2 * np.asarray(params["gamma_log"])), 1 - radius**2, rtol=1e-4)
    assert np.var(params["B"]) == pytest.approx(1 / (2 * 3), rel=0.05)
    assert np.var(params["C"]) == pytest.approx(1 / n, rel=0.05)


@pytest.mark.parametrize(
    "module",
    [
        lru.DiagonalSSM(64, functools.partial(lru.lru_system, n=64, r_min=0.2, r_max=0.98, max_phase=6.28)),
        rtu.Units(64, "linear", "tanh"),
    ],
    ids=["lru", "rtu"],
)
def test_states_of_white_noise_have_variance_1(module):
    """Each of the two numbers of an RTU; together for LRU, whose input is complex with half a variance a part."""
    d, batch = 32, 64
    x = jax.random.normal(jax.random.key(1), (300, batch, d))
    params = started(module, d)
    carry, _ = jax.jit(module.apply)(
        {"params": params}, module.initialize_carry((batch,)), x, jnp.ones(x.shape[:2])
    )
    fast = decays(params) < 0.98
    variance = np.mean(np.square(carry.re) + np.square(carry.im), axis=0)[fast]
    expected = 1 if isinstance(module, lru.DiagonalSSM) else 2
    assert np.mean(variance) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("n,n_blocks", [(1, 1), (6, 1), (6, 3)])
def test_hippo_is_diagonalised(n, n_blocks):
    size = 2 * n // n_blocks
    p = np.sqrt(np.arange(size) + 0.5)
    A = np.array(
        [
            [-np.sqrt((2 * i + 1) * (2 * j + 1)) if i > j else -(i + 1.0) * (i == j) for j in range(size)]
            for i in range(size)
        ]
    )
    normal = np.kron(np.eye(n_blocks), A + np.outer(p, p))
    frequencies, vectors = lru.hippo(n, n_blocks)
    np.testing.assert_allclose(normal @ vectors, vectors * (-0.5 + 1j * frequencies), atol=1e-10)
    np.testing.assert_allclose(vectors.conj().T @ vectors, np.eye(n), atol=1e-10)
    assert np.all(frequencies < 0) and np.all(np.diff(frequencies.reshape(n_blocks, -1)) > 0)


def test_s5_starts_as_hippo_with_its_output_as_large_as_its_skip():
    n, d = 32, 16
    params = started(lru.DiagonalSSM(n, functools.partial(lru.s5_system, n=n)), d)
    step = np.exp(params["log_step"])
    assert 1e-3 <= step.min() and step.max() <= 1e-1 and step.max() > 10 * step.min()
    np.testing.assert_allclose(np.exp(params["a_log"]), 0.5, rtol=1e-6)
    np.testing.assert_allclose(params["b"], lru.hippo(n, 1)[0], rtol=1e-5)
    assert np.mean(np.square(params["B"])) == pytest.approx(1 / (4 * n), rel=0.1)
    assert np.mean(np.square(params["C"])) == pytest.approx(1 / (2 * n), rel=0.1)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_small_steps_do_not_cancel(discretization, x64):
    """float32 keeps the digits of lambda - 1, and both rules agree with the sum they stand for."""
    rng = np.random.default_rng(0)
    a, b, step = -np.exp(rng.normal(size=50)), rng.normal(size=50), np.full(50, 1e-3)
    wide = lru.discretize(a, b, step, discretization)
    narrow = lru.discretize(*(jnp.float32(x) for x in (a, b, step)), discretization)
    eigenvalue, scale = a + 1j * b, wide[1].re + 1j * wide[1].im
    np.testing.assert_allclose(narrow[1].re + 1j * np.asarray(narrow[1].im), scale, rtol=2e-6)
    # x' = Lambda x + u from 0 with u = 1: what one step adds is the integral of exp(Lambda t) over it.
    exact = np.expm1(eigenvalue * step) / eigenvalue
    np.testing.assert_allclose(scale, exact, rtol=1e-12 if discretization == "zoh" else 1e-5)


@pytest.mark.parametrize("prenorm", [True, False])
@pytest.mark.parametrize("activation", ["full_glu", "half_glu1"])
def test_a_layer_is_its_equations(activation, prenorm, x64):
    n, d = 3, 4
    system = functools.partial(lru.s5_system, n=n)
    layer, ssm = lru.Layer(n, system, activation, prenorm), lru.DiagonalSSM(n, system)
    params = started(layer, d, jnp.float64)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(p + 0.3 * rng.normal(size=p.shape)), params)
    x, keep = jnp.asarray(rng.normal(size=(9, 2, d))), jnp.ones((9, 2))

    def norm(x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(np.mean(centred**2, -1, keepdims=True) + 1e-6)
        return scaled * params["norm"]["scale"] + params["norm"]["bias"]

    start = ssm.initialize_carry((2,))
    y = jax.nn.gelu(ssm.apply({"params": params["ssm"]}, start, norm(x) if prenorm else x, keep)[1])
    glu = y @ params["glu"]["kernel"] + params["glu"]["bias"]
    value, gate = (glu[..., :d], glu[..., d:]) if activation == "full_glu" else (y, glu)
    expected = x + value * jax.nn.sigmoid(gate)
    expected = expected if prenorm else norm(expected)
    np.testing.assert_allclose(layer.apply({"params": params}, start, x, keep)[1], expected, rtol=1e-9, atol=1e-9)


def test_no_parameter_makes_a_memory_grow():
    """Whatever an optimiser does to the parameters, without inputs a memory fades, and gradients are finite."""
    rng = np.random.default_rng(0)
    n, d = 40, 3

    def ssm(system, **settings):
        return lru.DiagonalSSM(n, functools.partial(system, n=n, **settings))

    modules = [
        ssm(lru.lru_system, r_min=0.0, r_max=1.0, max_phase=6.28),
        ssm(lru.s5_system, discretization="zoh"),
        ssm(lru.s5_system, discretization="bilinear"),
        rtu.Units(n, "linear", "relu"),
        rtu.Units(n, "nonlinear", "relu"),
        ffm.Mixer(d, n, 2),
        mingru.Mixer(d, n),
    ]
    x, keep = jnp.zeros((400, 1, d)), jnp.ones((400, 1))
    for module in modules:

        def draw(path, leaf):
            biased = path[-1].key == "bias"  # of gates: not of what decays
            return jnp.asarray(0 if biased else rng.normal(0, 3, leaf.shape), jnp.float32) * jnp.ones(leaf.shape)

        shapes = jax.eval_shape(functools.partial(started, module, d))
        start = jax.tree.map(jnp.ones_like, module.initialize_carry((1,)))

        @jax.jit
        @jax.value_and_grad
        def size(params, module=module, start=start):
            carry, _ = module.apply({"params": params}, start, x, keep)
            return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(carry))

        end, gradient = size(jax.tree_util.tree_map_with_path(draw, shapes))
        assert end <= 1.001 * sum(leaf.size for leaf in jax.tree.leaves(start))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_ffm_starts_with_the_released_decays():
    params = started(ffm.Mixer(4, 8, 3), 4)
    decay = -np.exp(params["a_log"])
    np.testing.assert_allclose(decay[[0, -1]], [-0.6731, np.log(0.01) / 1024], rtol=1e-3)
    np.testing.assert_allclose(np.diff(decay), np.diff(decay)[0], rtol=1e-3)  # evenly spread
    np.testing.assert_allclose(params["b"], 2 * np.pi / np.array([1, 512.5, 1024]), rtol=1e-5)
    for layer, d_in in (("input", 4), ("mix", 2 * 8 * 3)):
        for kind in ("kernel", "bias"):
            largest = np.abs(params[layer][kind]).max()
            assert 0.5 / np.sqrt(d_in) < largest <= 1 / np.sqrt(d_in)


@pytest.mark.parametrize("name", ["lru", "s5", "rtu", "ffm"])
def test_an_acting_step_has_no_complex_numbers(name):
    core = small(name)
    inputs, resets = segment(0, 1, (2,), jnp.float32)
    carry = core.initialize_carry((2,))
    params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
    assert "complex" not in jax.jit(core.apply).lower(params, carry, inputs, resets).as_text()
    assert all(leaf.dtype == jnp.float32 for leaf in floats((params, carry)))
    assert len(floats((params, carry))) == len(jax.tree.leaves((params, carry)))


@pytest.mark.parametrize("n_frames", [1, 3])
def test_frame_stack_sees_just_its_frames(n_frames):
    core = networks.make_core("frame_stack", n_frames=n_frames, d_model=8)
    inputs, resets = segment(0, 6, (1,), jnp.float32, 0.0)
    carry = core.initialize_carry((1,))
    params = jax.jit(core.init)(jax.random.key(0), carry, inputs, resets)
    gradient = jax.jit(jax.grad(lambda inputs: core.apply(params, carry, inputs, resets)[1][-1].sum()))(inputs)
    seen = np.any(np.asarray(gradient) != 0, axis=(1, 2))
    np.testing.assert_array_equal(seen, np.arange(6) >= 6 - n_frames)


@pytest.mark.parametrize("name", ["frame_stack", "memory_trace"])
def test_a_memory_of_nothing_is_zero(name):
    """The embedding has no bias: what has not happened is zero, not the image of zero."""
    core = small(name)
    inputs, resets = segment(0, 1, (1,), jnp.float32)
    params = jax.eval_shape(core.init, jax.random.key(0), core.initialize_carry((1,)), inputs, resets)["params"]
    assert params["embedding"].keys() == {"kernel"}


def test_memory_trace_rates_reach_from_the_present_to_the_horizon():
    def rates(**settings):
        return networks.make_core("memory_trace", **settings).features().rates

    np.testing.assert_allclose(rates(n_rates=4, horizon=8), [0, 0.5, 0.75, 0.875])
    assert rates(n_rates=1, horizon=8) == (0.0,)
    assert rates(n_rates=3, horizon=1) == (0.0, 0.0, 0.0)


def test_an_episodic_trace_of_a_constant_is_that_constant():
    module = memory_trace.Traces((0.0, 0.5, 0.999), 2, episodic=True)
    keep = jnp.ones((5000, 1)).at[3].set(0.0)
    carry, features = module.apply({}, module.initialize_carry((1,)), jnp.full((5000, 1, 2), 3.0), keep)
    np.testing.assert_allclose(features, 3.0, rtol=1e-4)
    np.testing.assert_allclose(carry.weight[0, :, 0], [1.0, 1.0, 1 - 0.999**4997], rtol=1e-4)
    assert memory_trace.Traces((0.0,), 2).initialize_carry((1,)).weight is None


@pytest.mark.parametrize(
    "name,settings,message",
    [
        ("lru", {"r_min": -0.1}, "core.r_min=-0.1: must be from 0 to 1"),
        ("lru", {"r_max": 1.5}, "core.r_max=1.5: must be from 0 to 1"),
        ("lru", {"r_min": 0.9, "r_max": 0.9}, "core.r_min=0.9: must be smaller than r_max=0.9"),
        ("lru", {"max_phase": 0.0}, "core.max_phase=0.0: must be greater than 0"),
        ("lru", {"r_min": float("nan")}, "core.r_min=nan: must be from 0 to 1"),
        ("lru", {"r_min": 0}, "core.r_min=0: must be of type float"),
        ("lru", {"d_state": 1025}, "core.d_state=1025: must be from 1 to 1024"),
        ("s5", {"d_state": 6, "n_blocks": 4}, "core.n_blocks=4: must divide d_state=6"),
        ("s5", {"step_min": 0.0}, "core.step_min=0.0: must be greater than 0"),
        ("s5", {"step_max": 1e-4}, "core.step_max=0.0001: must be greater than step_min=0.001"),
        ("s5", {"discretization": "foh"}, "core.discretization='foh': unknown; allowed: zoh, bilinear"),
        ("s5", {"activation": "gelu"}, "core.activation='gelu': unknown; allowed: full_glu, half_glu1"),
        ("rtu", {"update": "lin"}, "core.update='lin': unknown; allowed: linear, nonlinear"),
        ("rtu", {"activation": "elu"}, "core.activation='elu': unknown; allowed: tanh, relu"),
        ("ffm", {"n_contexts": 0}, "core.n_contexts=0: must be from 1 to 65536"),
        ("mingru", {"horizon": 0}, "core.horizon=0: must be from 1 to 65536"),
        ("arelit", {"horizon": 0}, "core.horizon=0: must be from 1 to 65536"),
        ("arelit", {"gate_bias": float("nan")}, "core.gate_bias=nan: must be finite"),
        ("arelit", {"gate_bias": 1}, "core.gate_bias=1: must be of type float"),
        ("frame_stack", {"n_frames": 0}, "core.n_frames=0: must be from 1 to 1024"),
        ("memory_trace", {"episodic": 1}, "core.episodic=1: must be of type bool"),
    ],
)
def test_impossible_settings_are_named(name, settings, message):
    with pytest.raises(ValueError) as error:
        networks.make_core(name, **settings)
    assert str(error.value) == message


@pytest.mark.parametrize("epsilon", [1e-5, None])
def test_rms_norm_is_torchs(epsilon, x64):
    x = np.random.default_rng(0).normal(size=(3, 5)) * 1e-3
    params = {"scale": np.arange(1.0, 6.0)}
    expected = params["scale"] * x / np.sqrt(np.mean(x**2, -1, keepdims=True) + (epsilon or 2.0**-52))
    np.testing.assert_allclose(
        blocks.RMSNorm(epsilon).apply({"params": params}, jnp.asarray(x)), expected, rtol=1e-12
    )
    narrow = blocks.RMSNorm(None).apply({"params": params}, jnp.zeros(5, jnp.float32))
    assert np.all(np.asarray(narrow) == 0)


def test_inputs_of_any_width_leave_the_carry_as_it_is():
    for name in ("frame_stack", "memory_trace", "lru"):
        core = small(name)
        for width in (1, INPUT_WIDTH, 9):
            carry, inputs, resets = core.initialize_carry((2,)), jnp.ones((3, 2, width)), jnp.zeros((3, 2), bool)
            params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
            after, _ = jax.eval_shape(core.apply, params, carry, inputs, resets)
            assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, carry)
