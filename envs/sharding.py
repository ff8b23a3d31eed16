"""Where the environments of one seed are computed, on several devices.

The mesh of the program that is being traced, if it has one, says how many devices share a seed's environments:
the size of its axis "env". What is here changes where something is computed, never what; on one device it does
nothing.
"""

from typing import Any

import jax
from jax.sharding import PartitionSpec

AXIS = "env"


def over_devices(tree: Any, axis: int) -> Any:
    """Lays this axis of every leaf over the devices; an axis that does not divide stays as it is."""
    count = _devices()

    def lay(x: jax.Array) -> jax.Array:
        if count == 1 or x.shape[axis] % count:
            return x
        return jax.lax.with_sharding_constraint(x, PartitionSpec(*[None] * axis, AXIS))

    return jax.tree.map(lay, tree)


def on_every_device(tree: Any) -> Any:
    """Every leaf whole on each of the devices."""
    if _devices() == 1:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def _devices() -> int:
    return dict(jax.sharding.get_abstract_mesh().shape).get(AXIS, 1)
