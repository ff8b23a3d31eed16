"""Pytrees that lax.scan accepts as a carry."""

from typing import Any

import jax
import jax.numpy as jnp


def strong_types(tree: Any) -> Any:
    """Makes every leaf an array of a definite dtype.

    Python constants in an environment's reset leave weakly typed leaves (or plain numbers) that the first
    step turns into others, and lax.scan refuses a carry whose types change.
    """
    return jax.tree.map(_strong_type, tree)


def _strong_type(x: Any) -> jax.Array:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x
    return jnp.asarray(x, jnp.result_type(x))
