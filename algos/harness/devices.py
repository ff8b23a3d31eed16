"""Seeds as a leading axis [S, ...] of every array, laid over the local devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SEEDS = PartitionSpec("seed")


def seed_mesh(num_seeds: int) -> Mesh:
    """The mesh of the largest number of local devices that divides the seed count."""
    devices = jax.local_devices()
    count = max(n for n in range(1, min(num_seeds, len(devices)) + 1) if num_seeds % n == 0)
    return Mesh(np.array(devices[:count]), ("seed",))


def describe(mesh: Mesh, num_seeds: int) -> str:
    """One line: how many devices the seeds are on, and why not on more."""
    there, kind = jax.local_device_count(), mesh.devices.flat[0].device_kind
    text = f"{num_seeds} seed(s) on {mesh.size} of {there} local device(s) ({kind})"
    if mesh.size < min(there, num_seeds):
        text += f": {num_seeds} does not divide over {min(there, num_seeds)}"
    return text


def seed_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis over the mesh, all other axes whole."""
    return NamedSharding(mesh, SEEDS)


def seed_keys(seed: int, num_seeds: int) -> jax.Array:
    """Typed keys [S]; the k-th is jax.random.key(seed + k), the one a single run of that seed uses."""
    return jnp.stack([jax.random.key(seed + k) for k in range(num_seeds)])


def over_seeds(fn: Callable, mesh: Mesh) -> Callable:
    """Maps a function of one seed over arguments that all lead with the seed axis [S, ...].

    Each device runs the seeds it holds without talking to the others. A device with one seed runs `fn` itself
    instead of a vmap of size one, which would turn every `lax.cond` into both of its branches.
    """

    @functools.wraps(fn)  # the name in profiles and in logs of compilations
    def local(*args: Any) -> Any:  # the seeds of one device: [S / devices, ...]
        if jax.tree.leaves(args)[0].shape[0] == 1:
            result = fn(*jax.tree.map(lambda x: x[0], args))
            return jax.tree.map(lambda x: jnp.asarray(x)[None], result)
        return jax.vmap(fn)(*args)

    if mesh.size == 1:
        return local
    return jax.shard_map(local, mesh=mesh, in_specs=SEEDS, out_specs=SEEDS, check_vma=False)
