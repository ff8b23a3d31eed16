"""Each recurrence with its written-out gradient, against a plain loop differentiated by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import recurrence
from networks.gru import gru_cell
from networks.lstm import lstm_cell
from tests.networks.cases import assert_close

T = 11


@pytest.fixture
def normal(x64):
    rng = np.random.default_rng(0)
    return lambda *shape: jnp.asarray(rng.normal(size=shape))


@pytest.fixture
def keep(x64):
    return jnp.asarray(np.random.default_rng(1).random((T, 2)) > 0.2, jnp.float64)


def same_values_and_gradients(run, plain, *args):
    def scalar(function):
        return lambda *args: sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(function(*args)))

    argnums = tuple(range(len(args)))
    assert_close(jax.jit(run)(*args), jax.jit(plain)(*args), 1e-12)
    actual = jax.jit(jax.grad(scalar(run), argnums))(*args)
    assert_close(actual, jax.jit(jax.grad(scalar(plain), argnums))(*args), 1e-10)


@pytest.mark.parametrize("form", ["sequential", "associative"])
@pytest.mark.parametrize("decay_shape", [(2, 3), (1, 3), (2, 1)], ids=str)
def test_linear(normal, form, decay_shape):
    def plain(decay, update, x):
        states = []
        for t in range(T):
            x = decay[t] * x + update[t]
            states.append(x)
        return jnp.stack(states)

    def run(*args):
        return recurrence.linear_recurrence(*args, form)

    same_values_and_gradients(run, plain, jax.nn.sigmoid(normal(T, *decay_shape)), normal(T, 2, 3), normal(2, 3))


def test_outer(normal, keep):
    shapes = {"row": (T, 2, 3), "column": (T, 2, 4)}
    vectors = [normal(*shapes[side]) for _ in range(3) for side in ("row", "column")]
    scales = (jnp.ones((T, 2)), normal(T, 2))

    def run(matrices, *vectors):
        return recurrence.outer_recurrence(matrices, recurrence.OuterInputs(keep, scales, *vectors))

    def plain(matrices, *vectors):
        readouts = []
        for t in range(T):
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            gate, key, query = (row[t][:, :, None] * column[t][:, None, :] for row, column in pairs)
            matrices = tuple(
                keep[t][:, None, None] * (1 - gate) * z + c[t][:, None, None] * gate * key
                for z, c in zip(matrices, scales, strict=True)
            )
            readouts.append([(z * query).sum((-2, -1)) for z in matrices])
        return matrices, tuple(jnp.stack(each) for each in zip(*readouts, strict=True))

    same_values_and_gradients(run, plain, (normal(2, 3, 4), normal(2, 3, 4)), *vectors)


@pytest.mark.parametrize("erase", [False, True])
@pytest.mark.parametrize(
    "chunk", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(16, marks=pytest.mark.slow)]
)
def test_matrix(normal, keep, erase, chunk, monkeypatch):
    monkeypatch.setattr(recurrence, "MATRIX_CHUNK", chunk)
    gates = [jax.nn.sigmoid(normal(T, 2, 3)), jax.nn.sigmoid(normal(T, 2, 4))]
    vectors = [normal(T, 2, 3), 0.5 * normal(T, 2, 4), normal(T, 2, 4)]
    erasures = [jax.nn.sigmoid(normal(T, 2))] if erase else []

    def run(matrix, *inputs):
        return recurrence.matrix_recurrence(matrix, recurrence.MatrixInputs(keep, *inputs))

    def plain(matrix, b, g, w, k, q, e=None):
        readouts = []
        for t in range(T):
            matrix = keep[t][:, None, None] * matrix
            row = w[t] if e is None else w[t] - e[t][:, None] * (matrix @ k[t][..., None])[..., 0]
            matrix = (1 - b[t][..., None] * g[t][:, None]) * matrix + row[..., None] * k[t][:, None]
            readouts.append((matrix @ q[t][..., None])[..., 0])
        return matrix, jnp.stack(readouts)

    same_values_and_gradients(run, plain, normal(2, 3, 4), *gates, *vectors, *erasures)


@pytest.mark.parametrize("cell,gates,leaves", [(lstm_cell, 4, 2), (gru_cell, 3, 1)])
def test_cell(normal, keep, cell, gates, leaves):
    d = 3

    def run(kernel, bias, initial, inputs):
        return recurrence.cell_recurrence(cell, kernel, bias, initial, inputs, keep)

    def plain(kernel, bias, state, inputs):
        states = []
        for t in range(T):
            state = tuple(keep[t][:, None] * x for x in state)
            state = cell(state, inputs[t], state[-1] @ kernel + bias)
            states.append(state)
        return jax.tree.map(lambda *x: jnp.stack(x), *states)

    initial = tuple(normal(2, d) for _ in range(leaves))
    arguments = (normal(d, gates * d), normal(gates * d), initial, normal(T, 2, gates * d))
    same_values_and_gradients(run, plain, *arguments)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_cells_are_flaxs(name, x64):
    """The equations of flax's own cells, by the released names of their parameters."""
    import flax.linen as nn

    import networks

    rng = np.random.default_rng(0)
    d, flax_cell = 5, {"LSTM": nn.OptimizedLSTMCell, "GRU": nn.GRUCell}[name](5)
    core = networks.make_core(name.lower(), n_layers=1, d_model=d)
    inputs = jnp.asarray(rng.normal(size=(7, 2, 3)))
    state = flax_cell.initialize_carry(jax.random.key(0), (2, 3))
    params = flax_cell.init(jax.random.key(0), state, inputs[0])["params"]
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
    prefix = f"{name}_0/Scan{name}out_0/{type(flax_cell).__name__}"
    flat = {f"{prefix}_0/{gate}/{kind}": x for gate, part in params.items() for kind, x in part.items()}
    variables = networks.import_reference_params(core, flat)
    outputs = core.apply(variables, core.initialize_carry((2,)), inputs, jnp.zeros((7, 2), bool))[1]
    for t in range(7):
        state, expected = flax_cell.apply({"params": params}, state, inputs[t])
        assert_close(outputs[t], expected, 1e-9)


def test_split_and_join_time():
    x = jnp.arange(10.0)[:, None]
    chunks = recurrence.split_time(x, 4, fill=-1.0)
    assert chunks.shape == (3, 4, 1)
    np.testing.assert_array_equal(chunks[-1, 2:], -1.0)
    np.testing.assert_array_equal(recurrence.join_time(chunks, 10), x)
