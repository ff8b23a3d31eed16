"""Decks of cards: ids 0 to 52 D - 1, D decks of 52 shuffled together."""

import jax
import jax.numpy as jnp
import numpy as np

CARDS = 52


def colour(ids: jax.Array) -> jax.Array:
    """0 or 1."""
    return ids % 2


def suit(ids: jax.Array) -> jax.Array:
    """0 to 3."""
    return ids % 4


def rank(ids: jax.Array) -> jax.Array:
    """0 (ace) to 12 (king)."""
    return ids % CARDS // 4


def shuffled(key: jax.Array, size: int) -> jax.Array:
    """A uniformly random order of the ids 0 to size - 1, int32 [size].

    Sorts random numbers of 32 bits with the ids as their lowest ones: an order of magnitude faster on CPU than to
    sort pairs. What is left of the randomness puts two ids in either order with probability 1/2 up to
    size / 2^31.
    """
    id_bits = (size - 1).bit_length()
    words = jax.random.bits(key, (size,)) >> id_bits << id_bits
    ids = np.arange(size, dtype=np.uint32)
    return (jnp.sort(words | ids) & (2**id_bits - 1)).astype(jnp.int32)
