"""Heads: core outputs [T, B, d] to action distributions and values. Each is Dense, activation, Dense."""

from collections.abc import Callable

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import Dense, orthogonal

SQRT2 = float(np.sqrt(2.0))
# exp of these bounds is a standard deviation that neither overflows nor vanishes.
LOG_STD_BOUNDS = (-10.0, 4.0)


class MLPHead(nn.Module):
    """Dense(hidden), activation, Dense(outputs); the scales are the gains of the layers' initialisers."""

    hidden: int
    outputs: int
    output_scale: float
    activation: Callable[[jax.Array], jax.Array] = nn.tanh
    hidden_scale: float = SQRT2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [..., outputs]."""
        x = self.activation(Dense(self.hidden, kernel_init=orthogonal(self.hidden_scale))(x))
        return Dense(self.outputs, kernel_init=orthogonal(self.output_scale))(x)


class CategoricalHead(nn.Module):
    """Distribution over num_actions actions 0, 1, ..."""

    hidden: int
    num_actions: int
    output_scale: float
    activation: Callable[[jax.Array], jax.Array] = nn.tanh
    hidden_scale: float = SQRT2

    @nn.compact
    def __call__(self, x: jax.Array) -> distrax.Categorical:
        """x: [..., d]. Returns a distribution over actions [...], int32."""
        head = (self.hidden, self.num_actions, self.output_scale, self.activation, self.hidden_scale)
        return distrax.Categorical(MLPHead(*head, name="logits")(x))


class GaussianHead(nn.Module):
    """Diagonal Gaussian over actions with a standard deviation that depends on the state."""

    hidden: int
    action_size: int
    output_scale: float
    activation: Callable[[jax.Array], jax.Array] = nn.tanh
    hidden_scale: float = SQRT2

    @nn.compact
    def __call__(self, x: jax.Array) -> distrax.MultivariateNormalDiag:
        """x: [..., d]. Returns a distribution over [..., action_size]."""
        head = (self.hidden, self.action_size, self.output_scale, self.activation, self.hidden_scale)
        mean = MLPHead(*head, name="mean")(x)
        log_std = MLPHead(*head, name="log_std")(x)
        return distrax.MultivariateNormalDiag(mean, jnp.exp(jnp.clip(log_std, *LOG_STD_BOUNDS)))


class ValueHead(nn.Module):
    """State value."""

    hidden: int
    output_scale: float
    activation: Callable[[jax.Array], jax.Array] = nn.tanh
    hidden_scale: float = SQRT2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [...]."""
        head = (self.hidden, 1, self.output_scale, self.activation, self.hidden_scale)
        return MLPHead(*head, name="value")(x)[..., 0]
