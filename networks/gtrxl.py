"""GTrXL, the gated transformer-XL (Parisotto et al., 2020), as released with AReLiT (arXiv 2310.15719).

Each layer attends from step t to the M steps before it and to itself, within the episode. Per head,

    score_tj = ((q_t + u) . k_j + (q_t + v) . W_R R_{t-j}) / sqrt(d_head)       j = t - M .. t

with R_n the sinusoids of the distance n and u, v shared by all layers. Keys and values are computed from the
layer's own inputs, of which the last M are the memory; no gradient enters it. Acting and learning see exactly
the same context. (The released code, given a whole segment, lets step t of it see M + t + 1.)

Memory is a ring, so that a step writes one row. What a reset leaves in it is masked, by the count of steps
since.

Plain form: `networks.plain_forms.gtrxl_apply`, which copies the memory and computes all T (M + T) scores.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import Dense, GRUGate, common_dtype, lecun_columns, run_layers
from networks.recurrence import join_time, split_time

# Queries a block: a block of Q queries computes Q (M + Q) scores, of which Q (M + 1) are used.
MAX_BLOCK = 64


class Carry(NamedTuple):
    """Memory of the whole core. Row (head + i) % M of a ring is its (M - i)-th last step."""

    rings: tuple[jax.Array, ...]  # a layer's inputs [..., M, d_model]
    head: jax.Array  # [...] int32, the oldest row, written next
    count: jax.Array  # [...] int32, steps of this episode in memory, at most M


def sinusoids(length: int, width: int) -> np.ndarray:
    """[sin, cos] of the distances length - 1 .. 0: [length, width], width rounded up to even."""
    frequencies = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(length - 1, -1, -1)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def band(scores: jax.Array, width: int) -> jax.Array:
    """Row i's entries i .. i + width - 1: [..., Q, width + Q - 1] to [..., Q, width]."""
    *batch, rows, columns = scores.shape
    flat = scores.reshape(*batch, rows * columns)
    flat = jnp.pad(flat, [(0, 0)] * len(batch) + [(0, rows)])
    return flat.reshape(*batch, rows, columns + 1)[..., :width]


def unband(entries: jax.Array) -> jax.Array:
    """The inverse of `band`, zeros elsewhere: [..., Q, width] to [..., Q, width + Q - 1]."""
    *batch, rows, width = entries.shape
    padded = jnp.pad(entries, [(0, 0)] * (len(batch) + 1) + [(0, rows)])
    flat = padded.reshape(*batch, rows * (width + rows))[..., : rows * (width + rows - 1)]
    return flat.reshape(*batch, rows, width + rows - 1)


def masked_softmax(scores: jax.Array, visible: jax.Array) -> jax.Array:
    return nn.softmax(jnp.where(visible, scores, jnp.finfo(scores.dtype).min), axis=-1)


def attend_segment(content_query, position_query, positions, k, v, count):
    """Banded attention of a segment, block by block, so that work and memory are linear in T.

    Args:
        content_query: (q + u) / sqrt(d_head) [T, B, H, d_head].
        position_query: (q + v) / sqrt(d_head) [T, B, H, d_head].
        positions: W_R R of the distances M .. 0 [M + 1, H, d_head].
        k, v: [M + T, B, H, d_head]; step t's own stand at M + t.
        count: [T, B] int32, steps before t that t may see, at most M.

    Returns:
        [T, B, H, d_head].
    """
    memory_len = len(positions) - 1
    distance = jnp.arange(memory_len, -1, -1)

    def block(tail, inputs):
        content_query, position_query, k, v, count = inputs
        k = jnp.concatenate([tail[0], k])
        v = jnp.concatenate([tail[1], v])
        scores = band(jnp.einsum("qbhd,kbhd->bhqk", content_query, k), memory_len + 1)
        scores += jnp.einsum("qbhd,mhd->bhqm", position_query, positions)
        visible = distance <= count.T[:, None, :, None]  # [B, 1, Q, M + 1]
        attended = jnp.einsum("bhqk,kbhd->qbhd", unband(masked_softmax(scores, visible)), v)
        return (k[-memory_len:], v[-memory_len:]), attended

    length = count.shape[0]
    tail = (k[:memory_len], v[:memory_len])
    inputs = (content_query, position_query, k[memory_len:], v[memory_len:], count)
    if length <= MAX_BLOCK:
        return block(tail, inputs)[1]
    blocks = jax.tree.map(lambda x: split_time(x, MAX_BLOCK), inputs)
    return join_time(jax.lax.scan(jax.checkpoint(block, prevent_cse=False), tail, blocks)[1], length)


class Block(nn.Module):
    """LayerNorm, attention, relu, gate; LayerNorm, feed-forward, relu, gate."""

    d_model: int
    d_head: int
    n_heads: int
    memory_len: int
    mlp_num: int
    normalize_query: bool

    def setup(self):
        def dense(width):
            return Dense(width)

        width = self.n_heads * self.d_head
        self.attention_norm = nn.LayerNorm()
        self.kv = dense(2 * width)
        self.query = dense(width)
        # Without a bias: it would add the same to all of a query's scores.
        position_shape = (2 * -(-self.d_model // 2), self.n_heads, self.d_head)
        self.position = self.param("position", position_init, position_shape)
        self.project = dense(self.d_model)
        self.attention_gate = GRUGate(lecun_columns)
        self.mlp_norm = nn.LayerNorm()
        self.mlp = [dense(self.d_model) for _ in range(self.mlp_num)]
        self.mlp_gate = GRUGate(lecun_columns)

    def keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[..., d_model] to keys and values [..., H, d_head]."""
        k, v = jnp.split(self.kv(self.attention_norm(x)), 2, axis=-1)
        return self.split_heads(k), self.split_heads(v)

    def split_heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.n_heads, self.d_head)

    def __call__(self, ring, x, head, count, u, v):
        """ring: [B, M, d_model]; x: [T, B, d_model]; head: [B]; count: [T, B], steps before t that t may see.

        Returns (ring, [T, B, d_model]).
        """
        scale = 1 / math.sqrt(self.d_head)
        query = self.split_heads(self.query(self.attention_norm(x) if self.normalize_query else x))
        attend = self.attend_step if len(x) == 1 else self.attend_segment
        table = jnp.asarray(sinusoids(self.memory_len + 1, self.d_model), x.dtype)
        ring, attended = attend(ring, x, head, count, (query + u) * scale, (query + v) * scale, table)
        attended = self.project(attended.reshape(*x.shape[:-1], self.n_heads * self.d_head))
        x = self.attention_gate(x, nn.relu(attended))
        hidden = self.mlp_norm(x)
        for dense in self.mlp:
            hidden = nn.relu(dense(hidden))
        return ring, self.mlp_gate(x, hidden)

    def attend_step(self, ring, x, head, count, content_query, position_query, table):
        """One step: scores stand in the ring's order, and the step writes one row."""
        x, content_query, position_query = x[0], content_query[0], position_query[0]
        k, v = self.keys_values(ring)  # [B, M, H, d_head]
        own_k, own_v = self.keys_values(x)
        # W_R is applied to the few queries rather than to all distances.
        position_query = jnp.einsum("bhd,phd->bhp", position_query, self.position)
        position_scores = jnp.einsum("bhp,mp->bhm", position_query, table)  # oldest first, then itself
        slots = jnp.arange(self.memory_len)
        age = (slots - head[:, None]) % self.memory_len  # [B, M]: 0 is the oldest
        scores = jnp.einsum("bhd,bmhd->bhm", content_query, k)
        scores += jnp.take_along_axis(position_scores, age[:, None, :], axis=-1)
        own_score = jnp.sum(content_query * own_k, axis=-1) + position_scores[..., -1]
        visible = self.memory_len - age <= count[0][:, None]
        visible = jnp.pad(visible, [(0, 0), (0, 1)], constant_values=True)[:, None, :]
        weights = masked_softmax(jnp.concatenate([scores, own_score[..., None]], axis=-1), visible)
        attended = jnp.einsum("bhm,bmhd->bhd", weights[..., :-1], v) + weights[..., -1:] * own_v
        return ring.at[jnp.arange(ring.shape[0]), head].set(x), attended[None]

    def attend_segment(self, ring, x, head, count, content_query, position_query, table):
        """A segment: the ring is put in order of time, and laid out again at the end."""
        slots = jnp.arange(self.memory_len)
        ordered = jnp.take_along_axis(ring, ((head[:, None] + slots) % self.memory_len)[..., None], axis=1)
        history = jnp.concatenate([jnp.swapaxes(ordered, 0, 1), x])  # [M + T, B, d_model]
        positions = jnp.einsum("mp,phd->mhd", table, self.position)
        attended = attend_segment(content_query, position_query, positions, *self.keys_values(history), count)
        latest = jnp.swapaxes(history[-self.memory_len :], 0, 1)
        age = (slots - head[:, None] - len(x)) % self.memory_len
        return jnp.take_along_axis(latest, age[..., None], axis=1), attended


def position_init(key, shape, dtype=jnp.float32):
    """flax's default, as for a Dense of all heads."""
    flat = (shape[0], shape[1] * shape[2])
    return nn.initializers.lecun_normal()(key, flat, dtype).reshape(shape)


class GTrXL(nn.Module):
    """Stack of GTrXL blocks behind a Dense + relu embedding."""

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    d_head: int = 64
    """width of a head"""
    n_heads: int = 4
    """heads"""
    memory_len: int = 128
    """steps of the past that a step can see"""
    mlp_num: int = 2
    """Dense + relu after the attention"""
    normalize_query: bool = False
    """queries from normalised inputs, as in the paper; the released code does not"""

    def setup(self):
        self.embedding = Dense(self.d_model)
        zeros, shape = nn.initializers.zeros_init(), (self.n_heads, self.d_head)
        self.u = self.param("u", zeros, shape)
        self.v = self.param("v", zeros, shape)
        sizes = (self.d_model, self.d_head, self.n_heads, self.memory_len, self.mlp_num)
        self.layers = [Block(*sizes, self.normalize_query) for _ in range(self.n_layers)]

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Carry:
        """Empty memory; every leaf leads with batch_shape."""
        ring = jnp.zeros((*batch_shape, self.memory_len, self.d_model))
        zero = jnp.zeros(batch_shape, jnp.int32)
        return Carry(rings=(ring,) * self.n_layers, head=zero, count=zero)

    def __call__(self, carry: Carry, inputs: jax.Array, resets: jax.Array) -> tuple[Carry, jax.Array]:
        """inputs: [T, *batch, D]; resets: [T, *batch] bool, true where the input starts an episode.

        Returns (carry, outputs [T, *batch, d_model]). No gradient reaches the carry.
        """
        carry, inputs = common_dtype(jax.lax.stop_gradient(carry), inputs)
        length, *batch = resets.shape
        rings, head, count = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(batch) :]), carry)
        resets = resets.reshape(length, -1)  # [T, B]
        x = nn.relu(self.embedding(inputs)).reshape(length, -1, self.d_model)

        # Memory before step t goes back to the last reset, to the start of the carried episode, or M steps.
        steps = jnp.arange(length, dtype=jnp.int32)[:, None]
        episode_start = jax.lax.cummax(jnp.where(resets, steps, -count), axis=0)
        counts = jnp.minimum(steps - episode_start, self.memory_len)  # [T, B]
        rings, x = run_layers(self.layers, rings, x, head, counts, self.u, self.v)

        new_carry = Carry(
            rings=rings,
            head=(head + length) % self.memory_len,
            count=jnp.minimum(counts[-1] + 1, self.memory_len),
        )
        new_carry = jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), new_carry)
        return new_carry, x.reshape(length, *batch, self.d_model)
