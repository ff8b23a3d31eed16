"""The skeleton that most cores share: an embedding, equal residual blocks with the norm in front, a last norm.

    x = embedding(inputs)        for every block: x = x + mixer(norm(x)), x = x + ff(norm(x))        norm(x)

A mixer is the module that remembers: (carry, x [T, ..., d], keep [T, ...]) -> (carry, [T, ..., d]) with keep 0
where a step starts an episode, else 1, and `initialize_carry(batch_shape)`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.layers import Dense, common_dtype, orthogonal, run_layers

MakeModule = Callable[..., nn.Module]

fan_in_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform between -1 / sqrt(d_in) and 1 / sqrt(d_in), the default of torch's Linear."""

LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-5, use_fast_variance=False)
"""torch's LayerNorm; flax's own variance, E[x^2] - E[x]^2, cancels in float32."""


class RMSNorm(nn.Module):
    """scale * x / sqrt(mean(x^2) + epsilon), torch's; epsilon None: the machine epsilon of x's dtype."""

    epsilon: float | None = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [..., d]."""
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
        epsilon = jnp.finfo(x.dtype).eps if self.epsilon is None else self.epsilon
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(square + epsilon)).astype(x.dtype) * scale


class FeedForwardPart(nn.Module):
    """Dense(d_ffc), gelu, Dense back to the input's width."""

    d_ffc: int
    approximate: bool = True  # gelu by tanh; False: by erf
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [..., d]. Returns [..., d]."""
        hidden = Dense(self.d_ffc, kernel_init=self.kernel_init, name="in")(x)
        hidden = nn.gelu(hidden, approximate=self.approximate)
        return Dense(x.shape[-1], kernel_init=self.kernel_init, name="out")(hidden)


class Block(nn.Module):
    """x = x + mixer(norm(x)), then x = x + ff(norm(x)) where there is an ff.

    The fields make the parts: a class, or functools.partial of one; each is called with a name.
    """

    mixer: MakeModule
    norm: MakeModule
    ff: MakeModule | None = None

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Any:
        return self.mixer(parent=None).initialize_carry(batch_shape)

    @nn.compact
    def __call__(self, carry: Any, x: jax.Array, keep: jax.Array) -> tuple[Any, jax.Array]:
        """x: [T, ..., d]; keep: [T, ...]. Returns (carry, [T, ..., d])."""
        carry, mixed = self.mixer(name="mixer")(carry, self.norm(name="mixer_norm")(x), keep)
        x = x + mixed
        if self.ff is not None:
            x = x + self.ff(name="ff")(self.norm(name="ff_norm")(x))
        return carry, x


class Stack(nn.Module):
    """A core on the skeleton: it has the fields n_layers and d_model, and says what its block and last norm are.

    Both methods run under @nn.nowrap; `block` hands its keywords (flax's name and parent) on to the module.
    """

    @nn.nowrap
    def block(self, **flax: Any) -> nn.Module:
        raise NotImplementedError

    @nn.nowrap
    def norm(self) -> nn.Module:
        raise NotImplementedError

    def setup(self):
        self.embedding = Dense(self.d_model)
        self.layers = [self.block() for _ in range(self.n_layers)]
        self.last_norm = self.norm()

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> tuple[Any, ...]:
        """Empty memory, one carry a layer; every leaf leads with batch_shape."""
        return (self.block(parent=None).initialize_carry(batch_shape),) * self.n_layers

    def __call__(self, carry: tuple[Any, ...], inputs: jax.Array, resets: jax.Array):
        """inputs: [T, *batch, D]; resets: [T, *batch] bool, true where the input starts an episode.

        Returns (carry, outputs [T, *batch, d_model]).
        """
        carry, inputs = common_dtype(carry, inputs)
        keep = jnp.logical_not(resets).astype(inputs.dtype)
        carry, x = run_layers(self.layers, carry, self.embedding(inputs), keep)
        return carry, self.last_norm(x)


class FeatureCore(nn.Module):
    """A core that remembers without learning how: Dense without a bias, a fixed map of what went by, an MLP.

    It has the fields n_layers (of the MLP) and d_model, and says what the map is by `features` under @nn.nowrap:
    a module like a mixer, without parameters.
    """

    @nn.nowrap
    def features(self, **flax: Any) -> nn.Module:
        raise NotImplementedError

    def setup(self):
        self.embedding = Dense(self.d_model, use_bias=False)
        self.memory = self.features()
        self.layers = [Dense(self.d_model, kernel_init=orthogonal(math.sqrt(2))) for _ in range(self.n_layers)]

    @nn.nowrap
    def initialize_carry(self, batch_shape: tuple[int, ...]) -> Any:
        """Empty memory; every leaf leads with batch_shape."""
        return self.features(parent=None).initialize_carry(batch_shape)

    def __call__(self, carry: Any, inputs: jax.Array, resets: jax.Array) -> tuple[Any, jax.Array]:
        """inputs: [T, *batch, D]; resets: [T, *batch] bool, true where the input starts an episode.

        Returns (carry, outputs [T, *batch, d_model]).
        """
        carry, inputs = common_dtype(carry, inputs)
        keep = jnp.logical_not(resets).astype(inputs.dtype)
        carry, x = self.memory(carry, self.embedding(inputs), keep)
        for layer in self.layers:  # fewer operations than a scan over them would take
            x = nn.tanh(layer(x))
        return carry, x


def join_window(window: jax.Array, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The steps in a window and those that follow, one after the other, and the number of each one's episode.

    Args:
        window: the last k - 1 steps, oldest first [..., k - 1, d]; zeros when empty.
        x: [T, ..., d].
        keep: [T, ...], 0 where the step starts an episode, else 1.

    Returns:
        (steps [k - 1 + T, ..., d], episodes [k - 1 + T, ...], 0 in the window).
    """
    steps = jnp.concatenate([jnp.moveaxis(window, -2, 0), x])
    unknown = jnp.zeros((window.shape[-2], *keep.shape[1:]), jnp.int32)
    return steps, jnp.concatenate([unknown, jnp.cumsum(keep == 0, axis=0, dtype=jnp.int32)])


def last_window(steps: jax.Array, episodes: jax.Array, length: int) -> jax.Array:
    """The window after the last step: what follows the first `length` steps, without other episodes' steps."""
    same = episodes[length:] == episodes[-1]
    return jnp.moveaxis(jnp.where(same[..., None], steps[length:], 0), 0, -2)


def recent_steps(window: jax.Array, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """x_t, x_{t-1}, .., x_{t-k+1} for every step t, zeros where the episode had not begun yet; k is small.

    Takes what join_window takes. Returns (window after the last step, k arrays [T, ..., d], newest step first).
    """
    length, older = x.shape[0], window.shape[-2]
    steps, episodes = join_window(window, x, keep)

    def before(lag):
        part = slice(older - lag, older - lag + length)
        return jnp.where((episodes[part] == episodes[older:])[..., None], steps[part], 0)

    return last_window(steps, episodes, length), [before(lag) for lag in range(older + 1)]
