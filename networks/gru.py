"""GRU (Cho et al., 2014), the equations of flax's GRUCell.

    r, z = sigmoid(W x + b + U h)    n = tanh(W_n x + b_n + r (U_n h + c_n))    h' = (1 - z) n + z h

Plain form: `flax.linen.GRUCell`, one step at a time.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.layers import CellStack, Dense, lecun_columns, orthogonal_columns
from networks.recurrence import cell_recurrence


def gru_cell(state: tuple, inputs: jax.Array, recurrent: jax.Array) -> tuple:
    input_r, input_z, input_n = jnp.split(inputs, 3, axis=-1)
    recurrent_r, recurrent_z, recurrent_n = jnp.split(recurrent, 3, axis=-1)
    z = nn.sigmoid(input_z + recurrent_z)
    n = nn.tanh(input_n + nn.sigmoid(input_r + recurrent_r) * recurrent_n)
    return ((1 - z) * n + z * state[0],)


class Layer(nn.Module):
    """The input's products for the whole segment at once, then the recurrence."""

    d_model: int

    @nn.compact
    def __call__(self, carry: jax.Array, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, jax.Array]:
        """carry: [..., d_model]; x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d_model])."""
        d = self.d_model
        inputs = Dense(3 * d, kernel_init=lecun_columns(3), name="input")(x)
        kernel = self.param("kernel", orthogonal_columns(3, 1.0), (d, 3 * d))
        bias_n = self.param("bias_n", nn.initializers.zeros_init(), (d,))
        bias = jnp.concatenate([jnp.zeros(2 * d, bias_n.dtype), bias_n])  # r and z have theirs in the input's
        (hidden,) = cell_recurrence(gru_cell, kernel, bias, (carry,), inputs, keep.astype(inputs.dtype))
        return hidden[-1], hidden


class GRU(CellStack):
    """n_layers GRUs of width d_model, one on the other."""

    d_model: int = 680
    layer = Layer

    @staticmethod
    def empty_layer(zeros: jax.Array) -> jax.Array:
        return zeros
