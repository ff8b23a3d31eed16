"""AReLiT, the approximate recurrent linear transformer (AGaLiTe; Pramanik et al., arXiv 2310.15719, sec. 4).

Per head, with (x) the outer product of a d_head vector and an eta vector:

    k_t = relu(W_K x) (x) relu(W_p1 x)       q_t = relu(W_Q x) (x) relu(W_p2 x)        v_t = W_V x
    beta_t = sigmoid(W_beta x)               gamma_t = sigmoid(W_gamma x) (x) sigmoid(W_p3 x)
    V^i_t = (1 - reset_t)(1 - beta_t)  V^i_{t-1} + cos(omega_i n_t) beta_t v_t         i = 1 .. r
    K^i_t = (1 - reset_t)(1 - gamma_t) K^i_{t-1} + cos(omega_i n_t) gamma_t k_t
    s_t   = (1 - reset_t)(1 - gamma_t) s_{t-1}   + gamma_t k_t
    a_t   = sum_i V^i_t (K^i_t . q_t) / (2 r (s_t . q_t) + 1e-5)

Three exact rewritings make it small and fast:
* omega = linspace(-pi, pi, r) is symmetric and cos is even, so only ceil(r / 2) oscillators differ; the
  others are counted by a multiplicity.
* cos(omega_i n) is periodic in n, so n is an integer modulo that period and the cosines are a table: exact
  for ever, where a float counter drifts and stops at 2^24.
* Time runs in short chunks. Only the carry at each chunk's start is kept for the gradient, the rest is
  computed again, so memory grows with T / chunk, not with T times the state. On CPU the outer products live
  for one step only, and segments short enough to keep all their states are one chunk.

`horizon` and `gate_bias` are departures, of the start alone. In the paper beta starts near one half in every
channel, a memory of two steps, and gates start nearly closed. What moves slowly is then hard to tell from its own
past, the more so with an even r, of which no oscillator stands still; see scripts/notebooks/results,
inverted_double_pendulum-P.

Plain form: `networks.plain_forms.arelit_attention`, with none of the three.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import Dense, bias_of_time_constants, common_dtype, gated_sublayers, orthogonal, run_layers
from networks.recurrence import (
    Form,
    OuterInputs,
    default_form,
    join_time,
    linear_recurrence,
    outer_recurrence,
    split_time,
)

SQRT2 = float(np.sqrt(2.0))
EPSILON = 1e-5
# Steps a chunk: the chunk's states should stay in a CPU's second-level cache.
CHUNK_LENGTH = {"sequential": 16, "associative": 64}
# A segment that runs step by step and whose states (of a layer and a seed) are no more floats than this is one
# chunk: to make them again takes almost as much time as the rest of the gradient. Where they are many that is no
# gain, for a program that computes one gradient gets new pages for them from the system.
MOST_KEPT = 2**21
# More folded oscillators than this are an axis in the sequential form too: unrolled they compile for minutes.
MOST_UNROLLED = 16


class LayerCarry(NamedTuple):
    """Memory of one layer. m = ceil(r / 2) oscillators."""

    key: jax.Array  # [..., H, m, eta * d_head]
    value: jax.Array  # [..., H, m, d_head]
    norm: jax.Array  # [..., H, eta * d_head]


class Carry(NamedTuple):
    """Memory of the whole core."""

    layers: tuple[LayerCarry, ...]
    phase: jax.Array  # [...] int32, n modulo the oscillators' common period


class Features(NamedTuple):
    """What the recurrence consumes; the outer products are kept as their factors."""

    key: jax.Array  # [T, ..., H, d_head], >= 0
    key_expansion: jax.Array  # [T, ..., H, eta], >= 0
    query: jax.Array  # [T, ..., H, d_head], >= 0
    query_expansion: jax.Array  # [T, ..., H, eta], >= 0
    value: jax.Array  # [T, ..., H, d_head]
    beta: jax.Array  # [T, ..., H, d_head], in (0, 1)
    gamma: jax.Array  # [T, ..., H, d_head], in (0, 1)
    gamma_expansion: jax.Array  # [T, ..., H, eta], in (0, 1)


def num_oscillators(r: int) -> int:
    """Oscillators left after folding."""
    return (r + 1) // 2


@functools.lru_cache
def oscillator_table(r: int) -> tuple[np.ndarray, np.ndarray]:
    """(cos(omega_i n) for n = 0 .. period - 1 [period, m], multiplicities [m]) of the folded oscillators."""
    period = 2 * (r - 1) if r > 1 else 2
    omega = np.linspace(-np.pi, np.pi, r)[: num_oscillators(r)]
    multiplicity = np.full(num_oscillators(r), 2.0)
    if r % 2 == 1:
        multiplicity[-1] = 1.0
    return np.cos(omega * np.arange(period)[:, None]), multiplicity


def attention(
    features: Features, keep: jax.Array, phase: jax.Array, carry: LayerCarry, r: int, form: Form | None = None
) -> tuple[LayerCarry, jax.Array]:
    """The recurrence and its read-out.

    Args:
        features: see Features.
        keep: [T, ...], 0 where the step starts an episode, else 1.
        phase: [T, ...] int32, n_t (any integer; only n_t modulo the period counts).
        carry: memory before the first step.
        r: number of oscillators before folding.
        form: how the recurrences run; None picks by backend. One step is the same in both.

    Returns:
        (carry after the last step, a [T, ..., H, d_head]).
    """
    form = form or default_form()
    length, n_heads, d_head = keep.shape[0], *features.value.shape[-2:]
    cosines, multiplicity = oscillator_table(r)
    dtype = features.value.dtype
    cosine = jnp.asarray(cosines, dtype)[phase % len(cosines)]  # [T, ..., m]

    # Batch and heads become one axis N: few axes leave room for vmaps around (XLA's CPU backend of jaxlib 0.10.2
    # and 0.11.0 crashes on reductions over arrays of seven axes).
    def per_head(x):  # [T, ..., d] -> [T, N, d], the same for every head
        x = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], n_heads, x.shape[-1]))
        return x.reshape(length, -1, x.shape[-1])

    features = jax.tree.map(lambda x: x.reshape(length, -1, x.shape[-1]), features)
    inputs = (features, per_head(keep[..., None]), per_head(cosine))
    flat_carry = jax.tree.map(
        lambda x, axes: x.reshape(-1, *x.shape[x.ndim - axes :]).astype(dtype), carry, LayerCarry(*(2, 2, 1))
    )

    step_by_step = len(multiplicity) <= MOST_UNROLLED and (form == "sequential" or length == 1)
    states = length * sum(x.size for x in flat_carry)
    run_chunk = functools.partial(
        _attend, multiplicity=multiplicity.tolist(), scale=2.0 * r, form=form, step_by_step=step_by_step
    )
    if length <= CHUNK_LENGTH[form] or (step_by_step and states <= MOST_KEPT):
        flat_carry, outputs = run_chunk(flat_carry, inputs)
    else:
        # Steps of zero features with keep = 1 leave the carry as it is.
        split = functools.partial(split_time, max_chunk=CHUNK_LENGTH[form])
        features, keep, cosine = inputs
        chunks = (jax.tree.map(split, features), split(keep, fill=1.0), split(cosine))
        flat_carry, outputs = jax.lax.scan(jax.checkpoint(run_chunk, prevent_cse=False), flat_carry, chunks)
        outputs = join_time(outputs, length)
    carry = jax.tree.map(lambda new, old: new.reshape(old.shape), flat_carry, carry)
    return carry, outputs.reshape(length, *phase.shape[1:], n_heads, d_head)


def _attend(carry, inputs, *, multiplicity, scale, form, step_by_step):
    """One chunk on [T, N, ...] arrays; N runs over environments and heads."""
    features, keep, cosine = inputs  # [T, N, ...], [T, N, 1], [T, N, m]
    value_decay = (keep * (1 - features.beta))[:, :, None]
    value_update = cosine[..., None] * (features.beta * features.value)[:, :, None]
    value = linear_recurrence(value_decay, value_update, carry.value, form)  # [T, N, m, d_head]

    if step_by_step:
        carry, overlap, norm_overlap = _overlaps_step_by_step(carry, inputs)
    else:
        carry, overlap, norm_overlap = _overlaps_of_all_steps(carry, inputs, form)
    terms = zip(multiplicity, overlap, jnp.unstack(value, axis=2), strict=True)
    numerator = sum(count * o[..., None] * v for count, o, v in terms)  # [T, N, d_head]
    return carry._replace(value=value[-1]), numerator / (scale * norm_overlap + EPSILON)[..., None]


def _overlaps_step_by_step(carry, inputs):
    """(carry with K^i and s of the last step, K^i . q: m of [T, N], s . q [T, N]) by one loop over time."""
    features, keep, cosine = inputs
    # s is one K more, of an oscillator that stands still.
    outer_inputs = OuterInputs(
        keep=keep[..., 0],
        scales=(jnp.ones_like(keep[..., 0]), *jnp.unstack(cosine, axis=-1)),
        gate_row=features.gamma_expansion,
        gate_column=features.gamma,
        key_row=features.key_expansion,
        key_column=features.key,
        query_row=features.query_expansion,
        query_column=features.query,
    )
    apart = (features.key_expansion.shape[-1], features.key.shape[-1])  # eta, d_head
    matrices = tuple(x.reshape(-1, *apart) for x in (carry.norm, *jnp.unstack(carry.key, axis=1)))
    (norm, *key), (norm_overlap, *overlap) = outer_recurrence(matrices, outer_inputs)
    key = jnp.stack(key, axis=1).reshape(carry.key.shape)
    return carry._replace(key=key, norm=norm.reshape(carry.norm.shape)), overlap, norm_overlap


def _overlaps_of_all_steps(carry, inputs, form):
    """The same with the matrices of all steps of the chunk, and of all oscillators along an axis."""
    features, keep, cosine = inputs

    def expand(vector, expansion):  # the outer product, flattened: [T, N, eta * d_head]
        return (expansion[..., :, None] * vector[..., None, :]).reshape(*vector.shape[:-1], -1)

    query = expand(features.query, features.query_expansion)
    gamma = expand(features.gamma, features.gamma_expansion)
    update = gamma * expand(features.key, features.key_expansion)
    decay = keep * (1 - gamma)
    norm = linear_recurrence(decay, update, carry.norm, form)
    key = linear_recurrence(decay[:, :, None], cosine[..., None] * update[:, :, None], carry.key, form)
    overlap = jnp.sum(key * query[:, :, None], axis=-1)  # [T, N, m]
    carry = carry._replace(key=key[-1], norm=norm[-1])
    return carry, jnp.unstack(overlap, axis=-1), jnp.sum(norm * query, axis=-1)


class Block(nn.Module):
    """LayerNorm, attention, relu, gate; LayerNorm, feed-forward, relu, gate."""

    d_model: int
    d_head: int
    d_ffc: int
    n_heads: int
    eta: int
    r: int
    horizon: int
    gate_bias: float

    @nn.compact
    def __call__(self, carry: LayerCarry, x: jax.Array, keep: jax.Array, phase: jax.Array):
        """x: [T, ..., d_model]; keep, phase: [T, ...]. Returns (carry, [T, ..., d_model])."""

        def dense(width, name, **options):
            return Dense(width, kernel_init=orthogonal(SQRT2), name=name, **options)

        normed = nn.LayerNorm(name="attention_norm")(x)
        heads = dense(self.n_heads * 5 * self.d_head, "kqvbg", bias_init=self.start_of_beta)(normed)
        heads = heads.reshape(*x.shape[:-1], self.n_heads, 5 * self.d_head)
        expansions = dense(self.n_heads * 3 * self.eta, "expansions")(normed)
        expansions = expansions.reshape(*x.shape[:-1], self.n_heads, 3 * self.eta)
        k, q, v, beta, gamma = jnp.split(heads, 5, axis=-1)
        p1, p2, p3 = jnp.split(expansions, 3, axis=-1)
        features = Features(
            key=nn.relu(k),
            key_expansion=nn.relu(p1),
            query=nn.relu(q),
            query_expansion=nn.relu(p2),
            value=v,
            beta=nn.sigmoid(beta),
            gamma=nn.sigmoid(gamma),
            gamma_expansion=nn.sigmoid(p3),
        )
        carry, attended = attention(features, keep.astype(v.dtype), phase, carry, self.r)
        return carry, gated_sublayers(x, attended, self.d_ffc, self.gate_bias)

    def start_of_beta(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        """Initial bias of kqvbg: zeros, but beta near 1 / tau with log tau evenly spread over 2 .. horizon."""
        bias = np.zeros((self.n_heads, 5, self.d_head))
        bias[:, 3] = bias_of_time_constants(self.horizon, self.d_head)
        return jnp.asarray(bias.reshape(shape), dtype)


class AReLiT(nn.Module):
    """Stack of AReLiT blocks behind a Dense + relu embedding."""

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    d_head: int = 64
    """width of a head"""
    d_ffc: int = 128
    """width of the feed-forward layer"""
    n_heads: int = 4
    """heads"""
    eta: int = 4
    """expansion of keys, queries and their gates"""
    r: int = 2
    """oscillators: the rank of the approximation"""
    horizon: int = 1
    """longest time constant of the values' gate at the start, in steps; 1: the paper's start"""
    gate_bias: float = 2.0
    """how closed the gates in place of residual connections start"""

    def setup(self):
        self.embedding = Dense(self.d_model, kernel_init=orthogonal(SQRT2))
        sizes = (self.d_model, self.d_head, self.d_ffc, self.n_heads, self.eta, self.r)
        self.layers = [Block(*sizes, self.horizon, self.gate_bias) for _ in range(self.n_layers)]

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Carry:
        """Empty memory; every leaf leads with batch_shape. n starts at 1, as in the released code."""
        heads, m, width = (*batch_shape, self.n_heads), num_oscillators(self.r), self.eta * self.d_head
        layer = LayerCarry(
            key=jnp.zeros((*heads, m, width)),
            value=jnp.zeros((*heads, m, self.d_head)),
            norm=jnp.zeros((*heads, width)),
        )
        return Carry(layers=(layer,) * self.n_layers, phase=jnp.ones(batch_shape, jnp.int32))

    def __call__(self, carry: Carry, inputs: jax.Array, resets: jax.Array) -> tuple[Carry, jax.Array]:
        """inputs: [T, *batch, D]; resets: [T, *batch] bool, true where the input starts an episode.

        Returns (carry, outputs [T, *batch, d_model]). A reset clears the memory but not the phase.
        """
        carry, inputs = common_dtype(carry, inputs)
        steps = jnp.arange(1, inputs.shape[0] + 1, dtype=jnp.int32)
        phase = carry.phase + steps.reshape(-1, *[1] * carry.phase.ndim)  # [T, *batch]
        x = nn.relu(self.embedding(inputs))
        layers, x = run_layers(self.layers, carry.layers, x, jnp.logical_not(resets), phase)
        period = len(oscillator_table(self.r)[0])
        return Carry(layers=layers, phase=phase[-1] % period), x
