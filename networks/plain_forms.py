"""AReLiT's and ReLiT's attention and GTrXL written straight from their equations: the slow forms.

Tests compare the cores with them for correctness, the benchmark for speed. They take the cores' own features or
parameters, keep every intermediate and use no rewriting: no folding, no chunks, no ring, no blocks. The plain
forms of LSTM and GRU are flax's own cells.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks import arelit, gtrxl, relit

# ------------------------------------------------------------------------------------------------------------
# AReLiT: all r oscillators, states of all steps at once


class AReLiTState(NamedTuple):
    """Memory of one layer before folding."""

    key: jax.Array  # K [B, r, H, eta, d_head]
    value: jax.Array  # V [B, r, H, d_head]
    norm: jax.Array  # s [B, H, eta, d_head]


def arelit_initial_state(batch: int, heads: int, d_head: int, eta: int, r: int) -> AReLiTState:
    return AReLiTState(
        key=jnp.zeros((batch, r, heads, eta, d_head)),
        value=jnp.zeros((batch, r, heads, d_head)),
        norm=jnp.zeros((batch, heads, eta, d_head)),
    )


def arelit_attention(
    features: arelit.Features, keep: jax.Array, n: jax.Array, state: AReLiTState, r: int
) -> tuple[AReLiTState, jax.Array]:
    """Recurrence and read-out of one layer by associative scans over [T, B, r, H, ...].

    features: [T, B, H, ...]. keep: [T, B], 0 where an episode starts. n: [T, B], the float step counter.
    Returns (state after the last step, a [T, B, H, d_head]).
    """

    def expand(vector, expansion):
        return vector[..., None, :] * expansion[..., :, None]  # [T, B, H, eta, d_head]

    def scan(decay, update, initial):
        def compose(first, second):
            return first[0] * second[0], second[0] * first[1] + second[1]

        decays, updates = jax.lax.associative_scan(compose, (jnp.broadcast_to(decay, update.shape), update))
        return updates + decays * initial

    k = expand(features.key, features.key_expansion)
    q = expand(features.query, features.query_expansion)
    gamma = expand(features.gamma, features.gamma_expansion)
    beta, v = features.beta, features.value
    omega = jnp.linspace(-jnp.pi, jnp.pi, r, dtype=v.dtype)
    cosine = jnp.cos(omega * n[..., None].astype(v.dtype))  # [T, B, r]
    keep = keep[..., None, None]

    value = scan((keep * (1 - beta))[:, :, None], cosine[..., None, None] * (beta * v)[:, :, None], state.value)
    key = scan(
        (keep[..., None] * (1 - gamma))[:, :, None],
        cosine[..., None, None, None] * (gamma * k)[:, :, None],
        state.key,
    )
    norm = scan(keep[..., None] * (1 - gamma), gamma * k, state.norm)
    overlap = jnp.einsum("tbrhen,tbhen->tbrh", key, q)
    numerator = jnp.einsum("tbrhd,tbrh->tbhd", value, overlap)
    denominator = 2 * r * jnp.einsum("tbhen,tbhen->tbh", norm, q) + arelit.EPSILON
    return AReLiTState(key[-1], value[-1], norm[-1]), numerator / denominator[..., None]


# ------------------------------------------------------------------------------------------------------------
# ReLiT: one step after the other, matrices as matrices


class ReLiTState(NamedTuple):
    """Memory of one layer."""

    matrix: jax.Array  # C [B, H, d_head, D]
    norm: jax.Array  # s [B, H, D]


def relit_initial_state(batch: int, heads: int, d_head: int, width: int) -> ReLiTState:
    return ReLiTState(jnp.zeros((batch, heads, d_head, width)), jnp.zeros((batch, heads, width)))


def relit_attention(
    rule: relit.UpdateRule,
    key: jax.Array,
    query: jax.Array,
    value: jax.Array,
    gates: dict[str, jax.Array],
    keep: jax.Array,
    state: ReLiTState,
) -> tuple[ReLiTState, jax.Array]:
    """Recurrence and read-out of one layer, a loop over time.

    key, query: features [T, B, H, D]. value: [T, B, H, d_head]. gates: in (0, 1), by name [T, B, H, width].
    keep: [T, B], 0 where an episode starts. Returns (state after the last step, a [T, B, H, d_head]).
    """
    outputs = []
    for t in range(len(keep)):
        clear = keep[t][:, None, None]
        matrix, norm = clear[..., None] * state.matrix, clear * state.norm
        k, q, v = key[t], query[t], value[t]
        if rule == "delta":
            k, q = k / _norm(k), q / (_norm(q) + 1e-6)
        state = _relit_update(rule, matrix, norm, k, v, {name: gate[t] for name, gate in gates.items()})
        readout = jnp.einsum("bhvk,bhk->bhv", state.matrix, q)
        denominator = jnp.einsum("bhk,bhk->bh", state.norm, q) + relit.EPSILON
        outputs.append(readout / denominator[..., None])
    return state, jnp.stack(outputs)


def _relit_update(rule, matrix, norm, k, v, gates):
    beta = gates["beta"]
    if rule == "gated_peng":
        b = beta[..., None]
        return ReLiTState((1 - b) * matrix + b * _outer(v, k), (1 - beta) * norm + beta * k)
    gamma = gates["gamma"]
    if rule == "delta":
        error = v - jnp.einsum("bhvk,bhk->bhv", matrix, k)
        g, rate = gamma[..., None], (gamma * beta)[..., None]
        return ReLiTState((1 - g) * matrix + rate * _outer(error, k), (1 - gamma) * norm + gamma * beta * k)
    if rule == "mega":
        damp = _outer(gates["beta_damp"], gates["gamma_damp"])
        matrix = (1 - _outer(beta, gamma) * damp) * matrix + _outer(beta * v, gamma * k)
        return ReLiTState(matrix, (1 - gamma * gates["gamma_damp"]) * norm + gamma * k)
    if rule == "projected_sigmoid":
        gamma = _outer(gamma, gates["gamma_expansion"]).reshape(k.shape)
    matrix = (1 - _outer(beta, gamma)) * matrix + _outer(beta * v, gamma * k)
    return ReLiTState(matrix, (1 - gamma) * norm + gamma * k)


def _outer(a, b):
    return a[..., :, None] * b[..., None, :]


def _norm(x):
    return jnp.linalg.norm(x, axis=-1, keepdims=True)


# ------------------------------------------------------------------------------------------------------------
# GTrXL: memory shifted by copying, keys and values of memory and inputs made again, all T x (M + T) scores


class GTrXLState(NamedTuple):
    """Memory of the whole core, oldest step first."""

    memory: tuple[jax.Array, ...]  # a layer's inputs [M, B, d_model]
    visible: jax.Array  # [M, B] bool: of the current episode


def gtrxl_initial_state(core: gtrxl.GTrXL, batch: int) -> GTrXLState:
    memory = jnp.zeros((core.memory_len, batch, core.d_model))
    return GTrXLState((memory,) * core.n_layers, jnp.zeros((core.memory_len, batch), bool))


def gtrxl_apply(
    core: gtrxl.GTrXL, variables: Any, state: GTrXLState, inputs: jax.Array, resets: jax.Array
) -> tuple[GTrXLState, jax.Array]:
    """core.apply, plainly. inputs: [T, B, D]; resets: [T, B]. Returns (state, [T, B, d_model])."""
    params = variables["params"]
    length, memory_len, heads, d_head = len(inputs), core.memory_len, core.n_heads, core.d_head
    query_time = jnp.arange(length) + memory_len
    key_time = jnp.arange(memory_len + length)
    distance = query_time[:, None] - key_time  # [T, M + T]
    # A key is of the query's episode if no reset lies after it, up to the query.
    episode = jnp.cumsum(resets, axis=0)  # [T, B]
    key_episode = jnp.concatenate([jnp.where(state.visible, 0, -1), episode])
    same_episode = episode[:, None] == key_episode[None]  # [T, M + T, B]
    mask = same_episode & ((distance >= 0) & (distance <= memory_len))[..., None]
    table = jnp.asarray(_sinusoids(memory_len + length, core.d_model), inputs.dtype)  # of distances 0, 1, ...

    x = nn.relu(_dense(params["embedding"], inputs))
    new_memory = []
    for i in range(core.n_layers):
        p = params[f"layers_{i}"]
        history = jnp.concatenate([jax.lax.stop_gradient(state.memory[i]), x])  # [M + T, B, d]
        new_memory.append(history[-memory_len:])
        normed = _layer_norm(p["attention_norm"], history)
        k, v = jnp.split(_dense(p["kv"], normed), 2, axis=-1)
        q = _dense(p["query"], normed[memory_len:] if core.normalize_query else x)
        q, k, v = (y.reshape(*y.shape[:-1], heads, d_head) for y in (q, k, v))
        r = jnp.einsum("np,phd->nhd", table, p["position"])
        content = jnp.einsum("tbhd,sbhd->tsbh", q + params["u"], k)
        position = jnp.einsum("tbhd,nhd->tnbh", q + params["v"], r)  # by distance
        position = _shift(position)
        scores = jnp.where(mask[..., None], (content + position) / jnp.sqrt(d_head).astype(q.dtype), -jnp.inf)
        attended = jnp.einsum("tsbh,sbhd->tbhd", nn.softmax(scores, axis=1), v)
        attended = _dense(p["project"], attended.reshape(*x.shape[:2], heads * d_head))
        x = _gate(p["attention_gate"], x, nn.relu(attended))
        hidden = _layer_norm(p["mlp_norm"], x)
        for j in range(core.mlp_num):
            hidden = nn.relu(_dense(p[f"mlp_{j}"], hidden))
        x = _gate(p["mlp_gate"], x, hidden)

    visible = key_episode[-memory_len:] == episode[-1]
    return GTrXLState(tuple(new_memory), visible), x


class GTrXLCache(NamedTuple):
    """Keys and values instead of hidden states, oldest step first: nothing of the past is computed again."""

    keys_values: tuple[jax.Array, ...]  # a layer's [M, B, 2 H d_head]
    visible: jax.Array  # [M, B] bool: of the current episode


def gtrxl_initial_cache(core: gtrxl.GTrXL, batch: int) -> GTrXLCache:
    memory = jnp.zeros((core.memory_len, batch, 2 * core.n_heads * core.d_head))
    return GTrXLCache((memory,) * core.n_layers, jnp.zeros((core.memory_len, batch), bool))


def gtrxl_cached_step(
    core: gtrxl.GTrXL, variables: Any, cache: GTrXLCache, inputs: jax.Array, resets: jax.Array
) -> tuple[GTrXLCache, jax.Array]:
    """One acting step, equal to core.apply as long as the parameters stay. inputs: [1, B, D]; resets: [1, B]."""
    params, heads, d_head = variables["params"], core.n_heads, core.d_head
    visible = jnp.concatenate([cache.visible & ~resets, jnp.ones_like(resets)])  # [M + 1, B]
    table = jnp.asarray(_sinusoids(core.memory_len + 1, core.d_model)[::-1].copy(), inputs.dtype)  # oldest first
    x = nn.relu(_dense(params["embedding"], inputs))  # [1, B, d_model]
    new_keys_values = []
    for i in range(core.n_layers):
        p = params[f"layers_{i}"]
        normed = _layer_norm(p["attention_norm"], x)
        keys_values = jnp.concatenate([cache.keys_values[i], _dense(p["kv"], normed)])  # [M + 1, B, 2 H d]
        new_keys_values.append(keys_values[1:])
        k, v = (y.reshape(*y.shape[:2], heads, d_head) for y in jnp.split(keys_values, 2, axis=-1))
        q = _dense(p["query"], normed if core.normalize_query else x)[0].reshape(-1, heads, d_head)
        position_query = jnp.einsum("bhd,phd->bhp", q + params["v"], p["position"])
        scores = jnp.einsum("bhd,mbhd->mbh", q + params["u"], k) + jnp.einsum("bhp,mp->mbh", position_query, table)
        scores = jnp.where(visible[..., None], scores / jnp.sqrt(d_head).astype(q.dtype), -jnp.inf)
        attended = jnp.einsum("mbh,mbhd->bhd", nn.softmax(scores, axis=0), v).reshape(1, -1, heads * d_head)
        x = _gate(p["attention_gate"], x, nn.relu(_dense(p["project"], attended)))
        hidden = _layer_norm(p["mlp_norm"], x)
        for j in range(core.mlp_num):
            hidden = nn.relu(_dense(p[f"mlp_{j}"], hidden))
        x = _gate(p["mlp_gate"], x, hidden)
    return GTrXLCache(tuple(new_keys_values), visible[1:]), x


def _shift(position: jax.Array) -> jax.Array:
    """Transformer-XL's relative shift: [T, M + T, ...] from scores by distance to scores by key."""
    length, width = position.shape[:2]
    position = jnp.flip(position, axis=1)  # the greatest distance first, as keys stand
    position = jnp.pad(position, [(0, 0), (1, 0)] + [(0, 0)] * (position.ndim - 2))
    position = position.reshape(width + 1, length, *position.shape[2:])[1:]
    return position.reshape(length, width, *position.shape[2:])


def _sinusoids(length: int, width: int) -> np.ndarray:
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def _dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def _layer_norm(p, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-6) * p["scale"] + p["bias"]


def _gate(p, x, y):
    w_r, w_z, w_g = jnp.split(p["W"]["kernel"], 3, axis=1)
    u_r, u_z = jnp.split(p["U"]["kernel"], 2, axis=1)
    r = nn.sigmoid(y @ w_r + x @ u_r)
    z = nn.sigmoid(y @ w_z + x @ u_z - p["bias"])
    h = nn.tanh(y @ w_g + (r * x) @ p["U_g"]["kernel"])
    return (1 - z) * x + z * h
