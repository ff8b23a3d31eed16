"""LSTM (Hochreiter and Schmidhuber, 1997), the equations of flax's OptimizedLSTMCell.

    i, f, o = sigmoid(W x + U h + b)    g = tanh(W_g x + U_g h + b_g)    c' = f c + i g    h' = o tanh(c')

Plain form: `flax.linen.OptimizedLSTMCell`, one step at a time.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.layers import CellStack, Dense, lecun_columns, orthogonal_columns
from networks.recurrence import cell_recurrence


class LayerCarry(NamedTuple):
    cell: jax.Array  # [..., d_model]
    hidden: jax.Array  # [..., d_model]


def lstm_cell(state: tuple, inputs: jax.Array, recurrent: jax.Array) -> tuple:
    i, f, g, o = jnp.split(inputs + recurrent, 4, axis=-1)
    cell = nn.sigmoid(f) * state[0] + nn.sigmoid(i) * nn.tanh(g)
    return cell, nn.sigmoid(o) * nn.tanh(cell)


class Layer(nn.Module):
    """The input's products for the whole segment at once, then the recurrence."""

    d_model: int

    @nn.compact
    def __call__(self, carry: LayerCarry, x: jax.Array, keep: jax.Array) -> tuple[LayerCarry, jax.Array]:
        """x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d_model])."""
        d = self.d_model
        inputs = Dense(4 * d, use_bias=False, kernel_init=lecun_columns(4), name="input")(x)
        kernel = self.param("kernel", orthogonal_columns(4, 1.0), (d, 4 * d))
        bias = self.param("bias", nn.initializers.zeros_init(), (4 * d,))
        keep = keep.astype(inputs.dtype)
        cell, hidden = cell_recurrence(lstm_cell, kernel, bias, tuple(carry), inputs, keep)
        return LayerCarry(cell[-1], hidden[-1]), hidden


class LSTM(CellStack):
    """n_layers LSTMs of width d_model, one on the other."""

    d_model: int = 600
    layer = Layer

    @staticmethod
    def empty_layer(zeros: jax.Array) -> LayerCarry:
        return LayerCarry(zeros, zeros)
