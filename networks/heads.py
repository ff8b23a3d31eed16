"""Heads: core outputs [T, B, d] to action distributions, values and Q values. Each is Dense, activation, Dense."""

import functools
from collections.abc import Callable

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from networks.layers import Dense, orthogonal

SQRT2 = float(np.sqrt(2.0))
LOG_STD_MIN = -10.0
"""Its exp is a standard deviation that does not vanish."""
LOG_STD_MAX = 4.0
"""Where actions have no range: its exp does not overflow."""
LOG_STD_MAX_IN_RANGE = 1.0
"""Where actions lie in [-1, 1]: a wider Gaussian puts nearly all of its draws on the bounds."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def bounded(x: jax.Array, low: float, high: float) -> jax.Array:
    """x clipped to [low, high]; beyond a bound the gradients that lead back still pass.

    jnp.clip has none there: a standard deviation that an entropy bonus has driven to its bound would stay.
    """
    return jnp.clip(x, low, high)


def _bounded_forward(x, low, high):
    return bounded(x, low, high), x


def _bounded_backward(low, high, x, cotangent):
    # A step of gradient descent moves x against the cotangent.
    leads_back = jnp.where(x > high, cotangent > 0, True) & jnp.where(x < low, cotangent < 0, True)
    return (jnp.where(leads_back, cotangent, 0.0),)


bounded.defvjp(_bounded_forward, _bounded_backward)


class MLPHead(nn.Module):
    """Dense(hidden), activation, Dense(outputs); the scales are the gains of the layers' initialisers.

    With `layer_norm`, what the hidden layer gives is normalised before the activation.
    """

    hidden: int
    outputs: int
    output_scale: float
    activation: Callable[[jax.Array], jax.Array] = nn.tanh
    hidden_scale: float = SQRT2
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [..., outputs]."""
        x = Dense(self.hidden, kernel_init=orthogonal(self.hidden_scale))(x)
        x = self.activation(nn.LayerNorm()(x) if self.layer_norm else x)
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
    log_std_max: float = LOG_STD_MAX

    @nn.compact
    def __call__(self, x: jax.Array) -> distrax.MultivariateNormalDiag:
        """x: [..., d]. Returns a distribution over [..., action_size]."""
        head = (self.hidden, self.action_size, self.output_scale, self.activation, self.hidden_scale)
        mean = MLPHead(*head, name="mean")(x)
        log_std = MLPHead(*head, name="log_std")(x)
        return distrax.MultivariateNormalDiag(mean, jnp.exp(bounded(log_std, LOG_STD_MIN, self.log_std_max)))


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


class QHead(nn.Module):
    """Q values of num_actions actions 0, 1, ...

    The LayerNorm bounds what enters the last layer, which keeps temporal differences without a target network from
    diverging (Gallici et al., 2024, sec. 3).
    """

    hidden: int
    num_actions: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [..., num_actions]."""
        return MLPHead(self.hidden, self.num_actions, 1.0, nn.relu, layer_norm=True, name="q")(x)


def policy_metrics(policy: distrax.Distribution) -> dict[str, jax.Array]:
    """Means over everything that a policy of actions [...] covers: its entropy, and a Gaussian's deviation."""
    metrics = {"entropy": policy.entropy().mean()}
    if isinstance(policy, distrax.MultivariateNormalDiag):
        metrics["std"] = policy.stddev().mean()
    return metrics
