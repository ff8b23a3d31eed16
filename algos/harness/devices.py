"""Seeds [S, ...], and the environments of each, laid over the devices of all processes.

One mesh of two axes: "seed", over which nothing is ever communicated, and "env", over which XLA's partitioner puts
the collectives that make environments and gradients on several devices those of one device.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from algos.harness.errors import BadInput

SEEDS = PartitionSpec("seed")


def seed_mesh(num_seeds: int, num_envs: int = 1) -> Mesh:
    """The mesh ("seed", "env") of as many devices as divide: of the seeds first, then of each seed's environments.

    Every process of the job has the same number of its devices in it.

    Raises:
        BadInput: there is no such mesh for this number of processes.
    """
    local, processes = jax.local_device_count(), jax.process_count()

    def count(size: int, most: int) -> list[int]:  # in descending order
        return [n for n in range(min(size, most), 0, -1) if size % n == 0]

    for seeds in count(num_seeds, local * processes):
        for envs in count(num_envs, local * processes // seeds):
            if seeds * envs % processes == 0:
                each = seeds * envs // processes
                chosen = [jax.local_devices(process_index=index)[:each] for index in range(processes)]
                return Mesh(np.array(chosen).reshape(seeds, envs), ("seed", "env"))
    raise BadInput(
        f"num_envs={num_envs}: num_seeds={num_seeds} x num_envs must be a multiple of the {processes} processes"
    )


def describe(mesh: Mesh, num_seeds: int, num_envs: int, on_host: bool = False) -> str:
    """One line: how many devices the seeds and their environments are on, and why not on more.

    on_host: whether the environments live on the host, in worker processes.
    """
    there, kind = jax.device_count(), mesh.devices.flat[0].device_kind
    which = "local device(s)" if jax.process_count() == 1 else f"device(s) of {jax.process_count()} processes"
    text = f"{num_seeds} seed(s) on {mesh.size} of {there} {which} ({kind})"
    if mesh.shape["env"] > 1:
        text += f", the {num_envs} environments of each on {mesh.shape['env']}"
    if mesh.size < there and not on_host:
        text += f": num_seeds={num_seeds} and num_envs={num_envs} do not divide over more"
    elif mesh.size < there:
        text += ": environments in worker processes are called from one"
    return text


def seed_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis over the mesh, all other axes whole."""
    return NamedSharding(mesh, SEEDS)


def state_sharding(mesh: Mesh, state: Any, num_envs: int) -> Any:
    """For every leaf [S, ...] of a RunnerState: seeds over the mesh, and environments where it is [S, B, ...].

    Only the stream has environments. The start states of episodes in it are whole on every device, for any
    environment may take any of them.
    """
    whole, split = seed_sharding(mesh), NamedSharding(mesh, PartitionSpec("seed", "env"))

    def everywhere(tree: Any) -> Any:
        return jax.tree.map(lambda _: whole, tree)

    stream = jax.tree.map(lambda leaf: split if leaf.shape[1:2] == (num_envs,) else whole, state.stream)
    if hasattr(stream.env_state, "pool"):
        stream = stream.replace(env_state=stream.env_state.replace(pool=everywhere(stream.env_state.pool)))
    return everywhere(state).replace(stream=stream)


def seed_keys(seed: int, num_seeds: int) -> jax.Array:
    """Typed keys [S]; the k-th is jax.random.key(seed + k), the one a single run of that seed uses."""
    return jax.vmap(jax.random.key)(seed + np.arange(num_seeds, dtype=np.int32))


def over_seeds(fn: Callable, mesh: Mesh) -> Callable:
    """Maps a function of one seed over arguments that all lead with the seed axis [S, ...].

    The devices of one seed run it without talking to those of another. Devices with one seed run `fn` itself
    instead of a vmap of size one, which would turn every `lax.cond` into both of its branches.
    """

    @functools.wraps(fn)  # the name in profiles and in logs of compilations
    def local(*args: Any) -> Any:  # the seeds of one place on the mesh: [S / places, ...]
        if jax.tree.leaves(args)[0].shape[0] == 1:
            result = fn(*jax.tree.map(lambda x: x[0], args))
            return jax.tree.map(lambda x: jnp.asarray(x)[None], result)
        return jax.vmap(fn)(*args)

    if mesh.size == 1:
        return local

    places = mesh.shape["seed"]

    @functools.wraps(fn)
    def over_places(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)

        def place(*given: Any) -> Any:
            rest = iter(given)
            cut = [
                next(rest) if x.size else jnp.zeros((x.shape[0] // places, *x.shape[1:]), x.dtype) for x in leaves
            ]
            return local(*jax.tree.unflatten(structure, cut))

        # Only the seeds are cut up by hand; what happens along "env" is left to the partitioner. That of jaxlib
        # 0.11 crashes at an argument without elements, of which physics engines have some.
        cut_up = jax.shard_map(
            place, mesh=mesh, in_specs=SEEDS, out_specs=SEEDS, axis_names={"seed"}, check_vma=False
        )
        return cut_up(*[x for x in leaves if x.size])

    return over_places
