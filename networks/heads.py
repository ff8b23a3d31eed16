"""Heads: core outputs [T, B, d] to action distributions and values. Each is Dense, tanh, Dense."""

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import orthogonal

# exp of these bounds is a standard deviation that neither overflows nor vanishes.
LOG_STD_BOUNDS = (-10.0, 4.0)


class MLPHead(nn.Module):
    """Dense(hidden), tanh, Dense(outputs); output_scale is the gain of the last layer."""

    hidden: int
    outputs: int
    output_scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [..., outputs]."""
        x = nn.tanh(nn.Dense(self.hidden, kernel_init=orthogonal(np.sqrt(2)))(x))
        return nn.Dense(self.outputs, kernel_init=orthogonal(self.output_scale))(x)


class GaussianHead(nn.Module):
    """Diagonal Gaussian over actions with a standard deviation that depends on the state."""

    hidden: int
    action_size: int
    output_scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> distrax.MultivariateNormalDiag:
        """x: [..., d]. Returns a distribution over [..., action_size]."""
        mean = MLPHead(self.hidden, self.action_size, self.output_scale, name="mean")(x)
        log_std = MLPHead(self.hidden, self.action_size, self.output_scale, name="log_std")(x)
        return distrax.MultivariateNormalDiag(mean, jnp.exp(jnp.clip(log_std, *LOG_STD_BOUNDS)))


class ValueHead(nn.Module):
    """State value."""

    hidden: int
    output_scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [...]."""
        return MLPHead(self.hidden, 1, self.output_scale, name="value")(x)[..., 0]
