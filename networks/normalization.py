"""Running mean and variance, merged batch by batch (Chan, Golub and LeVeque, 1979)."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class RunningStatistics:
    """Statistics of everything seen so far; before anything is, mean 0 and variance 1."""

    mean: jax.Array
    variance: jax.Array
    count: jax.Array

    @classmethod
    def create(cls, shape: tuple[int, ...]) -> "RunningStatistics":
        return cls(mean=jnp.zeros(shape), variance=jnp.ones(shape), count=jnp.zeros(()))

    def update(self, batch: jax.Array) -> "RunningStatistics":
        """batch: [..., *shape]; every leading axis is a batch axis."""
        axes = tuple(range(batch.ndim - self.mean.ndim))
        batch_count = jnp.asarray(batch.size / self.mean.size, jnp.float32)
        batch_mean, batch_variance = jnp.mean(batch, axes), jnp.var(batch, axes)
        total = self.count + batch_count
        delta = batch_mean - self.mean
        weight = batch_count / total
        mean = self.mean + delta * weight
        variance = (1 - weight) * self.variance + weight * batch_variance + weight * (1 - weight) * delta**2
        return RunningStatistics(mean=mean, variance=variance, count=total)

    def normalize(self, x: jax.Array, clip: float) -> jax.Array:
        """(x - mean) / std, clipped to [-clip, clip]."""
        return jnp.clip((x - self.mean) * jax.lax.rsqrt(self.variance + 1e-8), -clip, clip)

    def scale(self, x: jax.Array, clip: float) -> jax.Array:
        """x / std, clipped to [-clip, clip]; the mean stays, for rewards keep their sign."""
        return jnp.clip(x * jax.lax.rsqrt(self.variance + 1e-8), -clip, clip)
