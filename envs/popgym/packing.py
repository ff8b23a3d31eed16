"""Small integers packed into words of 32 bits.

A batched environment copies its whole state in every step: a deck of 832 suits takes 208 bytes packed.
"""

import jax
import jax.numpy as jnp
import numpy as np


def bits_of(count: int) -> int:
    """Bits that integers from 0 to count - 1 take."""
    return (count - 1).bit_length()


def pack(values: jax.Array, bits: int) -> jax.Array:
    """Packs integers [n] from 0 to 2^bits - 1 into uint32 [words], the first in the lowest bits."""
    per_word = 32 // bits
    values = jnp.asarray(values).astype(jnp.uint32)
    rows = jnp.pad(values, (0, -len(values) % per_word)).reshape(-1, per_word)
    return jnp.sum(rows << np.arange(0, bits * per_word, bits, dtype=np.uint32), 1, dtype=jnp.uint32)


def read(words: jax.Array, index: jax.Array, bits: int) -> jax.Array:
    """The packed integers at `index` (of any shape), int32; beyond the last word, something of it."""
    per_word = 32 // bits
    index = jnp.asarray(index, jnp.uint32)
    word = jnp.take(words, index // per_word, mode="clip")
    return (word >> (index % per_word * bits) & (2**bits - 1)).astype(jnp.int32)


def increase(words: jax.Array, index: jax.Array, amount: jax.Array | int, bits: int) -> jax.Array:
    """Adds `amount`, 0 or more, to the packed integer at `index`, a scalar; the sum must fit."""
    per_word = 32 // bits
    index = jnp.asarray(index, jnp.uint32)
    here = np.arange(len(words), dtype=np.uint32) == index // per_word
    return words + jnp.where(here, jnp.asarray(amount, jnp.uint32) << index % per_word * bits, jnp.uint32(0))
