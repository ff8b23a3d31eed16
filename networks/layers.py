"""What several memory cores share: dense layers, the GRU gate, and running one block over a stack of layers."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.precision import matmul, product_precision

# More layers than this are scanned in learning. The scan copies parameters and all that the gradient keeps: with
# four layers it takes 7 % more of an update on CPU and compiles no sooner, with eight it is as fast and compiles
# sooner.
MOST_LAYERS_UNROLLED = 4


def _traced_once(init: Callable) -> Callable:
    """flax asks every initialiser for its parameter's shape in every apply; jit remembers the answer."""
    return jax.jit(init, static_argnames=("shape", "dtype"))


@functools.cache
def orthogonal(scale: float) -> Callable:
    """flax's orthogonal initialiser of gain `scale`, a number; under vmap one matrix after the other.

    Batched QR decompositions can block every thread of jaxlib 0.10.2's CPU backend for ever.
    """

    @_traced_once
    def init(key, shape, dtype=jnp.float32):
        @jax.custom_batching.sequential_vmap
        def one_matrix(key):
            return nn.initializers.orthogonal(scale)(key, shape, dtype)

        return one_matrix(key)

    return init


@functools.cache
def orthogonal_columns(num_blocks: int, scale: float) -> Callable:
    """Initialiser of [d_in, num_blocks * d_out]: side by side, independent orthogonal matrices.

    A Dense that computes several projections at once then starts as if each had its own Dense.
    """
    return _blocks_initialiser(orthogonal(scale), num_blocks)


@functools.cache
def lecun_columns(num_blocks: int) -> Callable:
    """As orthogonal_columns, with flax's default initialiser."""
    return _blocks_initialiser(nn.initializers.lecun_normal(), num_blocks)


def _blocks_initialiser(initialiser, num_blocks):
    @_traced_once
    def init(key, shape, dtype=jnp.float32):
        keys = jax.random.split(key, num_blocks)
        blocks = jax.vmap(lambda key: initialiser(key, (shape[0], shape[1] // num_blocks), dtype))(keys)
        return jnp.moveaxis(blocks, 0, 1).reshape(shape)

    return init


def bias_of_time_constants(horizon: int, width: int) -> np.ndarray:
    """Biases [width] with which sigmoid gates start at 1 / tau, log tau evenly spread over 2 .. horizon.

    Zeros, one half everywhere, for a horizon of 1 or 2.
    """
    return 0.0 - np.log(np.geomspace(2.0, max(2.0, horizon), width) - 1)


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel: [..., n] and [n, m] to [..., m].

    JAX writes the gradient of the kernel as the transpose of its transpose. XLA's CPU backend then turns the whole
    cotangent around first, and takes two to four times as long as for the product written here. The leading axes
    are not flattened: one that lies on several devices stays so. Reverse mode only.
    """
    return matmul(x, kernel)


def _product_forward(x, kernel):
    return product(x, kernel), (x, kernel)


def _product_backward(factors, cotangent):
    x, kernel = factors
    rows = tuple(range(x.ndim - 1))
    d_kernel = jax.lax.dot_general(x, cotangent, ((rows, rows), ((), ())), precision=product_precision())
    return matmul(cotangent, kernel.T).astype(x.dtype), d_kernel.astype(kernel.dtype)


product.defvjp(_product_forward, _product_backward)


def _product_of_flax(x, kernel, dimension_numbers, precision):
    """`product` with the signature that nn.Dense calls; the dimensions are always those of `product`."""
    del dimension_numbers, precision
    return product(x, kernel)


Dense = functools.partial(nn.Dense, dot_general=_product_of_flax)
"""flax's Dense with the gradient of `product`."""


def common_dtype(carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """The carry's and the input's floats in one precision, the higher of the two: what a scan demands."""

    def is_float(leaf):
        return jnp.issubdtype(leaf.dtype, jnp.floating)

    dtype = jnp.result_type(x, *filter(is_float, jax.tree.leaves(carry)))
    carry = jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, carry)
    return carry, x.astype(dtype)


class GRUGate(nn.Module):
    """Gate of Parisotto et al. (2020), eq. 8, in place of a residual connection.

    r = sigmoid(W_r y + U_r x)    z = sigmoid(W_z y + U_z x - b)    h = tanh(W_g y + U_g (r * x))
    output = (1 - z) x + z h

    The matrices that share an input are one product: `W` holds W_r, W_z, W_g, `U` holds U_r, U_z.
    `columns_init(n)` gives the initialiser of n matrices side by side.
    """

    columns_init: Callable[[int], Callable]
    bias_init: float = 2.0

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """x: skip input [..., d]; y: the sublayer's output [..., d]. Returns [..., d]."""
        d = x.shape[-1]
        bias = self.param("bias", nn.initializers.constant(self.bias_init), (d,))
        wr, wz, wg = jnp.split(
            Dense(3 * d, use_bias=False, kernel_init=self.columns_init(3), name="W")(y), 3, axis=-1
        )
        ur, uz = jnp.split(Dense(2 * d, use_bias=False, kernel_init=self.columns_init(2), name="U")(x), 2, axis=-1)
        r = nn.sigmoid(wr + ur)
        z = nn.sigmoid(wz + uz - bias)
        h = nn.tanh(wg + Dense(d, use_bias=False, kernel_init=self.columns_init(1), name="U_g")(r * x))
        return (1 - z) * x + z * h


def gated_sublayers(x: jax.Array, attended: jax.Array, d_ffc: int, gate_bias: float = 2.0) -> jax.Array:
    """What follows the attention in AReLiT and ReLiT: gate; LayerNorm, feed-forward, relu, gate.

    To be called in a compact method, to which the parameters belong. x: the block's input [T, ..., d_model];
    attended: the heads' read-outs [T, ..., H, d_head]; gate_bias: see GRUGate. Returns [T, ..., d_model].
    """
    gain = math.sqrt(2.0)

    def dense(width, name):
        return Dense(width, kernel_init=orthogonal(gain), name=name)

    def gate(name):
        return GRUGate(lambda n: orthogonal_columns(n, gain), gate_bias, name=name)

    attended = attended.reshape(*x.shape[:-1], attended.shape[-2] * attended.shape[-1])
    attended = dense(x.shape[-1], "project")(attended)
    x = gate("attention_gate")(x, nn.relu(attended))
    hidden = nn.relu(dense(d_ffc, "ffc_in")(nn.LayerNorm(name="ffc_norm")(x)))
    return gate("ffc_gate")(x, nn.relu(dense(x.shape[-1], "ffc_out")(hidden)))


def run_layers(blocks: Sequence[nn.Module], carries: tuple, x: jax.Array, *inputs: Any) -> tuple[tuple, jax.Array]:
    """Apply equal blocks one after the other: carry_l, x = block_l(carry_l, x, *inputs).

    A single step (acting) and few layers are unrolled, each layer reading its own arrays. A segment (learning) of
    many layers is one scan over the stacked parameters, so that the program's size does not grow with the number
    of layers.

    Args:
        blocks: modules of one class and one set of hyperparameters, bound to their own parameters.
        carries: one carry a layer.
        x: [T, ..., d].
        inputs: further arguments, the same for every layer.

    Returns:
        (carries, outputs [T, ..., d]).
    """
    initializing = bool(blocks) and blocks[0].is_initializing()
    if initializing and "params" not in blocks[0].variables:
        _initialize(blocks, carries, x, *inputs)
    if len(blocks) <= MOST_LAYERS_UNROLLED or x.shape[0] == 1 or initializing:
        new_carries = []
        for block, carry in zip(blocks, carries, strict=True):
            carry, x = block(carry, x, *inputs)
            new_carries.append(carry)
        return tuple(new_carries), x

    def stack(*trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    unbound = blocks[0].clone(parent=None, name=None)

    def apply_layer(x, layer):
        params, carry = layer
        carry, x = unbound.apply({"params": params}, carry, x, *inputs)
        return x, carry

    params = stack(*[block.variables["params"] for block in blocks])
    x, stacked = jax.lax.scan(apply_layer, x, (params, stack(*carries)))
    new_carries = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(len(blocks)))
    return new_carries, x


class CellStack(nn.Module):
    """n_layers gated cells of width d_model, one on the other: what LSTM and GRU share.

    A subclass names its `layer`, a module that takes (carry, x [T, ..., d], keep [T, ...]) to (carry, x [T, ...,
    d_model]), and makes that layer's empty carry of zeros [..., d_model] in `empty_layer`.
    """

    layer: ClassVar[Any]
    empty_layer: ClassVar[Any]
    n_layers: int = 1
    """cells, one on the other"""
    d_model: int = 128
    """width of a cell's state and of the outputs"""

    def setup(self):
        self.layers = [self.layer(self.d_model) for _ in range(self.n_layers)]

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> tuple:
        """Zeros; every leaf leads with batch_shape."""
        return (self.empty_layer(jnp.zeros((*batch_shape, self.d_model))),) * self.n_layers

    def __call__(self, carry: tuple, inputs: jax.Array, resets: jax.Array) -> tuple[tuple, jax.Array]:
        """inputs: [T, *batch, D]; resets: [T, *batch] bool. Returns (carry, outputs [T, *batch, d_model])."""
        carry, x = common_dtype(carry, inputs)
        keep = jnp.logical_not(resets)
        first, x = self.layers[0](carry[0], x, keep)  # its input is of another width
        rest, x = run_layers(self.layers[1:], carry[1:], x, keep)
        return (first, *rest), x


def _initialize(blocks: Sequence[nn.Module], carries: tuple, x: jax.Array, *inputs: Any) -> None:
    """Parameters of equal blocks by one loop, so that the start compiles one block's initialisers, not all."""
    unbound = blocks[0].clone(parent=None, name=None)

    def one_block(key):
        return unbound.init(key, carries[0], x, *inputs)["params"]

    params = jax.lax.map(one_block, jax.random.split(blocks[0].make_rng("params"), len(blocks)))
    for i, block in enumerate(blocks):
        for name, stacked in params.items():
            block.put_variable("params", name, jax.tree.map(lambda leaf, i=i: leaf[i], stacked))
