"""Mamba-2 (Dao and Gu, 2024, arXiv 2405.21060): a matrix memory that decays by one number a head and step.

With H heads of P, a state of N and G groups of heads that share B and C:

    [z; xBC; dt] = W_in u_t                  [x; B; C] = silu(conv(xBC))
    Delta = clip(softplus(dt + dt_bias))     A = -exp(a_log)
    S_t = keep_t exp(Delta A) S_{t-1} + Delta B (x) x        y = S_t^T C + skip x
    out = W_out (scale * rms(y * silu(z)))                   the gate first, then the RMS over each of G parts

The gate makes the block's feed-forward part needless.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.blocks import Block, RMSNorm, Stack, fan_in_uniform
from networks.chunked import SSDInputs, ssd
from networks.layers import Dense
from networks.short_convolution import ShortConvolution


class Memory(NamedTuple):
    """Memory of one layer."""

    matrix: jax.Array  # S [..., H, N, P]
    window: jax.Array  # of the convolution [..., k - 1, H P + 2 G N]


def log_uniform_step(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """dt_bias of steps between 0.001 and 0.1, uniform in their logarithm: the inverse of softplus."""
    step = jnp.exp(jax.random.uniform(key, shape, dtype, math.log(1e-3), math.log(1e-1)))
    return step + jnp.log(-jnp.expm1(-step))


def log_uniform_rate(lowest: float):
    """a_log of rates A uniform between `lowest` and 16."""

    def init(key, shape, dtype=jnp.float32):
        return jnp.log(jax.random.uniform(key, shape, dtype, lowest, 16.0))

    return init


class Mixer(nn.Module):
    """The memory between its projections."""

    n_heads: int
    d_head: int
    d_state: int
    n_groups: int = 1
    d_conv: int = 4
    dt_floor: float = 0.0
    dt_ceiling: float = math.inf
    n_layers: int = 1  # of the stack: the output starts smaller where there are many
    use_bias: bool = False
    use_conv_bias: bool = True
    epsilon: float = 1e-5

    @nn.nowrap
    def widths(self) -> tuple[int, int]:
        """(of z and x, H P; of B and C, G N)."""
        return self.n_heads * self.d_head, self.n_groups * self.d_state

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Memory:
        inner, shared = self.widths()
        return Memory(
            matrix=jnp.zeros((*batch_shape, self.n_heads, self.d_state, self.d_head)),
            window=jnp.zeros((*batch_shape, self.d_conv - 1, inner + 2 * shared)),
        )

    @nn.compact
    def __call__(self, carry: Memory, u: jax.Array, keep: jax.Array) -> tuple[Memory, jax.Array]:
        """u: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d])."""
        (inner, shared), heads = self.widths(), self.n_heads
        width = 2 * (inner + shared) + heads
        projected = Dense(width, use_bias=self.use_bias, kernel_init=fan_in_uniform, name="in")(u)
        z, xBC, dt = jnp.split(projected, (inner, 2 * (inner + shared)), axis=-1)
        window, xBC = ShortConvolution(self.d_conv, self.use_conv_bias, name="conv")(carry.window, xBC, keep)
        x, B, C = jnp.split(xBC, (inner, inner + shared), axis=-1)
        x = x.reshape(*x.shape[:-1], heads, self.d_head)

        def per_head(shared):  # [..., G N] -> [..., H, N]: heads share a group in runs
            shared = shared.reshape(*shared.shape[:-1], self.n_groups, self.d_state)
            return jnp.repeat(shared, heads // self.n_groups, axis=-2)

        delta = nn.softplus(dt + self.param("dt_bias", log_uniform_step, (heads,)))
        delta = jnp.clip(delta, self.dt_floor, self.dt_ceiling)
        A = -jnp.exp(self.param("a_log", log_uniform_rate(1.0), (heads,)))
        inputs = SSDInputs(log_decay=delta * A, key=per_head(B), query=per_head(C), value=delta[..., None] * x)
        matrix, y = ssd(carry.matrix, keep, inputs)
        y += self.param("skip", nn.initializers.ones_init(), (heads,))[:, None] * x
        y = y.reshape(*z.shape) * nn.silu(z)
        y = self.param("scale", nn.initializers.ones_init(), (inner,)) * self.rms_of_parts(y)
        init = nn.initializers.variance_scaling(1 / (3 * self.n_layers), "fan_in", "uniform")
        out = Dense(u.shape[-1], use_bias=self.use_bias, kernel_init=init, name="out")(y)
        return Memory(matrix, window), out

    def rms_of_parts(self, y: jax.Array) -> jax.Array:
        parts = y.reshape(*y.shape[:-1], self.n_groups, -1)
        square = jnp.mean(jnp.square(parts), axis=-1, keepdims=True)
        return (parts * jax.lax.rsqrt(square + self.epsilon)).reshape(y.shape)


class Mamba2(Stack):
    """Stack of Mamba-2 mixers, RMSNorm in front of each."""

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    n_heads: int = 4
    """heads"""
    d_head: int = 64
    """width of a head's values (P)"""
    d_state: int = 32
    """width of a head's keys and queries (N)"""
    n_groups: int = 1
    """groups of heads that share keys and queries; divides n_heads"""
    d_conv: int = 4
    """steps that the short convolution sees"""
    dt_floor: float = 0.0
    """smallest time step"""
    dt_ceiling: float = 1e9  # no bound in effect; finite, so that a config and JSON can hold it
    """largest time step"""

    def __post_init__(self):
        if self.n_heads % self.n_groups:
            raise ValueError(f"core.n_groups={self.n_groups}: must divide n_heads={self.n_heads}")
        if not 0 <= self.dt_floor < math.inf:
            raise ValueError(f"core.dt_floor={self.dt_floor}: must be at least 0 and finite")
        if not self.dt_floor < self.dt_ceiling:
            raise ValueError(f"core.dt_ceiling={self.dt_ceiling}: must be greater than dt_floor={self.dt_floor}")
        super().__post_init__()

    @nn.nowrap
    def block(self, **flax: Any) -> Block:
        sizes = (self.n_heads, self.d_head, self.d_state, self.n_groups, self.d_conv)
        mixer = functools.partial(Mixer, *sizes, self.dt_floor, self.dt_ceiling, self.n_layers)
        return Block(mixer, RMSNorm, **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return RMSNorm()


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of transformers: `Mamba2Mixer`. See networks.reference_mixers."""
    use_bias, use_conv_bias = settings["use_bias"], settings["use_conv_bias"]
    floor, ceiling = map(float, settings["time_step_limit"])
    heads, groups = settings["num_heads"], settings["n_groups"]
    if heads % groups:
        raise ValueError(f"mamba2: settings.n_groups={groups}: must divide num_heads={heads}")
    mixer = Mixer(
        n_heads=heads,
        d_head=settings["head_dim"],
        d_state=settings["state_size"],
        n_groups=groups,
        d_conv=settings["conv_kernel"],
        dt_floor=floor,
        dt_ceiling=ceiling,
        use_bias=use_bias,
        use_conv_bias=use_conv_bias,
        epsilon=settings["norm_eps"],
    )

    def dense(name):
        bias = {"bias": arrays[f"params/{name}.bias"]} if use_bias else {}
        return {"kernel": arrays[f"params/{name}.weight"].T} | bias

    conv = {"kernel": arrays["params/conv1d.weight"][:, 0].T}
    if use_conv_bias:
        conv["bias"] = arrays["params/conv1d.bias"]
    params = {
        "in": dense("in_proj"),
        "conv": conv,
        "dt_bias": arrays["params/dt_bias"],
        "a_log": arrays["params/A_log"],
        "skip": arrays["params/D"],
        "scale": arrays["params/norm.weight"],
        "out": dense("out_proj"),
    }
    return mixer, params, settings["hidden_size"]
