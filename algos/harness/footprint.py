"""The footprint of a run: whether it fits into its devices' RAM.

Refused before anything is compiled where that is certain, else once the program is that does not fit.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from algos.harness.errors import BadInput

GIB = 2**30
UPDATE = ("num_seeds", "num_envs", "num_steps")
"""Fields of a Config that an update grows with."""
AGENT = re.compile(r"core\..*|.*_(hidden|widths|channels)")
"""Fields whose whole numbers may be sizes of the agent."""
MOST_SIZES = 3
"""Of them are named, the largest first."""


def check_before(state: Any, config: Any, mesh: Mesh, num_settings: int = 1) -> None:
    """Refuses a run whose state and observations of one rollout alone are more than a device has.

    Args:
        state: RunnerState of all seeds as jax.ShapeDtypeStructs with their shardings.
        num_settings: how many settings of a search train side by side, each with all seeds.

    Raises:
        BadInput: with the estimate and the flags that lower it.
    """
    needed = _bytes_per_device(state) + config.num_steps * _bytes_per_device(state.stream.obs)
    lowered_by = _lowers_update(state, needed / 2, config)
    _check(needed, "at least ", config, mesh, num_settings, "an update", lowered_by)


def check(
    program: Any,
    config: Any,
    mesh: Mesh,
    num_settings: int = 1,
    of: str = "an update",
    lowered_by: Mapping[str, int] | None = None,
    state: Any = None,
    available: int | None = None,
) -> None:
    """Refuses a run of which a compiled program needs more than a device has.

    Args:
        program: compiled, of all seeds.
        of: what it computes.
        lowered_by: the flags that it grows with and their values; None: those of an update.
        state: as of check_before; what an update grows with depends on it. None: not known.
        available: bytes that were free on each device before the run had any there; None: those that are.

    Raises:
        BadInput: as check_before.
    """
    needed = bytes_needed(program)
    if lowered_by is None:
        # Gradients and their steps are as large again as the parameters and the optimiser's moments.
        lowered_by = _lowers_update(state, needed / 4, config)
    _check(needed, "", config, mesh, num_settings, of, lowered_by, available)


def _lowers_update(state: Any, share: float, config: Any) -> dict[str, Any]:
    """The fields an update grows with: sizes of the agent where its parameters and optimiser exceed `share`."""
    fields = {name: getattr(config, name) for name in UPDATE}
    if state is None or _bytes_per_device(state) - _bytes_per_device(state.stream) <= share:
        return fields
    values = vars(config) | {f"core.{name}": value for name, value in config.core.items()}
    sizes = {
        name: max(value, default=0) if isinstance(value, tuple | list) else value
        for name, value in values.items()
        if AGENT.fullmatch(name)
    }
    sizes = {name: size for name, size in sizes.items() if type(size) is int and size > 1}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:MOST_SIZES]
    return {name: values[name] for name in largest} | {"num_seeds": config.num_seeds}


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


def _check(
    needed: int,
    bound: str,
    config: Any,
    mesh: Mesh,
    num_settings: int,
    of: str,
    lowered_by: Mapping[str, Any],
    available: int | None = None,
) -> None:
    available = bytes_available(mesh) if available is None else available
    if available is None or needed <= available:
        return
    several = num_settings * config.num_seeds > mesh.shape["seed"]  # else fewer change nothing on each
    first, *others = (
        f"{name}={value}"
        for name, value in lowered_by.items()
        if name != "num_seeds" or (several and config.num_seeds > 1)
    )
    if several and num_settings > 1:
        others.append(f"the {num_settings} settings side by side")
    others_too = f", or {' or '.join(others)}" if others else ""
    raise BadInput(
        f"{first}: {of} needs {bound}{needed / GIB:.3g} GiB of memory on each "
        f"device, which has {available / GIB:.3g} GiB free; lower it{others_too}"
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
