"""The short causal convolution in front of a matrix memory: every channel a weighted sum of its last k inputs.

y_t = bias + sum_{tau = 0}^{k-1} w_{k-1-tau} * x_{t-tau}        over the steps of the episode; then silu
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from networks.blocks import recent_steps


class ShortConvolution(nn.Module):
    """Its carry, the last k - 1 inputs with the oldest first [..., k - 1, channels], is cleared by a reset."""

    taps: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, window: jax.Array, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x: [T, ..., channels]; keep: [T, ...]. Returns (window, silu(y) [T, ..., channels])."""
        shape = (self.taps, x.shape[-1])
        kernel = self.param("kernel", uniform(self.taps**-0.5), shape)  # the last row is the newest input's
        window, steps = recent_steps(window.astype(x.dtype), x, keep)
        y = sum(kernel[-1 - lag] * step for lag, step in enumerate(steps))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros_init(), shape[1:])
        return window, nn.silu(y)


def uniform(bound: float):
    """Initialiser between -bound and bound."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
