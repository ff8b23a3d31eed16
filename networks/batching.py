"""Control flow that stays a branch under vmap."""

from collections.abc import Callable
from typing import Any

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


def repeat_until(done: Callable, step: Callable, loop: Any, limit: int | None) -> Any:
    """Repeats `step` on `loop` until `done`, or `limit` times.

    Args:
        done: loop -> bool.
        step: loop -> loop. With a limit it goes on where `done` holds, so it must do no harm there.
        limit: number of repetitions; None: until `done`. It is needed where `step` calls out to the host, for JAX
            refuses host calls in a while_loop or a cond under vmap.
    """
    if limit is None:
        return jax.lax.while_loop(lambda loop: ~done(loop), step, loop)
    return jax.lax.scan(lambda loop, _: (step(loop), None), loop, length=limit)[0]
