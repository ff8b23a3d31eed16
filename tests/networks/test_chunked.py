"""Matrix memories in chunks against the same memories step by step, by matrix_recurrence and its own gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import chunked
from networks.recurrence import MatrixInputs, matrix_recurrence
from tests.networks.cases import assert_close

T, B, H, K, V, CHUNK = 14, 2, 3, 4, 5, 4  # chunks of 4, 4, 4 and 2 steps
SIZES = {"log_decay": (), "log_forget": (), "log_input": (), "rate": (), "key": (K,), "query": (K,), "value": (V,)}


def random_inputs(kind, rng, dtype=jnp.float64, length=T):
    """Inputs of usual size, of the memory's class."""

    def draw(name):
        x = rng.normal(size=(length, B, H, *SIZES[name]))
        x = {"log_decay": -np.exp(x - 1), "log_forget": -np.exp(x - 1), "rate": 2 / (1 + np.exp(-x))}.get(name, x)
        return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True) if name == "key" else x, dtype)

    return kind(**{name: draw(name) for name in kind._fields})


def random_state(kind, rng, dtype=jnp.float64):
    matrix = jnp.asarray(rng.normal(size=(B, H, K, V)), dtype)
    if kind is not chunked.MLSTMInputs:
        return matrix
    norm, stabiliser = rng.normal(size=(B, H, K)), rng.normal(size=(B, H))
    return chunked.MLSTMState(matrix, jnp.asarray(norm, dtype), jnp.asarray(stabiliser, dtype))


def steps(matrix, keep, decay, row, key, query, erase=None):
    """matrix_recurrence of C = [value, key] with one decay a head; matrix [B, H, K, V], row: the value written."""
    keep = jnp.broadcast_to(keep[..., None], decay.shape)
    row_gate = jnp.broadcast_to(1 - decay[..., None], row.shape)
    inputs = MatrixInputs(keep, row_gate, jnp.ones_like(key), row, key, query, erase)
    matrix, readouts = matrix_recurrence(jnp.swapaxes(matrix, -1, -2), inputs)
    return jnp.swapaxes(matrix, -1, -2), readouts


def ssd_steps(state, keep, x):
    return steps(state, keep, jnp.exp(x.log_decay), x.value, x.key, x.query)


def gated_delta_steps(state, keep, x):
    decay = jnp.exp(x.log_decay)
    return steps(state, keep, decay, x.rate[..., None] * x.value, x.key, x.query, decay * x.rate)


def mlstm_steps(state, keep, x):
    def stabilise(m, step):
        keep, log_forget, log_input = step
        entering = log_forget + keep[..., None] * m
        m = jax.lax.stop_gradient(jnp.maximum(entering, log_input))
        return m, (m, jnp.exp(entering - m), jnp.exp(log_input - m))

    last, (m, forget, take) = jax.lax.scan(stabilise, state.stabiliser, (keep, x.log_forget, x.log_input))
    value = jnp.concatenate([x.value, jnp.ones_like(x.value[..., :1])], axis=-1)
    matrix = jnp.concatenate([state.matrix, state.norm[..., None]], axis=-1)
    matrix, readouts = steps(matrix, keep, forget, take[..., None] * value, x.key, x.query)
    denominator = jnp.maximum(jnp.abs(readouts[..., -1:]), jnp.exp(-m)[..., None]) + 1e-6
    return chunked.MLSTMState(matrix[..., :-1], matrix[..., -1], last), readouts[..., :-1] / denominator


FORMS = {
    chunked.ssd: (ssd_steps, chunked.SSDInputs),
    chunked.gated_delta: (gated_delta_steps, chunked.DeltaInputs),
    chunked.mlstm: (mlstm_steps, chunked.MLSTMInputs),
}
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
RESETS = {
    "none": [],
    "first step": [0],
    "last step": [T - 1],
    "two in a row": [5, 6],
    "at a border": [CHUNK],
    "before a border": [2 * CHUNK - 1],
    "twice in a chunk": [CHUNK + 1, CHUNK + 3],
    "everywhere": [*range(T)],
}


@functools.cache
def values_and_gradients(run):
    """(state, keep, inputs) -> (state, read-outs, gradients of the state and all inputs), compiled."""

    def scalar(state, keep, inputs):
        result = run(state, keep, inputs)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(result)), result

    return jax.jit(jax.grad(scalar, (0, 2), has_aux=True))


@pytest.fixture(scope="module", autouse=True)
def four_steps_a_chunk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "CHUNK_LENGTH", {"cpu": CHUNK, "accelerator": CHUNK})
        yield


@every_form
@pytest.mark.parametrize("resets", RESETS.values(), ids=RESETS)
def test_chunks_are_the_steps(form, resets, x64):
    """Values and gradients, of the memory before the segment too; one environment has the resets, one has none."""
    plain, kind = FORMS[form]
    rng = np.random.default_rng(0)
    state, inputs = random_state(kind, rng), random_inputs(kind, rng)
    keep = jnp.ones((T, B)).at[jnp.asarray(resets, int), 0].set(0.0)
    actual = values_and_gradients(form)(state, keep, inputs)
    assert_close(actual, values_and_gradients(plain)(state, keep, inputs), 1e-10)


@every_form
def test_gates_far_from_usual_agree_in_float64(form, x64):
    """Decays of up to e^-60 a step, and input gates from e^-60 to e^60."""
    plain, kind = FORMS[form]
    rng = np.random.default_rng(1)
    state, inputs = random_state(kind, rng), random_inputs(kind, rng)
    decay, gates = -60 * rng.random((T, B, H)), rng.uniform(-60, 60, (T, B, H))
    extreme = {"log_decay": decay, "log_forget": decay, "log_input": gates}
    inputs = inputs._replace(**{name: jnp.asarray(extreme[name]) for name in kind._fields if name in extreme})
    keep = jnp.ones((T, B)).at[6, 0].set(0.0)
    actual = values_and_gradients(form)(state, keep, inputs)
    assert_close(actual, values_and_gradients(plain)(state, keep, inputs), 1e-9)


def test_repeated_keys_are_solved_to_rounding(x64, monkeypatch):
    """128 times the same key: powers of the overlaps grow to 1e11 there, too much for a series in float32."""
    monkeypatch.setattr(chunked, "CHUNK_LENGTH", {"cpu": 64, "accelerator": 64})
    rng = np.random.default_rng(2)
    inputs = jax.tree.map(lambda x: jnp.repeat(x, 128, axis=0), random_inputs(chunked.DeltaInputs, rng, length=1))
    inputs = inputs._replace(rate=jnp.full_like(inputs.rate, 0.99), log_decay=0.01 * inputs.log_decay)
    state, keep = random_state(chunked.DeltaInputs, rng), jnp.ones((128, B))
    expected = jax.jit(chunked.gated_delta)(state, keep, inputs)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), (state, keep, inputs))
    assert_close(jax.jit(chunked.gated_delta)(*single), expected, 1e-5)


@pytest.mark.parametrize("length", [1, 7, 16])
def test_unit_lower_systems_are_solved(length, x64):
    """Values and gradients against the general solver."""
    rng = np.random.default_rng(length)
    below = jnp.asarray(np.tril(rng.normal(size=(3, length, length)), -1))
    right, weights = (jnp.asarray(rng.normal(size=(3, length, 2))) for _ in range(2))

    def general(below, right):
        return jnp.linalg.solve(jnp.eye(length) + jnp.tril(below, -1), right)

    def own(below, right):
        return chunked.solve_unit_lower(jnp.tril(below, -1), right)

    def gradient(solve):
        return jax.grad(lambda *args: jnp.sum(weights * solve(*args)), (0, 1))(below, right)

    actual, expected = (
        jax.jit(lambda solve=solve: (solve(below, right), gradient(solve)))() for solve in (own, general)
    )
    assert_close(actual, expected, 1e-10)


def test_shut_gates_leave_finite_gradients():
    """100 steps of input and forget gates of e^-100, where exp(-m) is more than float32 holds, then usual ones."""
    rng = np.random.default_rng(3)
    length = 112
    inputs = random_inputs(chunked.MLSTMInputs, rng, jnp.float32, length)
    inputs = inputs._replace(
        log_input=inputs.log_input.at[:100].set(-100.0),
        log_forget=inputs.log_forget.at[:100].set(-100.0),
    )
    state = random_state(chunked.MLSTMInputs, rng, jnp.float32)
    keep = jnp.ones((length, B)).at[103, 0].set(0.0)
    for leaf in jax.tree.leaves(values_and_gradients(chunked.mlstm)(state, keep, inputs)):
        assert np.all(np.isfinite(leaf))


@every_form
def test_the_memory_after_a_reset_is_that_of_a_fresh_start(form, x64):
    """mLSTM's stabiliser too, whose start counts in the constant of its denominator."""
    _, kind = FORMS[form]
    rng = np.random.default_rng(4)
    state, inputs = random_state(kind, rng), random_inputs(kind, rng)
    fresh = jax.tree.map(jnp.zeros_like, state)
    run = jax.jit(form)
    at = 6
    keep = jnp.ones((T, B)).at[at].set(0.0)
    later = jax.tree.map(lambda x: x[at:], (jnp.ones((T, B)), inputs))
    expected = run(fresh, *later)
    after, readouts = run(state, keep, inputs)
    assert_close((after, readouts[at:]), expected, 1e-12)


@every_form
def test_one_step_has_no_loop(form):
    _, kind = FORMS[form]
    rng = np.random.default_rng(5)
    for length in (1, 2):
        args = (
            random_state(kind, rng, jnp.float32),
            jnp.ones((length, B)),
            random_inputs(kind, rng, jnp.float32, length),
        )
        assert ("stablehlo.while" in jax.jit(form).lower(*args).as_text()) == (length > 1)
