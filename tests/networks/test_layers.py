import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
from networks import layers
from networks.layers import GRUGate, common_dtype, orthogonal_columns, product
from tests.networks.cases import assert_close, segment, small


def test_columns_are_orthogonal_matrices_side_by_side():
    matrix = orthogonal_columns(3, 2.0)(jax.random.key(0), (4, 12))
    blocks = np.split(np.asarray(matrix), 3, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, 4 * np.eye(4), atol=1e-5)
    assert not np.allclose(blocks[0], blocks[1])


def test_gru_gate_without_a_sublayer():
    gate = GRUGate(lambda n: orthogonal_columns(n, 1.0))
    x, y = jnp.ones((2, 4)), jnp.zeros((2, 4))
    params = gate.init(jax.random.key(0), x, y)
    np.testing.assert_array_equal(params["params"]["bias"], 2.0)
    u_r, u_z = np.split(np.asarray(x @ params["params"]["U"]["kernel"]), 2, axis=1)
    z = 1 / (1 + np.exp(2 - u_z))
    h = np.tanh((nn.sigmoid(u_r) * x) @ params["params"]["U_g"]["kernel"])
    np.testing.assert_allclose(gate.apply(params, x, y), (1 - z) * x + z * h, atol=1e-6)


def test_common_dtype_takes_the_higher_and_leaves_integers(x64):
    carry = (jnp.zeros(2, jnp.float32), jnp.zeros(2, jnp.int32))
    cast, x = common_dtype(carry, jnp.zeros(3, jnp.float64))
    assert (cast[0].dtype, cast[1].dtype, x.dtype) == (jnp.float64, jnp.int32, jnp.float64)
    assert common_dtype(cast, jnp.zeros(3, jnp.float32))[1].dtype == jnp.float64


def test_mixed_precision_runs(x64):
    """Whichever of carry and inputs is float64."""
    for name in networks.CORES:
        core = small(name)
        for dtype in (jnp.float32, jnp.float64):
            inputs, resets = segment(0, 3, (2,), dtype)
            carry = core.initialize_carry((2,))
            params = jax.eval_shape(core.init, jax.random.key(0), carry, inputs, resets)
            after, _ = jax.eval_shape(core.apply, params, carry, inputs, resets)
            assert jax.tree.map(jnp.dtype, after) == jax.tree.map(jnp.dtype, carry)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (3, 2, 4)], ids=str)
def test_product_and_its_gradients(shape, x64):
    rng = np.random.default_rng(0)
    x, kernel, weights = (rng.normal(size=size) for size in (shape, (4, 3), (*shape[:-1], 3)))

    def scalar(function):
        return lambda x, kernel: jnp.sum(weights * jnp.sin(function(x, kernel)))

    assert_close(product(x, kernel), x @ kernel, 1e-12)
    expected = jax.grad(scalar(jnp.matmul), (0, 1))(x, kernel)
    assert_close(jax.grad(scalar(product), (0, 1))(x, kernel), expected, 1e-12)


@pytest.mark.parametrize("factor,other", [(jnp.float32, jnp.float64), (jnp.float64, jnp.float32)])
def test_gradients_of_a_product_are_of_their_factors_dtypes(factor, other, x64):
    x, kernel = jnp.ones((2, 4), factor), jnp.ones((4, 3), other)
    d_x, d_kernel = jax.grad(lambda *factors: product(*factors).sum(), (0, 1))(x, kernel)
    assert (d_x.dtype, d_kernel.dtype) == (factor, other)


@pytest.mark.parametrize("name", ["arelit", "gru"])
def test_scanned_layers_are_the_unrolled_ones(name, x64, monkeypatch):
    """Values and gradients of the same tree of parameters."""
    core = small(name).clone(n_layers=4)
    inputs, resets = segment(0, 6, (2,), jnp.float64)
    carry, _ = common_dtype(core.initialize_carry((2,)), inputs)
    params, _ = common_dtype(core.init(jax.random.key(0), carry, inputs, resets), inputs)

    def run(most_unrolled):
        monkeypatch.setattr(layers, "MOST_LAYERS_UNROLLED", most_unrolled)

        def scalar(params):
            after, outputs = core.apply(params, carry, inputs, resets)
            return jnp.sin(outputs).sum(), (after, outputs)

        return jax.jit(jax.value_and_grad(scalar, has_aux=True))(params)

    assert_close(run(2), run(4), 1e-9)


def test_a_core_called_twice_in_its_start_has_one_set_of_parameters():
    core = small("arelit").clone(n_layers=2)
    inputs, resets = segment(0, 3, (2,), jnp.float32)

    class Twice(nn.Module):
        core: nn.Module

        def __call__(self):
            carry = self.core.initialize_carry((2,))
            return [self.core(carry, inputs, resets)[1] for _ in range(2)]

    first, second = Twice(core).init_with_output(jax.random.key(0))[0]
    assert_close(first, second, 1e-6)


def test_layers_start_unlike_each_other():
    """Each as its block alone would: orthogonal matrices, no two alike."""
    core = small("arelit").clone(n_layers=3)
    inputs, resets = segment(0, 1, (2,), jnp.float32)
    params = core.init(jax.random.key(0), core.initialize_carry((2,)), inputs, resets)["params"]
    kernels = [np.asarray(params[f"layers_{i}"]["ffc_in"]["kernel"]) for i in range(3)]
    for i, kernel in enumerate(kernels):
        small_side = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
        np.testing.assert_allclose(small_side, 2 * np.eye(len(small_side)), atol=1e-5)
        assert not any(np.allclose(kernel, other) for other in kernels[:i])
