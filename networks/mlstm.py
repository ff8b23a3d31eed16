"""mLSTM (Beck et al., 2024, arXiv 2405.04517): a matrix memory with exponential input gates and a normaliser.

With an inner width of H heads times d_head, and q, k, v by matrices with blocks along their diagonal:

    [a; z] = W_up u      c = silu(conv(a))      q = B_q c      k = B_k c      v = B_v a
    i = W_i [q; k; v] + b_i      log f = log sigmoid(W_f [q; k; v] + b_f)
    C_t = keep_t f C_{t-1} + e^i k (x) v        n_t = keep_t f n_{t-1} + e^i k        with k / sqrt(d_head) for k
    h = C_t^T q / max(|n_t . q|, 1)             all computed divided by e^m, so that nothing overflows: see
    out = W_down ((scale * LN(h) + skip * c) * silu(z))        networks.chunked; LN over each head

The gate makes the block's feed-forward part needless.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.blocks import Block, LayerNorm, Stack
from networks.chunked import EPSILON, MLSTMInputs, MLSTMState, mlstm
from networks.layers import Dense
from networks.precision import product_precision
from networks.short_convolution import ShortConvolution


class Memory(NamedTuple):
    """Memory of one layer."""

    state: MLSTMState
    window: jax.Array  # of the convolution [..., k - 1, H d_head]


class BlockDiagonal(nn.Module):
    """y = B x, with blocks [size, size] along the diagonal of B and nothing elsewhere."""

    size: int
    kernel_init: Any
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., n], n a multiple of size. Returns [..., n]."""
        blocks = x.reshape(*x.shape[:-1], -1, self.size)
        kernel = self.param("kernel", self.kernel_init, (blocks.shape[-2], self.size, self.size))
        y = jnp.einsum("...bi,boi->...bo", blocks, kernel, precision=product_precision()).reshape(x.shape)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        return y


def gate_bias_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """b_i near 0, and b_f from 3 to 6: memories of 21 to 400 steps, another one for each head."""
    heads = shape[0] // 2
    input_gate = 0.1 * jax.random.normal(key, (heads,), dtype)
    return jnp.concatenate([input_gate, jnp.linspace(3.0, 6.0, heads, dtype=dtype)])


class Mixer(nn.Module):
    """The memory between its projections."""

    n_heads: int
    d_head: int
    d_conv: int = 4
    qkv_block: int = 4
    n_layers: int = 1  # of the stack: the output starts smaller where there are many
    use_bias: bool = False
    epsilon: float = 1e-5

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Memory:
        heads = (*batch_shape, self.n_heads)
        state = MLSTMState(
            matrix=jnp.zeros((*heads, self.d_head, self.d_head)),
            norm=jnp.zeros((*heads, self.d_head)),
            stabiliser=jnp.zeros(heads),
        )
        return Memory(state, jnp.zeros((*batch_shape, self.d_conv - 1, self.n_heads * self.d_head)))

    @nn.compact
    def __call__(self, carry: Memory, u: jax.Array, keep: jax.Array) -> tuple[Memory, jax.Array]:
        """u: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d])."""
        d, inner = u.shape[-1], self.n_heads * self.d_head

        def dense(width, std, name):
            return Dense(width, use_bias=self.use_bias, kernel_init=nn.initializers.normal(std), name=name)

        def per_head(x):
            return x.reshape(*x.shape[:-1], self.n_heads, self.d_head)

        std = np.sqrt(2 / (5 * d))
        project = functools.partial(BlockDiagonal, self.qkv_block, nn.initializers.normal(std), self.use_bias)
        a, z = jnp.split(dense(2 * inner, std, "up")(u), 2, axis=-1)
        window, c = ShortConvolution(self.d_conv, name="conv")(carry.window, a, keep)
        q, k, v = project(name="query")(c), project(name="key")(c), project(name="value")(a)
        zeros = nn.initializers.zeros_init()
        gates = Dense(2 * self.n_heads, kernel_init=zeros, bias_init=gate_bias_init, name="gates")
        log_input, forget = jnp.split(gates(jnp.concatenate([q, k, v], axis=-1)), 2, axis=-1)
        inputs = MLSTMInputs(
            log_forget=nn.log_sigmoid(forget),
            log_input=log_input,
            key=per_head(k) / np.sqrt(self.d_head),
            query=per_head(q),
            value=per_head(v),
        )
        state, h = mlstm(carry.state, keep, inputs)
        h = LayerNorm(epsilon=self.epsilon, use_scale=False, use_bias=False)(h).reshape(*z.shape)
        ones = nn.initializers.ones_init()
        h = self.param("scale", ones, (inner,)) * h + self.param("skip", ones, (inner,)) * c
        out = dense(d, 2 / (self.n_layers * np.sqrt(d)), "down")(h * nn.silu(z))
        return Memory(state, window), out


class MLSTM(Stack):
    """Stack of mLSTM mixers, LayerNorm in front of each."""

    n_layers: int = 4
    """blocks"""
    d_model: int = 128
    """width of inputs and outputs of a block"""
    n_heads: int = 4
    """heads"""
    d_head: int = 64
    """width of a head's keys, queries and values"""
    d_conv: int = 4
    """steps that the short convolution sees"""
    qkv_block: int = 4
    """size of the blocks that make keys, queries and values; divides n_heads d_head"""

    def __post_init__(self):
        inner = self.n_heads * self.d_head
        if inner % self.qkv_block:
            raise ValueError(f"core.qkv_block={self.qkv_block}: must divide n_heads d_head={inner}")
        super().__post_init__()

    @nn.nowrap
    def block(self, **flax: Any) -> Block:
        mixer = functools.partial(Mixer, self.n_heads, self.d_head, self.d_conv, self.qkv_block, self.n_layers)
        return Block(mixer, LayerNorm, **flax)

    @nn.nowrap
    def norm(self) -> nn.Module:
        return LayerNorm()


def from_reference(settings: dict, arrays: dict) -> tuple[nn.Module, dict, int]:
    """Of xlstm: `mLSTMLayer`. See networks.reference_mixers."""
    inner, heads, size = (settings[name] for name in ("inner_dim", "num_heads", "qkv_proj_blocksize"))
    use_bias = settings["bias"]
    for name, parts in (("num_heads", heads), ("qkv_proj_blocksize", size)):
        if inner % parts:
            raise ValueError(f"mlstm: settings.{name}={parts}: must divide inner_dim={inner}")
    if settings["cell_eps"] != EPSILON:
        raise ValueError(f"mlstm: settings.cell_eps={settings['cell_eps']}: must be {EPSILON}")
    mixer = Mixer(
        n_heads=heads,
        d_head=inner // heads,
        d_conv=settings["conv1d_kernel_size"],
        qkv_block=size,
        use_bias=use_bias,
        epsilon=settings["norm_eps"],
    )

    def linear(name, transpose=True):
        bias = {"bias": arrays[f"params/{name}.bias"]} if use_bias else {}
        weight = arrays[f"params/{name}.weight"]
        return {"kernel": weight.T if transpose else weight} | bias

    def of_gates(what):
        return np.concatenate([arrays[f"params/mlstm_cell.{gate}gate.{what}"] for gate in "if"])

    params = {
        "up": linear("proj_up"),
        "conv": {"kernel": arrays["params/conv1d.conv.weight"][:, 0].T, "bias": arrays["params/conv1d.conv.bias"]},
        **{name: linear(f"{name[0]}_proj", transpose=False) for name in ("query", "key", "value")},
        "gates": {"kernel": of_gates("weight").T, "bias": of_gates("bias")},
        "scale": 1 + arrays["params/mlstm_cell.outnorm.weight"],
        "skip": arrays["params/learnable_skip"],
        "down": linear("proj_down"),
    }
    return mixer, params, settings["embedding_dim"]
