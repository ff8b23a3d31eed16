"""Recurrences over time, with their gradients written out.

The gradient of a scan stores every intermediate of its body and adds to the gradient of every weight in every
step. Each gradient here stores little more than the states, or less, computes the rest again, and leaves weights
to one product at the end.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from networks.precision import matmul, product_precision

Form = Literal["sequential", "associative"]


def default_form() -> Form:
    """Sequential on CPU, where a small loop body stays in cache; associative on accelerators, where a loop of
    T short kernels would be bound by launches."""
    return "sequential" if jax.default_backend() == "cpu" else "associative"


def split_time(x: jax.Array, max_chunk: int, fill: float = 0.0) -> jax.Array:
    """[T, ...] to [chunks, steps, ...], equal chunks of at most max_chunk steps, padded with `fill`."""
    num_chunks = -(-x.shape[0] // max_chunk)
    chunk = -(-x.shape[0] // num_chunks)
    x = jnp.pad(x, [(0, num_chunks * chunk - x.shape[0])] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
    return x.reshape(num_chunks, chunk, *x.shape[1:])


def join_time(x: jax.Array, length: int) -> jax.Array:
    """The inverse of split_time: [chunks, steps, ...] to [length, ...]."""
    return x.reshape(-1, *x.shape[2:])[:length]


# ------------------------------------------------------------------------------------------------------------
# Elementwise: x_t = a_t x_{t-1} + u_t


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def linear_recurrence(decay: jax.Array, update: jax.Array, initial: jax.Array, form: Form) -> jax.Array:
    """All states of x_t = decay_t * x_{t-1} + update_t.

    Args:
        decay: [T, ...], broadcastable to update (axes of size 1 allowed).
        update: [T, ...].
        initial: x_{-1}, of update's shape without T.
        form: "sequential" (lax.scan) or "associative" (lax.associative_scan); both give the same states.

    Returns:
        [T, ...], the states x_0 .. x_{T-1}.

    The gradient is a recurrence of the same kind, backwards in time: with g_t the cotangent of x_t,
    lambda_t = g_t + decay_{t+1} lambda_{t+1};  d update_t = lambda_t;  d decay_t = lambda_t x_{t-1}.
    """
    return _states(decay, update, initial, form)


def _states(decay, update, initial, form, reverse=False):
    if form == "sequential":

        def step(x, decay_update):
            x = decay_update[0] * x + decay_update[1]
            return x, x

        return jax.lax.scan(step, initial, (decay, update), reverse=reverse)[1]

    def compose(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    start = -1 if reverse else 0
    update = update.at[start].add(decay[start] * initial)
    decay = jnp.broadcast_to(decay, update.shape)
    return jax.lax.associative_scan(compose, (decay, update), reverse=reverse)[1]


def _linear_forward(decay, update, initial, form):
    states = _states(decay, update, initial, form)
    return states, (decay, states, initial)


def _linear_backward(form, residuals, cotangent):
    decay, states, initial = residuals
    next_decay = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
    adjoint = _states(next_decay, cotangent, jnp.zeros_like(initial), form, reverse=True)
    previous = jnp.concatenate([initial[None], states[:-1]])
    broadcast_axes = tuple(i for i, size in enumerate(decay.shape) if size != states.shape[i])
    return jnp.sum(adjoint * previous, broadcast_axes, keepdims=True), adjoint, decay[0] * adjoint[0]


linear_recurrence.defvjp(_linear_forward, _linear_backward)

# ------------------------------------------------------------------------------------------------------------
# Products of a matrix with vectors, and matrices that are outer products


# JAX traces gradients that are written out when the `with` of a caller who asks for a precision has ended: the
# products here ask themselves.
def _einsum(equation, *factors):
    return jnp.einsum(equation, *factors, precision=product_precision())


def _dot(matrix, vector):  # [..., R, S], [..., S] -> [..., R]
    return _einsum("...rs,...s->...r", matrix, vector)


def _transposed_dot(matrix, vector):  # [..., R, S], [..., R] -> [..., S]
    return _einsum("...rs,...r->...s", matrix, vector)


def _outer(row, column):  # [..., R], [..., S] -> [..., R, S]
    return row[..., :, None] * column[..., None, :]


def _sum_of_rows(matrix, weights):  # [..., R, S], [..., R] -> [..., S]
    """_transposed_dot for few rows: XLA's CPU backend makes it one loop with what computes the matrix."""
    return sum(weights[..., r, None] * matrix[..., r, :] for r in range(matrix.shape[-2]))


def _outer_gradient(adjoint, row, column):
    """Of row and column, from that of their outer product [..., R, S]."""
    return _dot(adjoint, column), _sum_of_rows(adjoint, row)


# ------------------------------------------------------------------------------------------------------------
# Matrices that share a gate and an input, both outer products


class OuterInputs(NamedTuple):
    """What one step does to the matrices Z^j [..., R, S]; leaves lead with time. See outer_recurrence.

    The outer products G, K and Q are given by their rows and columns.
    """

    keep: jax.Array  # [T, ...], 0 where the matrices are cleared first, else 1; has no gradient
    scales: tuple[jax.Array, ...]  # c^j [T, ...], one for each matrix; have no gradient
    gate_row: jax.Array  # of G [T, ..., R]
    gate_column: jax.Array  # of G [T, ..., S]
    key_row: jax.Array  # of K [T, ..., R]
    key_column: jax.Array  # of K [T, ..., S]
    query_row: jax.Array  # of Q [T, ..., R]
    query_column: jax.Array  # of Q [T, ..., S]


Matrices = tuple[jax.Array, ...]


@jax.custom_vjp
def outer_recurrence(initial: Matrices, inputs: OuterInputs) -> tuple[Matrices, tuple[jax.Array, ...]]:
    """Z^j_t = keep_t (1 - G_t) * Z^j_{t-1} + c^j_t G_t * K_t, read out as the sum of all elements of Z^j_t * Q_t.

    The matrices are a tuple, not an axis: XLA's CPU backend does not vectorise a sum over an axis in the middle,
    and the gradient would be eight times slower.

    Args:
        initial: Z^j_{-1} [..., R, S], one for each j.
        inputs: see OuterInputs.

    Returns:
        (Z^j_{T-1}, read-outs [T, ...] for each j). The gradient keeps Z^j_t and the read-outs' gradients by row
        and column of Q_t for every t, the outer products never; the caller cuts long segments into chunks under
        jax.checkpoint.
    """

    def step(matrices, x):
        matrices = _outer_step(matrices, x)
        return matrices, tuple(jnp.sum(x.query_row * _dot(z, x.query_column), axis=-1) for z in matrices)

    return jax.lax.scan(step, initial, inputs)


def _outer_step(matrices, x):
    gate = _outer(x.gate_row, x.gate_column)
    decay, update = x.keep[..., None, None] * (1 - gate), gate * _outer(x.key_row, x.key_column)
    return tuple(decay * z + c[..., None, None] * update for z, c in zip(matrices, x.scales, strict=True))


def _outer_forward(initial, inputs):
    def step(matrices, x):
        new_matrices = _outer_step(matrices, x)
        # What the read-outs are of the query's row and of its column: their gradients.
        of_row = tuple(_dot(z, x.query_column) for z in new_matrices)
        of_column = tuple(_sum_of_rows(z, x.query_row) for z in new_matrices)
        readouts = tuple(jnp.sum(x.query_row * row, axis=-1) for row in of_row)
        return new_matrices, (matrices, of_row, of_column, readouts)

    last, (before, of_row, of_column, readouts) = jax.lax.scan(step, initial, inputs)
    return (last, readouts), (inputs, before, of_row, of_column)


def _outer_backward(residuals, cotangents):
    # Write D_t = keep_t (1 - G_t) and U_t = G_t * K_t, so Z^j_t = D_t * Z^j_{t-1} + c^j_t U_t, read out as
    # y^j_t = sum(Z^j_t * Q_t). With y'^j_t the cotangent of y^j_t, what the loss sees of Z^j_t by all ways is
    # A^j_t = y'^j_t Q_t + D_{t+1} * A^j_{t+1}; for the last step the second term is the cotangent of Z^j_{T-1}.
    # dU_t = sum_j c^j_t A^j_t;  dD_t = sum_j A^j_t * Z^j_{t-1};  dZ^j_{-1} = D_0 * A^j_0;
    # dG_t = dU_t * K_t - keep_t dD_t;  dK_t = dU_t * G_t;  dQ_t = sum_j y'^j_t Z^j_t.
    # Of a product M = r (x) c:  dr = dM c and dc = dM^T r. For Q_t both were made where Z^j_t was at hand.
    inputs, before, of_row, of_column = residuals
    d_last, d_readouts = cotangents

    def back(adjoints, step):  # adjoints: D_{t+1} * A^j_{t+1}
        x, before, d_readouts = step
        gate, key = _outer(x.gate_row, x.gate_column), _outer(x.key_row, x.key_column)
        decay = x.keep[..., None, None] * (1 - gate)
        query = _outer(x.query_row, x.query_column)
        adjoints = [a + d[..., None, None] * query for a, d in zip(adjoints, d_readouts, strict=True)]
        d_update = sum(c[..., None, None] * a for c, a in zip(x.scales, adjoints, strict=True))
        d_decay = sum(a * z for a, z in zip(adjoints, before, strict=True))
        gradients = (
            *_outer_gradient(d_update * key - x.keep[..., None, None] * d_decay, x.gate_row, x.gate_column),
            *_outer_gradient(d_update * gate, x.key_row, x.key_column),
        )
        return tuple(decay * a for a in adjoints), gradients

    def weighted(readout_gradients):
        return sum(d[..., None] * x for d, x in zip(d_readouts, readout_gradients, strict=True))

    d_initial, gradients = jax.lax.scan(back, d_last, (inputs, before, d_readouts), reverse=True)
    zeros = jax.tree.map(jnp.zeros_like, (inputs.keep, inputs.scales))
    return d_initial, OuterInputs(*zeros, *gradients, weighted(of_row), weighted(of_column))


outer_recurrence.defvjp(_outer_forward, _outer_backward)

# ------------------------------------------------------------------------------------------------------------
# A matrix that decays by a rank-one gate and takes in outer products

MATRIX_CHUNK = 16


class MatrixInputs(NamedTuple):
    """What one step does to the matrix C [..., R, S]; leaves lead with time. See matrix_recurrence."""

    keep: jax.Array  # [T, ...], 0 where C is cleared first, else 1; has no gradient
    row_gate: jax.Array  # b [T, ..., R]
    column_gate: jax.Array  # g [T, ..., S]
    row: jax.Array  # w [T, ..., R]
    column: jax.Array  # k [T, ..., S]
    query: jax.Array  # q [T, ..., S]
    erase: jax.Array | None = None  # e [T, ...]; None: nothing is erased


@jax.custom_vjp
def matrix_recurrence(initial: jax.Array, inputs: MatrixInputs) -> tuple[jax.Array, jax.Array]:
    """C_t = (1 - b_t (x) g_t) * C + (w_t - e_t C k_t) (x) k_t with C = keep_t C_{t-1}, read out as C_t q_t.

    Args:
        initial: C_{-1} [..., R, S].
        inputs: see MatrixInputs.

    Returns:
        (C_{T-1}, read-outs C_t q_t [T, ..., R]). C_t itself is never kept for every t: the gradient keeps it
        at the start of every chunk of MATRIX_CHUNK steps and computes the chunk's others again.
    """
    return jax.lax.scan(_matrix_step, initial, inputs)


def _matrix_step(matrix, x):
    matrix = x.keep[..., None, None] * matrix
    row = x.row if x.erase is None else x.row - x.erase[..., None] * _dot(matrix, x.column)
    matrix = (1 - _outer(x.row_gate, x.column_gate)) * matrix + _outer(row, x.column)
    return matrix, _dot(matrix, x.query)


def _matrix_forward(initial, inputs):
    def chunk(matrix, inputs):
        last, readouts = jax.lax.scan(_matrix_step, matrix, inputs)
        return last, (matrix, readouts)

    length = inputs.keep.shape[0]
    # Steps of zeros with keep = 1 leave C as it is.
    chunks = jax.tree.map(lambda x: split_time(x, MATRIX_CHUNK), inputs)
    chunks = chunks._replace(keep=split_time(inputs.keep, MATRIX_CHUNK, 1.0))
    last, (starts, readouts) = jax.lax.scan(chunk, initial, chunks)
    return (last, join_time(readouts, length)), (starts, inputs, chunks)


def _matrix_backward(residuals, cotangents):
    # Write C = keep_t C_{t-1} (`before`, cleared), P_t = 1 - b_t (x) g_t and r_t = w_t - e_t C k_t, so that
    # C_t = P_t * C + r_t (x) k_t and y_t = C_t q_t. With y'_t the cotangent of y_t and A_t what the loss sees of
    # C_t by all ways,  A_t = y'_t (x) q_t + keep_{t+1} dC_{t+1}  and  dC_t = P_t * A_t - e_t dr_t (x) k_t;
    # for the last step the second term of A_t is the cotangent of C_{T-1}. Then
    # dr_t = dw_t = A_t k_t;  de_t = -dr_t . C k_t;  dq_t = C_t^T y'_t;  dk_t = A_t^T r_t - e_t C^T dr_t;
    # db_t = -(A_t * C) g_t;  dg_t = -(A_t * C)^T b_t.
    starts, inputs, chunks = residuals
    d_last, d_readouts = cotangents

    def chunk(adjoint, residuals):
        start, inputs, d_readouts = residuals

        def again(matrix, step):
            x, d_readout = step
            new_matrix, _ = _matrix_step(matrix, x)
            return new_matrix, (matrix, _transposed_dot(new_matrix, d_readout))

        _, (before, d_query) = jax.lax.scan(again, start, (inputs, d_readouts))

        def back(adjoint, step):  # adjoint: keep_{t+1} dC_{t+1}
            x, d_readout, before = step
            keep = x.keep[..., None, None]
            adjoint = adjoint + _outer(d_readout, x.query)
            d_row = _dot(adjoint, x.column)
            d_gates = keep * adjoint * before
            d_row_gate = -_dot(d_gates, x.column_gate)
            d_column_gate = -_transposed_dot(d_gates, x.row_gate)
            d_before = (1 - _outer(x.row_gate, x.column_gate)) * adjoint
            if x.erase is None:
                d_column, d_erase = _transposed_dot(adjoint, x.row), None
            else:
                recalled = _dot(keep * before, x.column)
                d_recalled = -x.erase[..., None] * d_row
                d_erase = -jnp.sum(d_row * recalled, axis=-1)
                d_column = _transposed_dot(adjoint, x.row - x.erase[..., None] * recalled)
                d_column += _transposed_dot(keep * before, d_recalled)
                d_before += _outer(d_recalled, x.column)
            return keep * d_before, (d_row_gate, d_column_gate, d_row, d_column, d_erase)

        adjoint, gradients = jax.lax.scan(back, adjoint, (inputs, d_readouts, before), reverse=True)
        d_row_gate, d_column_gate, d_row, d_column, d_erase = gradients
        d_keep = jnp.zeros_like(inputs.keep)
        return adjoint, MatrixInputs(d_keep, d_row_gate, d_column_gate, d_row, d_column, d_query, d_erase)

    d_readouts = split_time(d_readouts, MATRIX_CHUNK)
    adjoint, gradients = jax.lax.scan(chunk, d_last, (starts, chunks, d_readouts), reverse=True)
    length = inputs.keep.shape[0]
    return adjoint, jax.tree.map(lambda x: join_time(x, length), gradients)


matrix_recurrence.defvjp(_matrix_forward, _matrix_backward)

# ------------------------------------------------------------------------------------------------------------
# A gated cell with a recurrent matrix product: LSTM, GRU

Cell = Callable[[tuple, jax.Array, jax.Array], tuple]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def cell_recurrence(
    cell: Cell, kernel: jax.Array, bias: jax.Array, initial: tuple, inputs: jax.Array, keep: jax.Array
) -> tuple:
    """All states of state_t = cell(state, inputs_t, h kernel + bias), state = keep_t * state_{t-1}.

    Args:
        cell: (state, inputs [..., n], recurrent [..., m]) -> state, elementwise; a hashable function.
        kernel: [d, m].
        bias: [m].
        initial: a tuple of arrays [..., d], of which the last is h.
        inputs: [T, ..., n].
        keep: [T, ...], 0 where the state is cleared first, else 1; has no gradient.

    Returns:
        The states, as `initial` with a leading T.
    """
    return _cell_states(cell, kernel, bias, initial, inputs, keep)[0]


def _clear(state: Any, keep: jax.Array) -> Any:
    return jax.tree.map(lambda x: keep[..., None] * x, state)


def _cell_states(cell, kernel, bias, initial, inputs, keep):
    def step(state, x):
        inputs, keep = x
        state = _clear(state, keep)
        recurrent = matmul(state[-1], kernel) + bias
        state = cell(state, inputs, recurrent)
        return state, (state, recurrent)

    return jax.lax.scan(step, initial, (inputs, keep))[1]


def _cell_forward(cell, kernel, bias, initial, inputs, keep):
    states, recurrent = _cell_states(cell, kernel, bias, initial, inputs, keep)
    return states, (kernel, initial, inputs, keep, states, recurrent)


def _cell_backward(cell, residuals, cotangents):
    # Write s = keep_t s_{t-1}, h its last part and r_t = h W + b, so that s_t = cell(s, x_t, r_t). With s'_t the
    # cotangent of s_t and A_t what the loss sees of it by all ways, the cell's own gradient at A_t gives the
    # direct part of ds, dx_t and dr_t; h enters r_t too:  dh += dr_t W^T;  A_t = s'_t + keep_{t+1} ds_{t+1}.
    # W and b are the same in every step:  dW = sum_t h^T dr_t, one product of all steps;  db = sum_t dr_t.
    kernel, initial, inputs, keep, states, recurrent = residuals
    previous = jax.tree.map(lambda first, x: jnp.concatenate([first[None], x[:-1]]), initial, states)
    previous = _clear(previous, keep)

    def back(adjoint, step):  # adjoint: keep_{t+1} ds_{t+1}
        cotangent, previous, inputs, keep, recurrent = step
        adjoint = jax.tree.map(jnp.add, adjoint, cotangent)
        d_state, d_inputs, d_recurrent = jax.vjp(cell, previous, inputs, recurrent)[1](adjoint)
        d_hidden = d_state[-1] + matmul(d_recurrent, kernel.T)
        return _clear((*d_state[:-1], d_hidden), keep), (d_inputs, d_recurrent)

    adjoint = jax.tree.map(jnp.zeros_like, initial)
    adjoint, (d_inputs, d_recurrent) = jax.lax.scan(
        back, adjoint, (cotangents, previous, inputs, keep, recurrent), reverse=True
    )
    # Not flattened: a batch axis that lies on several devices stays so.
    flat = list(range(keep.ndim))
    d_kernel = jnp.tensordot(previous[-1], d_recurrent, (flat, flat), precision=product_precision())
    return d_kernel, d_recurrent.sum(flat), adjoint, d_inputs, jnp.zeros_like(keep)


cell_recurrence.defvjp(_cell_forward, _cell_backward)
