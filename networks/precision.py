"""Precision of matrix products."""

import jax
import jax.numpy as jnp


def product_precision() -> str:
    """What every product of an agent asks for: full float32, or what JAX's own option says where it is set.

    JAX's default on a GPU, TensorFloat-32, rounds factors to ten bits, and not alike for one step and for a
    rollout: acting and learning would differ by a tenth of a value.
    """
    return jax.config.jax_default_matmul_precision or "float32"


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b in that precision."""
    return jnp.matmul(a, b, precision=product_precision())
