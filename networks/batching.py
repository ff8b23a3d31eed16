"""Control flow that stays a branch under vmap."""

import jax
import jax.numpy as jnp


@jax.custom_batching.custom_vmap
def any_in_batch(flags: jax.Array) -> jax.Array:
    """Whether any flag is true, here or in any other element of the vmaps around: one unbatched bool.

    lax.cond under vmap becomes a select that pays for both branches as soon as its predicate is batched. With
    this predicate it stays a branch, taken for all as soon as one needs it, so the branch not needed must be
    a correct result for every element, only a needless one.
    """
    return jnp.any(flags)


@any_in_batch.def_vmap
def _any_in_batch_vmap(axis_size, in_batched, flags):
    del axis_size, in_batched
    return any_in_batch(flags), False
