"""Gated DeltaNet (Yang et al., 2024, arXiv 2412.06464): a memory that forgets, and corrects what a key recalls.

With H heads of keys of K and values of V:

    q, k, v = silu(conv(W_qkv u))      q = q / |q| / sqrt(K)      k = k / |k|           |x| = sqrt(sum x^2 + 1e-6)
    beta = sigmoid(W_b u)              alpha = exp(-exp(a_log) softplus(W_a u + dt_bias))
    S   = keep_t alpha S_{t-1}                                    decay first,
    S_t = S + k (x) beta (v - S^T k)                              then erase what k recalls and write what is new
    out = W_o (scale * rms(S_t^T q) * silu(W_z u))                the RMS over each head, before the gate

With allow_neg_eigval beta is twice as large (Grazzi et al., 2024, arXiv 2411.12537): I - beta k (x) k may then
flip a direction, which is what tracking a state takes.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.blocks import Block, RMSNorm, Stack
from networks.chunked import DeltaInputs, gated_delta
from networks.layers import Dense
from networks.mamba2 import log_uniform_rate, log_uniform_step
from networks.short_convolution import ShortConvolution

EPSILON = 1e-6
small_normal = nn.initializers.normal(0.02)
norm = functools.partial(RMSNorm, EPSILON)


class Memory(NamedTuple):
    """Memory of one layer."""

    matrix: jax.Array  # S [..., H, K, V]
    window: jax.Array  # of the convolution [..., k - 1, H (2 K + V)]


def unit(x: jax.Array, epsilon: float) -> jax.Array:
    """x / sqrt(|x|^2 + epsilon) along the last axis."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + epsilon)


class Mixer(nn.Module):
    """The memory between its projections."""

    n_heads: int
    d_key: int
    d_value: int
    d_conv: int = 4
    allow_neg_eigval: bool = False
    norm_epsilon: float = EPSILON
    unit_epsilon: float = EPSILON

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Memory:
        channels = self.n_heads * (2 * self.d_key + self.d_value)
        return Memory(
            matrix=jnp.zeros((*batch_shape, self.n_heads, self.d_key, self.d_value)),
            window=jnp.zeros((*batch_shape, self.d_conv - 1, channels)),
        )

    @nn.compact
    def __call__(self, carry: Memory, u: jax.Array, keep: jax.Array) -> tuple[Memory, jax.Array]:
        """u: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d])."""
        heads, keys, values = self.n_heads, self.n_heads * self.d_key, self.n_heads * self.d_value

        def per_head(x):
            return x.reshape(*x.shape[:-1], heads, -1)

        def dense(width, name):
            return Dense(width, use_bias=False, kernel_init=small_normal, name=name)

        widths = (2 * keys + values, values, heads, heads)
        qkv, z, b, a = jnp.split(dense(sum(widths), "in")(u), np.cumsum(widths)[:-1], axis=-1)
        window, qkv = ShortConvolution(self.d_conv, use_bias=False, name="conv")(carry.window, qkv, keep)
        q, k, v = map(per_head, jnp.split(qkv, (keys, 2 * keys), axis=-1))
        step = nn.softplus(a + self.param("dt_bias", log_uniform_step, (heads,)))
        inputs = DeltaInputs(
            log_decay=-jnp.exp(self.param("a_log", log_uniform_rate(0.01), (heads,))) * step,
            rate=(2 if self.allow_neg_eigval else 1) * nn.sigmoid(b),
            key=unit(k, self.unit_epsilon),
            query=unit(q, self.unit_epsilon) / np.sqrt(self.d_key),
            value=v,
        )
        matrix, o = gated_delta(carry.matrix, keep, inputs)
        o = RMSNorm(self.norm_epsilon, name="norm")(o) * per_head(nn.silu(z))
        return Memory(matrix, window), dense(u.shape[-1], "out")(o.reshape(*z.shape))


class SwiGLU(nn.Module):
    """W_out (silu(W_gate x) * W_up x), about 8/3 as wide as x."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [..., d]."""
        width = -(-8 * x.shape[-1] // 24) * 8  # a multiple of 8
        dense = functools.partial(Dense, use_bias=False, kernel_init=small_normal)
        gate, up = jnp.split(dense(2 * width, name="gate_up")(x), 2, axis=-1)
        return dense(x.shape[-1], name="out")(nn.silu(gate) * up)


class GatedDeltaNet(Stack):
    """Stack of gated delta mixers and SwiGLU parts, RMSNorm in front of each."""

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    n_heads: int = 3
    """heads"""
    d_key: int = 32
    """width of a head's keys and queries"""
    d_value: int = 64
    """width of a head's values"""
    d_conv: int = 4
    """steps that the short convolution sees"""
    allow_neg_eigval: bool = False
    """rates of writing up to 2 instead of 1, for tracking states"""

    @nn.nowrap
    def block(self, **flax: Any) -> Block:
        mixer = functools.partial(
            Mixer, self.n_heads, self.d_key, self.d_value, self.d_conv, self.allow_neg_eigval
        )
        return Block(mixer, norm, SwiGLU, **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return norm()


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of transformers: `Qwen3NextGatedDeltaNet`, by its weights taken apart. See networks.reference_mixers."""
    heads, key_heads = settings["num_v_heads"], settings["num_k_heads"]
    if heads % key_heads:
        raise ValueError(f"gated_deltanet: settings.num_k_heads={key_heads}: must divide num_v_heads={heads}")
    d_key = settings["head_k_dim"]

    def of_key_heads(name):  # [..., key_heads K] -> [..., H K]: value heads share a key head in runs
        per_head = arrays[f"plain/{name}"].reshape(-1, key_heads, d_key)
        return np.repeat(per_head, heads // key_heads, axis=1).reshape(len(per_head), heads * d_key)

    kernels = [of_key_heads("W_q"), of_key_heads("W_k"), *(arrays[f"plain/W_{name}"] for name in "vzba")]
    convolutions = [of_key_heads("conv_q"), of_key_heads("conv_k"), arrays["plain/conv_v"]]
    params = {
        "in": {"kernel": np.concatenate(kernels, axis=1)},
        "conv": {"kernel": np.concatenate(convolutions, axis=1)},
        "dt_bias": arrays["params/dt_bias"],
        "a_log": arrays["params/A_log"],
        "norm": {"scale": arrays["params/norm.weight"]},
        "out": {"kernel": arrays["params/out_proj.weight"].T},
    }
    mixer = Mixer(
        n_heads=heads,
        d_key=d_key,
        d_value=settings["head_v_dim"],
        d_conv=settings["conv_kernel"],
        norm_epsilon=settings["norm_eps"],
        unit_epsilon=settings["l2_eps"],
    )
    return mixer, params, settings["hidden_size"]
