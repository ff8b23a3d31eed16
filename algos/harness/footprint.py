"""The footprint of a run: whether it fits into its devices' RAM.

Refused before anything is compiled where that is certain, else after the update is.
"""

import math
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from algos.harness.errors import BadInput

GIB = 2**30


def check_before(state: Any, config: Any, mesh: Mesh, num_settings: int = 1) -> None:
    """Refuses a run whose state and observations of one rollout alone are more than a device has.

    Args:
        state: RunnerState of all seeds as jax.ShapeDtypeStructs with their shardings.
        num_settings: how many settings of a search train side by side, each with all seeds.

    Raises:
        BadInput: with the estimate and the flags that lower it.
    """
    needed = _bytes_per_device(state) + config.num_steps * _bytes_per_device(state.stream.obs)
    _check(needed, "at least ", config, mesh, num_settings)


def check(update: Any, config: Any, mesh: Mesh, num_settings: int = 1) -> None:
    """Refuses a run whose compiled update needs more than a device has. Raises BadInput as check_before."""
    _check(bytes_needed(update), "", config, mesh, num_settings)


def bytes_needed(program: Any) -> int:
    """Memory of a compiled program on each of its devices: arguments, results and all between, while it runs."""
    stats = program.memory_analysis()
    kept = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return kept + stats.temp_size_in_bytes


def bytes_available(mesh: Mesh) -> int | None:
    """Memory that is free for each of this process's devices of the mesh; None where the system does not say."""
    device = mesh.local_devices[0]
    if stats := device.memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"]
    host = _host_bytes_available() if device.platform == "cpu" else None
    return None if host is None else host // len(mesh.local_devices)


def _check(needed: int, bound: str, config: Any, mesh: Mesh, num_settings: int) -> None:
    available = bytes_available(mesh)
    if available is None or needed <= available:
        return
    several = num_settings * config.num_seeds > mesh.shape["seed"]  # else fewer change nothing on each
    names = ["num_seeds"] if several and config.num_seeds > 1 else []
    first, *others = (f"{name}={getattr(config, name)}" for name in [*names, "num_envs", "num_steps"])
    if several and num_settings > 1:
        others.append(f"the {num_settings} settings side by side")
    named = " or ".join(others)
    raise BadInput(
        f"{first}: an update needs {bound}{needed / GIB:.3g} GiB of memory on each "
        f"device, which has {available / GIB:.3g} GiB free; lower it, or {named}"
    )


def _bytes_per_device(tree: Any) -> int:
    def size(leaf: Any) -> int:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return math.prod(leaf.sharding.shard_shape(leaf.shape)) * (8 if is_key else leaf.dtype.itemsize)

    return sum(size(leaf) for leaf in jax.tree.leaves(tree))


def _host_bytes_available() -> int | None:
    """What Linux can give without swapping, or what the container may still take, if that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # another system: nothing is refused
    meminfo = {line.partition(":")[0]: int(line.split()[1]) * 2**10 for line in lines}
    available = meminfo["MemAvailable"]
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return available  # no container, or one of cgroup v1
    return available if limit == "max" else min(available, int(limit) - int(stat["anon"]))
