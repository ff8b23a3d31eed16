"""The memoryless control: what an agent reaches without a carry. It is its own plain form."""

import flax.linen as nn
import jax

from networks.layers import Dense


class FeedForward(nn.Module):
    """n_layers of Dense(d_model) + relu; the carry is empty and resets mean nothing to it."""

    n_layers: int = 2
    """layers"""
    d_model: int = 128
    """width of a layer"""

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> tuple[()]:
        del batch_shape
        return ()

    @nn.compact
    def __call__(self, carry: tuple[()], inputs: jax.Array, resets: jax.Array) -> tuple[tuple[()], jax.Array]:
        """inputs: [T, *batch, D]. Returns ((), outputs [T, *batch, d_model])."""
        del resets
        x = inputs
        for _ in range(self.n_layers):
            x = nn.relu(Dense(self.d_model)(x))
        return carry, x
