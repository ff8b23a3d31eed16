"""What every memory core must satisfy. Cores come from the registry: a new one is tested without a change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import networks
from tests.networks.cases import (
    INPUT_WIDTH,
    assert_close,
    case_ids,
    floats,
    harness,
    segment,
    show,
    small,
    zero_cotangent,
)

pytestmark = pytest.mark.usefixtures("short_chunks")
every_case = pytest.mark.parametrize("case", case_ids(), ids=show)
# Their gradient stops at the carry, so it depends on where a segment is cut.
STOPS_GRADIENT = {"gtrxl"}
MEMORYLESS = {"feedforward"}
DELTA = ("relit", (("update_rule", "delta"), ("kernel", "relu")))  # divides by norms that may be zero

few = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Two lengths, for each is compiled; LONG spans three of the short chunks.
LONG = 5
chunkings = st.lists(st.sampled_from([1, LONG]), min_size=1, max_size=4)
seeds = st.integers(0, 2**31 - 1)
reset_rates = st.sampled_from([0.0, 0.15, 0.5, 1.0])
BATCH = (2,)


@every_case
@few
@given(pieces=chunkings, warm=chunkings, seed=seeds, reset_rate=reset_rates)
def test_stepwise_is_segment_is_any_chunking(case, pieces, warm, seed, reset_rate):
    with jax.enable_x64(True):
        core, length = harness(case, jnp.float64), sum(pieces) + sum(warm)
        inputs, resets = segment(seed, length, BATCH, jnp.float64, reset_rate)
        stepwise = core.run(core.carry(BATCH), inputs, resets, [1] * length)
        chunked = core.run(core.carry(BATCH), inputs, resets, warm + pieces)
        assert stepwise[1].dtype == jnp.float64
        assert_close(chunked, stepwise, 1e-9)


@every_case
@few
@given(pieces=chunkings, seed=seeds, reset_rate=reset_rates)
def test_gradient_does_not_depend_on_chunking(case, pieces, seed, reset_rate):
    if case[0] in STOPS_GRADIENT:
        pytest.skip("the gradient stops at the carry; see the test of this core against its plain form")
    with jax.enable_x64(True):
        core, length = harness(case, jnp.float64), sum(pieces)
        inputs, resets = segment(seed, length + LONG, BATCH, jnp.float64, reset_rate)
        carry, outputs = core.run(core.carry(BATCH), inputs[:LONG], resets[:LONG], [LONG])
        inputs, resets = inputs[LONG:], resets[LONG:]
        d_outputs = segment(seed + 1, length, (*BATCH, outputs.shape[-1]), jnp.float64)[0][..., 0]
        stepwise = core.gradient(carry, inputs, resets, d_outputs, [1] * length)
        chunked = core.gradient(carry, inputs, resets, d_outputs, pieces)
        assert_close(chunked, stepwise, 1e-9)


@every_case
def test_gradient_is_the_slope(case, x64):
    """Against finite differences along a random direction of parameters and inputs."""
    if case[0] in STOPS_GRADIENT:
        pytest.skip("finite differences see through the carry")
    core = harness(case, jnp.float64)
    inputs, resets = segment(3, LONG, BATCH, jnp.float64, 0.0)
    rng = np.random.default_rng(4)
    start, outputs = core.run(core.carry(BATCH), inputs, resets, [LONG])
    d_outputs = jnp.asarray(rng.normal(size=outputs.shape))
    gradient = core.gradient(start, inputs, resets, d_outputs, [LONG])
    point = (core.params, start, inputs)
    # In proportion to the point: norms that are zero must not turn negative.
    direction = jax.tree.map(lambda x: jnp.asarray(x * rng.normal(size=x.shape)), point)

    def loss(step):
        params, carry, inputs = jax.tree.map(
            lambda x, d: x + step * d if jnp.issubdtype(x.dtype, jnp.floating) else x, point, direction
        )
        return float(jnp.sum(d_outputs * core.apply(params, carry, inputs, resets)[1]))

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    products = [jnp.sum(g * d) for g, d in zip(floats(gradient), _aligned(gradient, direction), strict=True)]
    np.testing.assert_allclose(float(sum(products)), slope, rtol=1e-4, atol=1e-7)


def _aligned(gradient, direction):
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    return [d for g, d in pairs if jnp.issubdtype(g.dtype, jnp.floating)]


@every_case
@few
@given(at=st.sampled_from([1, LONG]), seed=seeds)
def test_a_reset_is_a_fresh_start(case, at, seed):
    """Everything after it is as from a fresh carry; only AReLiT's phase runs on."""
    with jax.enable_x64(True):
        core = harness(case, jnp.float64)
        inputs, resets = segment(seed, at + LONG, BATCH, jnp.float64, 0.1)
        resets = resets.at[at].set(True)
        carry, _ = core.run(core.carry(BATCH), inputs[:at], resets[:at], [at])
        fresh = core.carry(BATCH)
        if case[0] == "arelit":
            fresh = fresh._replace(phase=carry.phase)
        expected = core.run(fresh, inputs[at:], resets[at:].at[0].set(False), [LONG])[1]
        assert_close(core.run(carry, inputs[at:], resets[at:], [LONG])[1], expected, 1e-9)
        whole = core.run(core.carry(BATCH), inputs, resets, [1] * at + [LONG])[1]
        assert_close(whole[at:], expected, 1e-9)


@every_case
@few
@given(at=st.integers(1, LONG - 1), seed=seeds)
def test_no_gradient_crosses_a_reset(case, at, seed):
    with jax.enable_x64(True):
        core = harness(case, jnp.float64)
        inputs, resets = segment(seed, LONG, BATCH, jnp.float64, 0.0)
        carry, outputs = core.run(core.carry(BATCH), inputs, resets, [LONG])
        d_outputs = jnp.ones_like(outputs).at[:at].set(0.0)
        reset_at = resets.at[at].set(True)
        _, d_carry, d_inputs = core.gradient(carry, inputs, reset_at, d_outputs, [LONG])
        assert all(np.all(np.asarray(leaf) == 0) for leaf in floats(d_carry))
        np.testing.assert_array_equal(d_inputs[:at], 0.0)


@every_case
def test_without_a_reset_there_is_a_gradient(case, x64):
    core = harness(case, jnp.float64)
    largest = 0.0
    for seed in range(5):
        inputs, resets = segment(seed, LONG, BATCH, jnp.float64, 0.0)
        outputs = core.run(core.carry(BATCH), inputs, resets, [LONG])[1]
        d_outputs = jnp.ones_like(outputs).at[:2].set(0.0)
        d_inputs = core.gradient(core.carry(BATCH), inputs, resets, d_outputs, [LONG])[2]
        largest = max(largest, np.abs(d_inputs[:2]).max())
    assert (largest > 0) == (case[0] not in MEMORYLESS)


@pytest.mark.parametrize("name", networks.CORES)
def test_float32_agrees_to_tolerance(name):
    # Wider than elsewhere: LayerNorm over three numbers amplifies rounding.
    wider = {"d_model": 16, "d_head": 8}
    fields = networks.hyperparameters(name)
    core = harness((name, tuple((k, v) for k, v in wider.items() if k in fields)), jnp.float32)
    inputs, resets = segment(0, 36, BATCH, jnp.float32, 0.1)
    stepwise = core.run(core.carry(BATCH), inputs, resets, [1] * 36)
    whole = core.run(core.carry(BATCH), inputs, resets, [36])
    assert whole[1].dtype == jnp.float32
    assert_close(whole, stepwise, 1e-4 if name == "relit" else 1e-5)


@pytest.mark.parametrize("case", [*((name, ()) for name in networks.CORES), DELTA], ids=show)
@pytest.mark.parametrize("kind", ["zeros", "all resets", "one step"])
def test_gradients_are_finite(case, kind):
    core = harness(case, jnp.float32)
    length, batch = (1, (1,)) if kind == "one step" else (LONG, BATCH)
    inputs, resets = segment(0, length, batch, jnp.float32)
    if kind == "zeros":
        inputs = jnp.zeros_like(inputs)
    if kind == "all resets":
        resets = jnp.ones_like(resets)
    outputs = core.run(core.carry(batch), inputs, resets, [length])[1]
    assert np.all(np.isfinite(outputs))
    for leaf in floats(core.gradient(core.carry(batch), inputs, resets, jnp.ones_like(outputs), [length])):
        assert np.all(np.isfinite(leaf))
    # Zero biases as at the start: zero inputs then mean keys, queries and norms of exactly zero.
    d_carry = jax.tree.map(zero_cotangent, core.carry(batch))
    gradient = core.pull(core.unbiased, core.carry(batch), inputs, resets, d_carry, jnp.ones_like(outputs))
    assert all(np.all(np.isfinite(leaf)) for leaf in floats(gradient))


@pytest.mark.parametrize("name", networks.CORES)
@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
def test_batch_axes_are_independent(name, batch):
    """Any number of batch axes; each element is what it is alone; the carry's leaves lead with them."""
    core = harness((name, ()), jnp.float32)
    inputs, resets = segment(0, LONG, batch, jnp.float32)
    initial = core.carry(batch)
    carry, outputs = core.run(initial, inputs, resets, [LONG])
    assert outputs.shape == (LONG, *batch, core.core.d_model)
    assert jax.tree.structure(carry) == jax.tree.structure(initial)
    for before, after in zip(jax.tree.leaves(initial), jax.tree.leaves(carry), strict=True):
        assert after.shape == before.shape and after.dtype == before.dtype
        assert after.shape[: len(batch)] == batch
    for index in np.ndindex(*batch):
        element = (slice(None), *index)
        alone = core.run(core.carry((1,)), inputs[element][:, None], resets[element][:, None], [LONG])
        assert_close(outputs[element], alone[1][:, 0], 1e-5)


@pytest.mark.parametrize("name", networks.CORES)
def test_vmap_over_parameters(name):
    """Seeds side by side: each as alone."""
    core = harness((name, ()), jnp.float32)
    inputs, resets = segment(0, LONG, BATCH, jnp.float32)
    seeds = [core.params, jax.tree.map(lambda p: 0.9 * p, core.params)]
    stacked = jax.tree.map(lambda *p: jnp.stack(p), *seeds)
    apply = jax.jit(jax.vmap(core.core.apply, in_axes=(0, None, None, None)))
    outputs = apply(stacked, core.carry(BATCH), inputs, resets)[1]
    for params, output in zip(seeds, outputs, strict=True):
        assert_close(output, core.apply(params, core.carry(BATCH), inputs, resets)[1], 1e-4)


@pytest.mark.parametrize("name", networks.CORES)
def test_program_does_not_grow_with_layers_or_time(name):
    """Forward and gradient of twice the layers are about as many operations; T makes no difference."""
    has_layers = "n_layers" in networks.hyperparameters(name)

    def operations(n_layers, length):
        core = small(name, **{"n_layers": n_layers} if has_layers else {})
        inputs, resets = jnp.zeros((length, 2, INPUT_WIDTH)), jnp.zeros((length, 2), bool)
        carry = core.initialize_carry((2,))
        params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
        gradient = jax.grad(lambda params, *args: core.apply(params, *args)[1].sum())
        return jax.jit(gradient).lower(params, carry, inputs, resets).as_text().count("\n")

    base = operations(3, 32)
    assert operations(3, 256) <= 1.05 * base
    if has_layers and name not in MEMORYLESS:
        scanned = operations(6, 32)
        assert scanned <= 1.6 * base
        assert operations(12, 32) <= 1.6 * scanned
