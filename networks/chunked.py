"""Matrix memories in chunks: Mamba-2's SSD, the gated delta rule, and mLSTM, as products of small matrices.

Every head has a matrix S [K, V] that decays by one number alpha_t in (0, 1] and takes in outer products of a key
k_t and a value; a query q_t reads it. A segment is cut into chunks of L steps. With S the matrix before a chunk,
its steps 1 .. L have

    b_i  = log alpha_1 + .. + log alpha_i
    M_ij = exp(b_i - b_j)   where j <= i and no reset lies in (j, i], else 0      what step i still sees of step j
    a_i  = exp(b_i)         where no reset lies in [1, i], else 0                 what step i still sees of S

so all steps of a chunk are read at once, and L steps cost a few products of matrices. A reset is a zero in M and
in a and never enters b. M is exponentials of differences, masked before exp: neither exp(-b_j), nor an entry above
the diagonal, nor its gradient can overflow.

    SSD                (Dao and Gu, 2024)     S_t = alpha_t S_{t-1} + k_t (x) v_t
    gated delta rule   (Yang et al., 2024)    S_t = alpha_t S_{t-1} + k_t (x) beta_t (v_t - alpha_t S_{t-1}^T k_t)
    mLSTM              (Beck et al., 2024)    S_t = F_t S_{t-1} + I_t k_t (x) v_t, see `mlstm`

All read S_t^T q_t. One step alone is computed as it stands above.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from networks.precision import product_precision
from networks.recurrence import join_time, split_time

# Steps a chunk. On CPU the inverse of [L, L] and the masks outgrow the products that they save beyond 16 to 32; an
# accelerator is bound by the number of chunks.
CHUNK_LENGTH = {"cpu": 16, "accelerator": 64}
# Added to mLSTM's denominator, as in the released code.
EPSILON = 1e-6


def _einsum(equation, *factors):
    return jnp.einsum(equation, *factors, precision=product_precision())


# ------------------------------------------------------------------------------------------------------------
# Chunks


def _chunk_length():
    return CHUNK_LENGTH["cpu" if jax.default_backend() == "cpu" else "accelerator"]


def _over_chunks(
    step: Callable, chunk: Callable, state: Any, keep: jax.Array, inputs: Any, fill: Any
) -> tuple[Any, jax.Array]:
    """Runs a memory over time.

    Args:
        step: (state, keep [B], inputs [B, H, ...]) -> (state, read-outs [B, H, V]).
        chunk: the same of L steps, (state, keep [B, L], inputs [B, H, L, ...]) -> (state, read-outs [B, H, L, V]).
        state: leaves [*batch, H, ...].
        keep: [T, *batch], 0 where a step starts an episode, else 1.
        inputs: leaves [T, *batch, H, ...].
        fill: what steps beyond the last are filled with, leaf by leaf: they must leave the state as it is.

    Returns:
        (state after the last step, read-outs [T, *batch, H, V]).
    """
    length, *batch = keep.shape
    axes = len(batch)
    dtype = jnp.result_type(*jax.tree.leaves(inputs))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[axes:]).astype(dtype), state)
    keep = keep.reshape(length, -1).astype(dtype)
    inputs = jax.tree.map(lambda x: x.reshape(length, -1, *x.shape[1 + axes :]), inputs)
    if length == 1:
        flat, readouts = step(flat, keep[0], jax.tree.map(lambda x: x[0], inputs))
        readouts = readouts[None]
    else:
        # The gradient keeps the state at the start of every chunk and computes the chunk again.
        def body(state, x):
            return chunk(state, *x)

        def split(x, fill):  # [T, B, H, ...] -> [chunks, B, H, L, ...]
            return jnp.moveaxis(split_time(x, _chunk_length(), fill), 1, 3)

        chunks = (jnp.moveaxis(split_time(keep, _chunk_length(), 1.0), 1, 2), jax.tree.map(split, inputs, fill))
        flat, readouts = jax.lax.scan(jax.checkpoint(body, prevent_cse=False), flat, chunks)
        readouts = join_time(jnp.moveaxis(readouts, 3, 1), length)
    state = jax.tree.map(lambda new, old: new.reshape(old.shape), flat, state)
    return state, readouts.reshape(length, *batch, *readouts.shape[2:])


def _visible(keep: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which steps of a chunk each step still sees.

    keep: [B, L]. Returns (bool [B, 1, L, L], step i sees step j; bool [B, 1, L], step i sees what came before).
    """
    length = keep.shape[-1]
    episode = jnp.cumsum(keep == 0, axis=-1, dtype=jnp.int32)
    earlier = jnp.tril(jnp.ones((length, length), bool))
    return ((episode[:, :, None] == episode[:, None, :]) & earlier)[:, None], (episode == 0)[:, None]


def _running_sum(x: jax.Array) -> jax.Array:
    """Cumulative sum along the last axis, as a product: [..., L]."""
    return _einsum("...j,ji->...i", x, jnp.triu(jnp.ones((x.shape[-1],) * 2, x.dtype)))


def _decays(keep: jax.Array, log_decay: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(M [B, H, L, L], a [B, H, L]) of keep [B, L] and log alpha [B, H, L]."""
    sees, sees_start = _visible(keep)
    b = _running_sum(log_decay)
    between = jnp.where(sees, b[..., :, None] - b[..., None, :], -jnp.inf)
    return jnp.exp(between), jnp.exp(jnp.where(sees_start, b, -jnp.inf))


# ------------------------------------------------------------------------------------------------------------
# SSD


class SSDInputs(NamedTuple):
    """What one step does to the memory; leaves lead with time."""

    log_decay: jax.Array  # log alpha [T, ..., H], <= 0
    key: jax.Array  # [T, ..., H, K]
    query: jax.Array  # [T, ..., H, K]
    value: jax.Array  # [T, ..., H, V]


def ssd(state: jax.Array, keep: jax.Array, inputs: SSDInputs) -> tuple[jax.Array, jax.Array]:
    """S_t = keep_t alpha_t S_{t-1} + k_t (x) v_t, read out as S_t^T q_t.

    Args:
        state: S_{-1} [..., H, K, V].
        keep: [T, ...], 0 where the step starts an episode, else 1; has no gradient.
        inputs: see SSDInputs.

    Returns:
        (S_{T-1}, read-outs [T, ..., H, V]).
    """
    return _over_chunks(_ssd_step, _ssd_chunk, state, keep, inputs, SSDInputs(0.0, 0.0, 0.0, 0.0))


def _ssd_step(state, keep, x):
    decay = keep[:, None] * jnp.exp(x.log_decay)
    state = decay[..., None, None] * state + x.key[..., :, None] * x.value[..., None, :]
    return state, _einsum("bhkv,bhk->bhv", state, x.query)


def _ssd_chunk(state, keep, x):
    """Y = ((Q K^T) o M) V + diag(a) Q S;  S' = a_L S + sum_j M_Lj k_j (x) v_j."""
    between, from_start = _decays(keep, x.log_decay)
    scores = _einsum("bhik,bhjk->bhij", x.query, x.key) * between
    readouts = _einsum("bhij,bhjv->bhiv", scores, x.value)
    readouts += from_start[..., None] * _einsum("bhik,bhkv->bhiv", x.query, state)
    written = _einsum("bhjk,bhjv->bhkv", between[:, :, -1, :, None] * x.key, x.value)
    return from_start[:, :, -1, None, None] * state + written, readouts


# ------------------------------------------------------------------------------------------------------------
# Gated delta rule


class DeltaInputs(NamedTuple):
    """What one step does to the memory; leaves lead with time."""

    log_decay: jax.Array  # log alpha [T, ..., H], <= 0
    rate: jax.Array  # beta [T, ..., H], in (0, 2)
    key: jax.Array  # [T, ..., H, K], |k| <= 1
    query: jax.Array  # [T, ..., H, K]
    value: jax.Array  # [T, ..., H, V]


def gated_delta(state: jax.Array, keep: jax.Array, inputs: DeltaInputs) -> tuple[jax.Array, jax.Array]:
    """S_t = S + k_t (x) beta_t (v_t - S^T k_t) with S = keep_t alpha_t S_{t-1}, read out as S_t^T q_t.

    Args:
        state: S_{-1} [..., H, K, V].
        keep: [T, ...], 0 where the step starts an episode, else 1; has no gradient.
        inputs: see DeltaInputs.

    Returns:
        (S_{T-1}, read-outs [T, ..., H, V]).
    """
    return _over_chunks(_delta_step, _delta_chunk, state, keep, inputs, DeltaInputs(0.0, 0.0, 0.0, 0.0, 0.0))


def _delta_step(state, keep, x):
    decay = keep[:, None] * jnp.exp(x.log_decay)
    state = decay[..., None, None] * state
    error = x.rate[..., None] * (x.value - _einsum("bhkv,bhk->bhv", state, x.key))
    state = state + x.key[..., :, None] * error[..., None, :]
    return state, _einsum("bhkv,bhk->bhv", state, x.query)


def _delta_chunk(state, keep, x):
    """(I + A) D = B (V - diag(a) K S), A the part of B ((K K^T) o M) below the diagonal and B = diag(beta);

    O = diag(a) Q S + ((Q K^T) o M) D;  S' = a_L S + sum_j M_Lj k_j (x) d_j.  d_i is beta_i times the error of step
    i: its value less what all before it left at its key.
    """
    length = keep.shape[-1]
    between, from_start = _decays(keep, x.log_decay)
    rate = x.rate[..., None]
    keys_queries = jnp.concatenate([x.key, x.query], axis=-2)  # both meet the same matrices
    of_key, of_query = jnp.split(_einsum("bhik,bhjk->bhij", keys_queries, x.key), 2, axis=-2)
    key_reads, query_reads = jnp.split(_einsum("bhik,bhkv->bhiv", keys_queries, state), 2, axis=-2)
    below = jnp.tril(jnp.ones((length, length), bool), -1)
    overlap = jnp.where(below, rate * of_key * between, 0.0)
    written = solve_unit_lower(overlap, rate * (x.value - from_start[..., None] * key_reads))
    readouts = from_start[..., None] * query_reads + _einsum("bhij,bhjv->bhiv", of_query * between, written)
    new = _einsum("bhjk,bhjv->bhkv", between[:, :, -1, :, None] * x.key, written)
    return from_start[:, :, -1, None, None] * state + new, readouts


@jax.custom_vjp
def solve_unit_lower(below: jax.Array, right: jax.Array) -> jax.Array:
    """D with (I + A) D = R: A [..., L, L] has nothing on and above its diagonal, R and D are [..., L, V].

    The inverse is made block by block, log2 L times over: the inverse of [[X1, 0], [A21, X2]] is the inverses of
    X1 and X2 and -X2^-1 A21 X1^-1 between them. (The product (I - A)(I + A^2)(I + A^4).. is the same on paper; in
    float32 it fails where keys repeat, for then the powers of A grow like binomials.)

    With D's cotangent C, that of R is Y = (I + A)^-T C, and that of A is -Y D^T.
    """
    return _einsum("...ij,...jv->...iv", _unit_lower_inverse(below), right)


def _unit_lower_inverse(below):
    length = below.shape[-1]
    row, column = jnp.indices((length, length))
    inverse = jnp.broadcast_to(jnp.eye(length, dtype=below.dtype), below.shape)
    size = 1
    while size < length:
        pair = (row // (2 * size) == column // (2 * size)) & (row // size % 2 == 1) & (column // size % 2 == 0)
        between = jnp.where(pair, below, 0.0)
        if size > 1:  # the blocks of one are 1
            between = _einsum("...ij,...jk,...kl->...il", inverse, between, inverse)
        inverse = inverse - between
        size *= 2
    return inverse


def _solve_forward(below, right):
    inverse = _unit_lower_inverse(below)
    solution = _einsum("...ij,...jv->...iv", inverse, right)
    return solution, (inverse, solution)


def _solve_backward(residuals, cotangent):
    inverse, solution = residuals
    d_right = _einsum("...ji,...jv->...iv", inverse, cotangent)
    return -_einsum("...iv,...jv->...ij", d_right, solution), d_right


solve_unit_lower.defvjp(_solve_forward, _solve_backward)

# ------------------------------------------------------------------------------------------------------------
# mLSTM


class MLSTMState(NamedTuple):
    """The memory, divided by e^m."""

    matrix: jax.Array  # C [..., H, K, V]
    norm: jax.Array  # n [..., H, K]
    stabiliser: jax.Array  # m [..., H]


class MLSTMInputs(NamedTuple):
    """What one step does to the memory; leaves lead with time."""

    log_forget: jax.Array  # log f [T, ..., H], <= 0
    log_input: jax.Array  # i [T, ..., H]: the input gate is e^i
    key: jax.Array  # [T, ..., H, K]
    query: jax.Array  # [T, ..., H, K]
    value: jax.Array  # [T, ..., H, V]


def mlstm(state: MLSTMState, keep: jax.Array, inputs: MLSTMInputs) -> tuple[MLSTMState, jax.Array]:
    """The matrix memory with exponential input gates, every number of it divided by e^m.

        m_t = max(log f_t + m, i_t)      F = exp(log f_t + m - m_t)      I = exp(i_t - m_t)
        C_t = F C + I k_t (x) v_t        n_t = F n + I k_t
        h_t = C_t^T q_t / (max(|n_t . q_t|, exp(-m_t)) + 1e-6)

    with C, n, m those of t - 1, or zeros where step t starts an episode. C e^m and n e^m do not depend on m, so no
    gradient goes through m_t where it is made.

    Args:
        state: that of step -1.
        keep: [T, ...], 0 where the step starts an episode, else 1; has no gradient.
        inputs: see MLSTMInputs.

    Returns:
        (the last step's state, h [T, ..., H, V]).
    """
    fill = MLSTMInputs(log_forget=0.0, log_input=-1e30, key=0.0, query=0.0, value=0.0)  # finite: no inf - inf
    return _over_chunks(_mlstm_step, _mlstm_chunk, state, keep, inputs, fill)


def _normalised(numerator, overlap, stabiliser):
    """h of C^T q [..., V], n . q [...] and m [...]."""
    return numerator / (jnp.maximum(jnp.abs(overlap), jnp.exp(-stabiliser)) + EPSILON)[..., None]


def _mlstm_step(state, keep, x):
    keep = keep[:, None]
    entering = x.log_forget + keep * state.stabiliser
    stabiliser = jax.lax.stop_gradient(jnp.maximum(entering, x.log_input))
    forget, take = keep * jnp.exp(entering - stabiliser), jnp.exp(x.log_input - stabiliser)
    key = take[..., None] * x.key
    matrix = forget[..., None, None] * state.matrix + key[..., :, None] * x.value[..., None, :]
    norm = forget[..., None] * state.norm + key
    numerator = _einsum("bhkv,bhk->bhv", matrix, x.query)
    overlap = jnp.sum(norm * x.query, axis=-1)
    return MLSTMState(matrix, norm, stabiliser), _normalised(numerator, overlap, stabiliser)


def _mlstm_chunk(state, keep, x):
    """With D_ij = exp(b_i - b_j + i_j - m_i) in M's place and w_i = exp(m + b_i - m_i) in a's, P = (Q K^T) o D:

    C^T q = P V + diag(w) Q C;  n . q = P 1 + diag(w) Q n;  C' = w_L C + sum_j D_Lj k_j (x) v_j, and n' alike.
    m_i is the largest exponent that step i sees; what enters its episode, the carried m or 0 at a reset, is one.
    """
    sees, sees_start = _visible(keep)
    b = _running_sum(x.log_forget)
    exponents = jnp.where(sees, b[..., :, None] - b[..., None, :] + x.log_input[..., None, :], -jnp.inf)
    forgotten = jnp.sum(jnp.where(sees, x.log_forget[..., None, :], 0.0), axis=-1)  # since the episode's start
    entering = jnp.where(sees_start, state.stabiliser[..., None], 0.0) + forgotten
    stabiliser = jax.lax.stop_gradient(jnp.maximum(jnp.max(exponents, axis=-1), entering))  # m_i [B, H, L]
    between = jnp.exp(exponents - stabiliser[..., None])
    from_start = jnp.exp(jnp.where(sees_start, state.stabiliser[..., None] + b - stabiliser, -jnp.inf))

    scores = _einsum("bhik,bhjk->bhij", x.query, x.key) * between
    numerator = _einsum("bhij,bhjv->bhiv", scores, x.value)
    numerator += from_start[..., None] * _einsum("bhik,bhkv->bhiv", x.query, state.matrix)
    overlap = jnp.sum(scores, axis=-1) + from_start * _einsum("bhik,bhk->bhi", x.query, state.norm)

    key, last = between[:, :, -1, :, None] * x.key, from_start[:, :, -1, None]
    new_state = MLSTMState(
        matrix=last[..., None] * state.matrix + _einsum("bhjk,bhjv->bhkv", key, x.value),
        norm=last * state.norm + jnp.sum(key, axis=-2),
        stabiliser=stabiliser[:, :, -1],
    )
    return new_state, _normalised(numerator, overlap, stabiliser)
